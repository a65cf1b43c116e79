//! What the token cache remembers of one credential, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;

use super::TokenKey;
use crate::auth::error::AuthError;
use crate::auth::revocation::Revocations;
use crate::config::{Cache as Settings, limits};
use crate::types::{Principal, unix_now};

/// That a credential was allowed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: TokenKey,
    pub(super) principal: Arc<Principal>,
    /// Until when it is believed.
    ends: Instant,
    /// That it was taken out of the cache.
    ended: AtomicBool,
    /// Until when it may stand in for a provider that cannot tell.
    stale_until: Option<Instant>,
    /// True when it stands in.
    pub(super) is_stale: bool,
    /// The revocations that the credential was checked against.
    generation: AtomicU64,
    /// When it is to be validated anew without anybody waiting, in milliseconds after `made`.
    refresh_after: AtomicU64,
    made: Instant,
}

const NEVER: u64 = u64::MAX;

impl Entry {
    /// `generation` is that of the revocations when the validation began.
    pub(super) fn new(key: TokenKey, principal: Principal, generation: u64, settings: &Settings) -> Self {
        let (now, ttl) = (Instant::now(), settings.ttl.0);
        let left = principal.expires_at().map(|end| Duration::from_secs(end.saturating_sub(unix_now())));
        // A credential within its leeway is past `exp`: its entry ends at once.
        let until_end = |span: Duration| left.map_or(span, |left| left.min(span));
        let fresh_for = until_end(ttl);
        let stale = settings.stale_if_error.as_ref().map(|span| until_end(ttl + span.0));
        // What ends with its credential would not live longer for being validated again.
        let ahead = settings.refresh_ahead.as_ref().filter(|_| fresh_for == ttl);
        // Half of the span is left to chance, so that what came together is not asked about together.
        let refresh_after = ahead.map_or(NEVER, |ahead| millis(ttl - ahead.0.mul_f64(0.5 + fastrand::f64() / 2.0)));
        Self {
            key,
            principal: Arc::new(principal),
            ends: now + fresh_for,
            ended: AtomicBool::new(false),
            stale_until: stale.filter(|stale| *stale > fresh_for).map(|stale| now + stale),
            is_stale: false,
            generation: AtomicU64::new(generation),
            refresh_after: AtomicU64::new(refresh_after),
            made: now,
        }
    }

    /// The same, standing in for a moment: until the provider is asked again. `None` when its time is over.
    pub(super) fn standing_in(&self) -> Option<Self> {
        let now = Instant::now();
        let left = self.stale_until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        (!self.principal.is_expired(unix_now())).then(|| Self {
            key: self.key,
            principal: Arc::clone(&self.principal),
            ends: now + left.min(limits::STALE_RETRY),
            ended: AtomicBool::new(false),
            stale_until: None,
            is_stale: true,
            generation: AtomicU64::new(self.generation.load(Ordering::Relaxed)),
            refresh_after: AtomicU64::new(NEVER),
            made: now,
        })
    }

    /// How long it is believed, from its making on.
    fn fresh_for(&self) -> Duration {
        self.ends.saturating_duration_since(self.made)
    }

    /// True while it is believed.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        now < self.ends
    }

    /// It was taken out of the cache: nobody who still has it gives it to others.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// True when it was taken out of the cache.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// True unless the credential has ended or was revoked. The wall clock may run ahead of the cache's.
    pub(super) fn is_good(&self, revocations: &Revocations) -> bool {
        !self.principal.is_expired(unix_now()) && self.is_unrevoked(revocations)
    }

    pub(super) fn is_unrevoked(&self, revocations: &Revocations) -> bool {
        let (seen, now) = (self.generation.load(Ordering::Relaxed), revocations.generation());
        if seen == now {
            return true;
        }
        let unrevoked = !revocations.revoked_since(seen, &self.principal);
        if unrevoked {
            self.generation.fetch_max(now, Ordering::Relaxed);
        }
        unrevoked
    }

    /// True when it is time to validate it anew.
    pub(super) fn wants_refresh(&self) -> bool {
        self.overdue().is_some()
    }

    /// True for one of those who ask when it is time to validate it anew, and again some time after that.
    pub(super) fn is_due(&self) -> bool {
        self.overdue().is_some_and(|(due, now)| {
            let next = now.saturating_add(millis(limits::REFRESH_RETRY));
            self.refresh_after.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    /// Since when it is to be validated anew, and the present moment.
    fn overdue(&self) -> Option<(u64, u64)> {
        let due = self.refresh_after.load(Ordering::Relaxed);
        if due == NEVER {
            return None;
        }
        let now = millis(self.made.elapsed());
        (now >= due).then_some((due, now))
    }

    /// True when it may stand in later.
    pub(super) fn may_stand_in(&self) -> bool {
        self.stale_until.is_some()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(NEVER)
}

/// That a credential was refused.
#[derive(Clone, Debug)]
pub(super) struct Denial {
    pub(super) error: AuthError,
    pub(super) lifetime: Duration,
}

/// Each entry brings its own lifetime: min(ttl, exp - now) differs from token to token.
pub(super) struct OwnLifetime;

impl Expiry<TokenKey, Arc<Entry>> for OwnLifetime {
    fn expire_after_create(&self, _: &TokenKey, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.fresh_for())
    }

    fn expire_after_update(
        &self,
        _: &TokenKey,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.fresh_for())
    }
}

impl Expiry<TokenKey, Denial> for OwnLifetime {
    fn expire_after_create(&self, _: &TokenKey, denial: &Denial, _: Instant) -> Option<Duration> {
        Some(denial.lifetime)
    }
}

/// As long as an entry may stand in.
pub(super) struct StaleLifetime;

impl StaleLifetime {
    fn of(entry: &Entry) -> Option<Duration> {
        Some(entry.stale_until.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now())))
    }
}

