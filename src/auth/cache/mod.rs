//! The one token cache: principals by a keyed hash of their credential, and, apart from them, recent denials.

mod entry;
mod key;
mod refresh;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use prometheus::IntCounter;

use self::entry::{Denial, Entry, OwnLifetime, StaleLifetime};
use self::key::{BuildAlreadyHashed, KeyMaker};
use self::refresh::{Refresh, Refreshes};
use super::error::AuthError;
use super::revocation::{Revocation, Revocations, TooManyRefusals};
use crate::config::{Cache as Settings, limits};
use crate::metrics::{CacheResult, Metrics, RefreshResult};
use crate::types::Principal;

pub use self::key::TokenKey;
pub(super) use self::refresh::Validation;

type Entries<V> = Cache<TokenKey, V, BuildAlreadyHashed>;

/// The cache. One per process; it outlives reloads, because keys hold the identity of the provider instances.
#[derive(Debug)]
pub struct TokenCache {
    keys: KeyMaker,
    principals: Entries<Arc<Entry>>,
    /// Those that may stand in for a provider that cannot tell.
    stale: Entries<Arc<Entry>>,
    denials: Entries<Denial>,
    revocations: Revocations,
    refreshes: Refreshes,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    hits: IntCounter,
    stale_hits: IntCounter,
    negative_hits: IntCounter,
    misses: IntCounter,
    refreshed: IntCounter,
    denied: IntCounter,
    unavailable: IntCounter,
    dropped: IntCounter,
}

impl TokenCache {
    /// An empty cache for `capacity` principals.
    ///
    /// # Panics
    /// The operating system gives no random numbers.
    pub fn new(capacity: u64, metrics: &Metrics) -> Self {
        let hasher = BuildAlreadyHashed::default;
        let principals = Cache::builder().max_capacity(capacity).expire_after(OwnLifetime);
        let stale = Cache::builder().max_capacity(capacity).expire_after(StaleLifetime);
        let denials = Cache::builder().max_capacity(limits::NEGATIVE_ENTRIES).expire_after(OwnLifetime);
        Self {
            keys: KeyMaker::new(),
            principals: principals.build_with_hasher(hasher()),
            stale: stale.build_with_hasher(hasher()),
            denials: denials.build_with_hasher(hasher()),
            revocations: Revocations::default(),
            refreshes: Refreshes::new(),
            counters: Counters {
                hits: metrics.cache_request(CacheResult::Hit),
                stale_hits: metrics.cache_request(CacheResult::StaleHit),
                negative_hits: metrics.cache_request(CacheResult::NegativeHit),
                misses: metrics.cache_request(CacheResult::Miss),
                refreshed: metrics.cache_refresh(RefreshResult::Refreshed),
                denied: metrics.cache_refresh(RefreshResult::Denied),
                unavailable: metrics.cache_refresh(RefreshResult::Unavailable),
                dropped: metrics.cache_refresh(RefreshResult::Dropped),
            },
        }
    }

