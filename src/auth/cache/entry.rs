//! The entries of the token cache, and how long they are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;

use super::TokenKey;
use crate::auth::error::AuthError;
use crate::auth::revocation::Revocations;
use crate::config::{Cache as Settings, limits};
use crate::types::{Principal, unix_now};

/// A credential that was allowed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: TokenKey,
    pub(super) principal: Arc<Principal>,
    /// Until when the entry is used.
    ends: Instant,
    /// True when the entry was removed from the cache.
    ended: AtomicBool,
    /// Until when the entry may be used as a stale entry, while its provider is unavailable. `None` if it may not.
    stale_until: Option<Instant>,
    /// True for a stale entry: it is used because its provider is unavailable.
    pub(super) is_stale: bool,
    /// The generation of the revocations against which the credential was last checked.
    generation: AtomicU64,
    /// When the entry is due for a refresh in the background, in milliseconds after `made`.
    refresh_after: AtomicU64,
    made: Instant,
}

const NEVER: u64 = u64::MAX;

impl Entry {
    /// `generation` is the generation of the revocations when the validation began.
    pub(super) fn new(key: TokenKey, principal: Principal, generation: u64, settings: &Settings) -> Self {
        let (now, ttl) = (Instant::now(), settings.ttl.0);
        let left = principal.expires_at().map(|end| Duration::from_secs(end.saturating_sub(unix_now())));
        // A credential that is accepted within its leeway is past its `exp`, so its entry ends at once.
        let until_end = |span: Duration| left.map_or(span, |left| left.min(span));
        let fresh_for = until_end(ttl);
        let stale = settings.stale_if_error.as_ref().map(|span| until_end(ttl + span.0));
        // If an entry ends with its credential, a refresh would not make it last longer.
        let ahead = settings.refresh_ahead.as_ref().filter(|_| fresh_for == ttl);
        // Half of the span is random, so that entries that were made together are not refreshed together.
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

    /// A stale copy of the entry, for use while the provider is unavailable. It lasts for [`limits::STALE_RETRY`],
    /// after which the provider gets another request. `None` if the entry may not be used any more.
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

    /// How long the entry is used, from `made` on.
    fn fresh_for(&self) -> Duration {
        self.ends.saturating_duration_since(self.made)
    }

    /// True while the entry is used.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        now < self.ends
    }

    /// Marks the entry as removed from the cache, so that no copy of it is put into the table of recent entries.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// True when the entry was removed from the cache.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// True unless the credential has expired or was revoked. The expiry is checked here because the wall clock may run
    /// ahead of the cache's clock.
    pub(super) fn is_good(&self, revocations: &Revocations) -> bool {
        !self.principal.is_expired(unix_now()) && self.is_unrevoked(revocations)
    }

    /// True unless the credential was revoked after it was last checked.
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

    /// True when the entry is due for a refresh.
    pub(super) fn wants_refresh(&self) -> bool {
        self.overdue().is_some()
    }

    /// True when the entry is due for a refresh, but only for one caller. The others get false, until the entry is due
    /// again after [`limits::REFRESH_RETRY`].
    pub(super) fn is_due(&self) -> bool {
        self.overdue().is_some_and(|(due, now)| {
            let next = now.saturating_add(millis(limits::REFRESH_RETRY));
            self.refresh_after.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    /// Since when the entry is due, and the current time, both in milliseconds after `made`. `None` if it is not due.
    fn overdue(&self) -> Option<(u64, u64)> {
        let due = self.refresh_after.load(Ordering::Relaxed);
        if due == NEVER {
            return None;
        }
        let now = millis(self.made.elapsed());
        (now >= due).then_some((due, now))
    }

    /// True if the entry may later be used as a stale entry.
    pub(super) fn may_stand_in(&self) -> bool {
        self.stale_until.is_some()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(NEVER)
}

/// A credential that was denied.
#[derive(Clone, Debug)]
pub(super) struct Denial {
    pub(super) error: AuthError,
    pub(super) lifetime: Duration,
}

/// Each entry has its own lifetime, because min(ttl, exp - now) differs from token to token.
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

/// An entry lives as long as it may be used as a stale entry.
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
    fn only_credentials_that_outlive_their_entry_are_refreshed_or_used_when_stale() {
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
    fn an_entry_is_due_once_and_then_again_after_a_while() {
        let due = entry(None, &settings(30, 0));
        assert!(!due.is_due());
        due.refresh_after.store(0, Ordering::Relaxed);
        assert_eq!([(); 3].map(|()| due.is_due()), [true, false, false]);
        assert!(due.refresh_after.load(Ordering::Relaxed) >= millis(limits::REFRESH_RETRY));
    }

    #[test]
    fn a_stale_entry_lasts_for_a_moment_and_never_past_its_time() {
        let mut allowed = entry(None, &settings(0, 60));
        let stale = allowed.standing_in().expect("there is time");
        assert!(stale.is_stale && !stale.may_stand_in() && stale.fresh_for() == limits::STALE_RETRY);
        allowed.stale_until = Some(Instant::now() + Duration::from_millis(500));
        assert!(allowed.standing_in().expect("there is time").fresh_for() <= Duration::from_millis(500));
        allowed.stale_until = Some(Instant::now());
        assert!(allowed.standing_in().is_none());
    }
}