impl Expiry<TokenKey, Arc<Entry>> for StaleLifetime {
    fn expire_after_create(&self, _: &TokenKey, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Self::of(entry)
    }

    fn expire_after_update(
        &self,
        _: &TokenKey,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Self::of(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::key::KeyMaker;
    use crate::config::Span;
    use crate::types::ScopeSet;

    fn entry(expires_in: Option<u64>, settings: &Settings) -> Entry {
        let end = expires_in.map(|left| unix_now() + left);
        let principal = Principal::new("alice", ScopeSet::default(), "test".into(), end).expect("legal");
        Entry::new(KeyMaker::new().key(0, []), principal, 0, settings)
    }

    fn settings(refresh_ahead: u64, stale_if_error: u64) -> Settings {
        let span = |seconds| (seconds > 0).then(|| Span(Duration::from_secs(seconds)));
        Settings { refresh_ahead: span(refresh_ahead), stale_if_error: span(stale_if_error), ..Settings::default() }
    }

    #[test]
    fn an_entry_ends_with_its_credential() {
        let fresh_for = |left| entry(left, &settings(0, 0)).fresh_for().as_secs();
        assert_eq!(
            (fresh_for(Some(10)), fresh_for(Some(1000)), fresh_for(None), fresh_for(Some(0))),
            (10, 300, 300, 0)
        );
    }

    #[test]
    fn only_what_outlives_its_entry_is_refreshed_or_stands_in() {
        let due = |left, ahead| entry(left, &settings(ahead, 0)).refresh_after.into_inner();
        for _ in 0..100 {
            assert!((270_000..=285_000).contains(&due(None, 30)), "between half and all of the span before the end");
        }
        assert_eq!((due(None, 0), due(Some(200), 30)), (NEVER, NEVER));
        let stale = |left, stale| {
            let entry = entry(left, &settings(0, stale));
            entry.stale_until.map(|end| (end - entry.made).as_secs())
        };
        assert_eq!((stale(None, 60), stale(None, 0)), (Some(360), None));
        assert_eq!((stale(Some(200), 60), stale(Some(330), 60)), (None, Some(330)));
    }

    #[test]
    fn it_is_due_once_and_then_again_after_a_while() {
        let due = entry(None, &settings(30, 0));
        assert!(!due.is_due());
        due.refresh_after.store(0, Ordering::Relaxed);
        assert_eq!([(); 3].map(|()| due.is_due()), [true, false, false]);
        assert!(due.refresh_after.load(Ordering::Relaxed) >= millis(limits::REFRESH_RETRY));
    }

    #[test]
    fn what_stands_in_does_so_for_a_moment_and_never_past_its_time() {
        let mut allowed = entry(None, &settings(0, 60));
        let standing = allowed.standing_in().expect("there is time");
        assert!(standing.is_stale && !standing.may_stand_in() && standing.fresh_for() == limits::STALE_RETRY);
        allowed.stale_until = Some(Instant::now() + Duration::from_millis(500));
        assert!(allowed.standing_in().expect("there is time").fresh_for() <= Duration::from_millis(500));
        allowed.stale_until = Some(Instant::now());
        assert!(allowed.standing_in().is_none());
    }
}