    /// The key for everything that an answer depends on: the provider instances and the `parts` of the request.
    pub fn key<'a>(&self, providers: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenKey {
        self.keys.key(providers, parts)
    }

    /// The principal behind `key`: remembered, or from `validate`, which runs once for all who ask at the same time.
    /// `again` makes the same validation for [`refresh`](Self::refresh), when it is time.
    ///
    /// # Errors
    /// What `validate` said. Denials are remembered for a short time, outages never.
    pub(super) async fn get_or_validate<F>(
        &self,
        key: TokenKey,
        settings: &Settings,
        validate: impl FnOnce() -> F,
        again: impl FnOnce() -> Validation,
    ) -> Result<Arc<Principal>, AuthError>
    where
        F: Future<Output = Result<Principal, AuthError>>,
    {
        let known = self.principals.get(&key).await;
        if let Some(entry) = known.as_ref().filter(|entry| entry.is_good(&self.revocations)) {
            let counter = if entry.is_stale { &self.counters.stale_hits } else { &self.counters.hits };
            counter.inc();
            if entry.is_due() {
                let refresh = Refresh { key, settings: settings.clone(), validation: again() };
                if !self.refreshes.add(refresh) {
                    self.counters.dropped.inc();
                }
            }
            return Ok(Arc::clone(&entry.principal));
        }
        // Boxed, because it is large and rare: else every request would carry room for it to its end.
        Box::pin(self.miss(key, settings, known.is_some(), validate, again)).await
    }

    async fn miss<F>(
        &self,
        key: TokenKey,
        settings: &Settings,
        ended: bool,
        validate: impl FnOnce() -> F,
        again: impl FnOnce() -> Validation,
    ) -> Result<Arc<Principal>, AuthError>
    where
        F: Future<Output = Result<Principal, AuthError>>,
    {
        if ended {
            self.principals.invalidate(&key).await;
        }
        if let Some(denial) = self.denials.get(&key).await {
            self.counters.negative_hits.inc();
            return Err(denial.error);
        }
        self.counters.misses.inc();
        let made = self.principals.try_get_with(key, async {
            // From before: what was revoked while the provider was asked is not good.
            let generation = self.revocations.generation();
            let entry = Arc::new(Entry::new(validate().await?, generation, settings));
            self.keep_for_outages(key, &entry).await;
            Ok::<_, AuthError>(entry)
        });
        match made.await {
            // Its own question may have begun before a revocation, or that of another whose answer it has waited for.
            Ok(entry) if !entry.is_unrevoked(&self.revocations) => {
                self.principals.invalidate(&key).await;
                let entry = self.renew(key, settings, again()).await?;
                let again =
                    AuthError::Unavailable("the credential was revoked while its provider was asked: try again");
                if entry.is_unrevoked(&self.revocations) { Ok(Arc::clone(&entry.principal)) } else { Err(again) }
            }
            Ok(entry) => Ok(Arc::clone(&entry.principal)),
            Err(error) => match AuthError::clone(&error) {
                AuthError::Unavailable(why) => self.stand_in(key, settings).await.ok_or(AuthError::Unavailable(why)),
                error => {
                    self.deny(key, &error, settings).await;
                    Err(error)
                }
            },
        }
    }

    /// Works on what is due, until dropped.
    pub async fn refresh(&self) {
        while let Some(Refresh { key, settings, validation }) = self.refreshes.next().await {
            let counter = match self.renew(key, &settings, validation).await {
                Ok(_) => &self.counters.refreshed,
                // The entry stays, and is due again in a while.
                Err(AuthError::Unavailable(_)) => &self.counters.unavailable,
                Err(_) => &self.counters.denied,
            };
            counter.inc();
        }
    }

    /// Replaces an entry, or ends it when its credential is refused.
    async fn renew(&self, key: TokenKey, settings: &Settings, validation: Validation) -> Result<Arc<Entry>, AuthError> {
        let generation = self.revocations.generation();
        match validation.await {
            Ok(principal) => {
                // Somebody has asked later than this, and was refused.
                if let Some(denial) = self.denials.get(&key).await {
                    return Err(denial.error);
                }
                let entry = Arc::new(Entry::new(principal, generation, settings));
                self.keep_for_outages(key, &entry).await;
                self.principals.insert(key, Arc::clone(&entry)).await;
                Ok(entry)
            }
            Err(error @ AuthError::Unavailable(_)) => Err(error),
            Err(error) => {
                self.principals.invalidate(&key).await;
                self.deny(key, &error, settings).await;
                Err(error)
            }
        }
    }

    async fn keep_for_outages(&self, key: TokenKey, entry: &Arc<Entry>) {
        match entry.may_stand_in() {
            true => self.stale.insert(key, Arc::clone(entry)).await,
            // What was allowed before may have been more.
            false => self.stale.invalidate(&key).await,
        }
    }

    /// An earlier allow, when the configuration wants that: the provider is asked again only after a moment.
    async fn stand_in(&self, key: TokenKey, settings: &Settings) -> Option<Arc<Principal>> {
        settings.stale_if_error.as_ref()?;
        let allowed = self.stale.get(&key).await.filter(|entry| entry.is_good(&self.revocations))?;
        let entry = Arc::new(allowed.standing_in()?);
        self.counters.stale_hits.inc();
        let principal = Arc::clone(&entry.principal);
        self.principals.insert(key, entry).await;
        Some(principal)
    }

    /// Remembers a denial, which ends what was allowed before.
    async fn deny(&self, key: TokenKey, error: &AuthError, settings: &Settings) {
        if matches!(error, AuthError::Denied(_) | AuthError::Forbidden(_) | AuthError::Refused(_)) {
            self.stale.invalidate(&key).await;
            let denial = Denial { error: error.clone(), lifetime: settings.negative_ttl.0 };
            self.denials.insert(key, denial).await;
        }
    }

    /// What operators have taken back.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Forgets the principals that `revocation` is about, and notes it; says how many there were.
    ///
    /// # Errors
    /// See [`Revocations::add`]; nothing is forgotten then.
    pub async fn purge(&self, revocation: Revocation, refuse_for: Option<Duration>) -> Result<usize, TooManyRefusals> {
        // From here on no entry from before is good. The rest makes room.
        self.revocations.add(revocation.clone(), refuse_for)?;
        let mut purged = 0;
        for (entries, counts) in [(&self.principals, true), (&self.stale, false)] {
            for (key, entry) in entries {
                if revocation.matches(&entry.principal) {
                    entries.invalidate(key.as_ref()).await;
                    purged += usize::from(counts);
                }
            }
        }
        Ok(purged)
    }

    /// How many principals there are, roughly.
    pub fn entries(&self) -> u64 {
        self.principals.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;
    use crate::types::ScopeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn cache() -> TokenCache {
        TokenCache::new(100, &Metrics::new().expect("the families are consistent"))
    }

    fn never() -> Validation {
        unreachable!("nothing is due")
    }

    fn alice(expires_at: Option<u64>) -> Principal {
        Principal::new("alice", ScopeSet::default(), "test".into(), expires_at).expect("legal")
    }

    #[test]
    fn keys_differ_in_every_part() {
        let cache = cache();
        let key = |provider, parts: &[&'static str]| cache.key(provider, parts.iter().map(|part| part.as_bytes()));
        assert_eq!(key(1, &["a", "b"]), key(1, &["a", "b"]));
        assert_ne!(key(1, &["a", "b"]), key(2, &["a", "b"]));
        assert_ne!(key(1, &["ab", "c"]), key(1, &["a", "bc"]));
        assert_ne!(
            cache.key(1, ["a".as_bytes()]),
            self::cache().key(1, ["a".as_bytes()]),
            "the key is of this process"
        );
    }

    #[tokio::test]
    async fn a_thousand_requests_cause_one_validation_and_a_cancelled_leader_fails_nobody() {
        let cache = Arc::new(cache());
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (cache, runs, gate) = (Arc::clone(&cache), Arc::clone(&runs), Arc::clone(&gate));
            tokio::spawn(async move {
                let validate = async || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok(alice(None))
                };
                cache.get_or_validate(cache.key(1, ["t".as_bytes()]), &Settings::default(), validate, never).await
            })
        };
        let leader = ask();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let waiters: Vec<_> = (0..1000).map(|_| ask()).collect();
        leader.abort();
        while runs.load(Ordering::SeqCst) == 1 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        for waiter in waiters {
            assert!(waiter.await.expect("no panic").is_ok());
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2, "the leader, and one successor");
    }

    #[tokio::test]
    async fn outages_are_not_remembered_and_denials_are() {
        let cache = cache();
        let runs = AtomicUsize::new(0);
        for (key, error, expected) in [(1, AuthError::Unavailable("down"), 2), (2, AuthError::Denied("no"), 1)] {
            runs.store(0, Ordering::SeqCst);
            for _ in 0..2 {
                let validate = async || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    Err(error.clone())
                };
                let answer = cache.get_or_validate(cache.key(key, []), &Settings::default(), validate, never).await;
                assert_eq!(answer.err(), Some(error.clone()));
            }
            assert_eq!(runs.load(Ordering::SeqCst), expected, "{error:?}");
        }
    }

    /// Without a request that waits: the entry is replaced when it is due, and ends when the credential is refused.
    #[tokio::test]
    async fn what_is_due_is_validated_in_the_background() {
        let settings = Settings {
            ttl: Span(Duration::from_millis(200)),
            refresh_ahead: Some(Span(Duration::from_millis(200))),
            ..Settings::default()
        };
        let cache = Arc::new(cache());
        let worker = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.refresh().await }
        });
        let key = cache.key(1, []);
        let bob = || -> Validation {
            Box::pin(async { Ok(Principal::new("bob", ScopeSet::default(), "test".into(), None).expect("legal")) })
        };
        let refused = || -> Validation { Box::pin(async { Err(AuthError::Denied("no")) }) };
        let first = cache.get_or_validate(key, &settings, async || Ok(alice(None)), never).await.expect("allowed");
        assert_eq!(&**first.subject(), "alice");
        // Half of the time before the end is left to chance.
        let ask = async |again: fn() -> Validation| {
            cache.get_or_validate(key, &settings, async || Err(AuthError::Unavailable("it was asked")), again).await
        };
        while &**ask(bob).await.expect("never asked in the foreground").subject() == "alice" {
            tokio::task::yield_now().await;
        }
        while ask(refused).await.err() != Some(AuthError::Denied("no")) {
            tokio::task::yield_now().await;
        }
        worker.abort();
    }

    #[tokio::test]
    async fn what_was_allowed_stands_in_during_an_outage_when_that_is_wanted() {
        let short = Settings { ttl: Span(Duration::from_millis(1)), ..Settings::default() };
        let patient = Settings { stale_if_error: Some(Span(Duration::from_secs(60))), ..short.clone() };
        let cache = cache();
        let down = async || Err(AuthError::Unavailable("down"));
        for (number, settings, stands_in) in [(1, &short, false), (2, &patient, true)] {
            let key = cache.key(number, []);
            let allowed = cache.get_or_validate(key, settings, async || Ok(alice(None)), never).await;
            assert!(allowed.is_ok());
            tokio::time::sleep(Duration::from_millis(5)).await;
            let answer = cache.get_or_validate(key, settings, down, never).await;
            assert_eq!(answer.is_ok(), stands_in);
        }
        let key = cache.key(2, []);
        let again = cache.get_or_validate(key, &patient, async || unreachable!("not asked for a moment"), never).await;
        assert!(again.is_ok());
        assert_eq!(cache.counters.stale_hits.get(), 2);
        cache.purge(Revocation::All, None).await.expect("there is room");
        let answer = cache.get_or_validate(key, &patient, down, never).await;
        assert_eq!(answer.err(), Some(AuthError::Unavailable("down")), "what was purged stands in for nothing");
    }

    #[tokio::test]
    async fn a_denial_ends_what_was_allowed_before() {
        let settings = Settings {
            ttl: Span(Duration::from_millis(1)),
            negative_ttl: Span(Duration::from_millis(1)),
            stale_if_error: Some(Span(Duration::from_secs(60))),
            ..Settings::default()
        };
        let cache = cache();
        let key = cache.key(1, []);
        for (answer, expected) in [
            (Ok(()), Ok(())),
            (Err(AuthError::Denied("no")), Err(AuthError::Denied("no"))),
            (Err(AuthError::Unavailable("down")), Err(AuthError::Unavailable("down"))),
        ] {
            let validate = async || answer.clone().map(|()| alice(None));
            let got = cache.get_or_validate(key, &settings, validate, never).await;
            assert_eq!(got.map(drop), expected);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// An entry that comes in while a revocation is being noted is not good afterwards.
    #[tokio::test]
    async fn an_entry_from_before_a_revocation_is_asked_again() {
        let cache = cache();
        let runs = AtomicUsize::new(0);
        let validate = async || {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(alice(None))
        };
        let settings = Settings::default();
        let ask = || cache.get_or_validate(cache.key(1, []), &settings, validate, never);
        let bob = Revocation::Subject { subject: "bob".to_owned(), provider: None };
        for (revocation, expected) in [(None, 1), (None, 1), (Some(bob), 1), (Some(Revocation::All), 2), (None, 2)] {
            if let Some(revocation) = revocation {
                // Noted, but the entry is not looked for.
                cache.revocations.add(revocation, None).expect("there is room");
            }
            assert!(ask().await.is_ok());
            assert_eq!(runs.load(Ordering::SeqCst), expected);
        }
    }

    /// Those who wait for an answer to a question from before a revocation do not get it.
    #[tokio::test]
    async fn a_revocation_holds_for_those_who_wait_for_an_older_question() {
        let (cache, gate) = (Arc::new(cache()), Arc::new(Notify::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (cache, gate, asked) = (Arc::clone(&cache), Arc::clone(&gate), Arc::clone(&asked));
            tokio::spawn(async move {
                let validate = async || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok(alice(None))
                };
                let again = || -> Validation { Box::pin(async { Err(AuthError::Denied("it was revoked")) }) };
                cache.get_or_validate(cache.key(1, []), &Settings::default(), validate, again).await
            })
        };
        let leader = ask();
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let waiter = ask();
        let alice = Revocation::Subject { subject: "alice".to_owned(), provider: None };
        cache.purge(alice, None).await.expect("there is room");
        gate.notify_one();
        for asked in [leader, waiter] {
            assert_eq!(asked.await.expect("no panic").err(), Some(AuthError::Denied("it was revoked")));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
