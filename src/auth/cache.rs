//! The one token cache: principals by a keyed hash of their credential, and, apart from them, recent denials.

use std::future::Future;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use highway::{HighwayHash, HighwayHasher, Key};
use moka::Expiry;
use moka::future::Cache;
use prometheus::IntCounter;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::AuthError;
use super::revocation::{Revocation, Revocations, TooManyRefusals};
use crate::config::{Cache as Settings, limits};
use crate::metrics::{CacheResult, Metrics};
use crate::types::{Principal, unix_now};

/// What an entry is found by. The hash is keyed with a key of this process, so that nobody can make two credentials meet,
/// and no credential is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey([u64; 2]);

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// A [`TokenKey`] is a keyed hash already: its first half serves the maps as it is.
#[derive(Clone, Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Entries<V> = Cache<TokenKey, V, BuildHasherDefault<AlreadyHashed>>;

/// The cache. One per process; it outlives reloads, because keys hold the identity of the provider instances.
#[derive(Debug)]
pub struct TokenCache {
    hash_key: Key,
    principals: Entries<Entry>,
    revocations: Revocations,
    denials: Entries<Denial>,
    hits: IntCounter,
    negative_hits: IntCounter,
    misses: IntCounter,
}

#[derive(Clone, Debug)]
struct Entry {
    principal: Arc<Principal>,
    lifetime: Duration,
}

#[derive(Clone, Debug)]
struct Denial {
    error: AuthError,
    lifetime: Duration,
}

/// Each entry brings its own lifetime: min(ttl, exp - now) differs from token to token.
struct OwnLifetime;

impl Expiry<TokenKey, Entry> for OwnLifetime {
    fn expire_after_create(&self, _: &TokenKey, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.lifetime)
    }
}

impl Expiry<TokenKey, Denial> for OwnLifetime {
    fn expire_after_create(&self, _: &TokenKey, denial: &Denial, _: Instant) -> Option<Duration> {
        Some(denial.lifetime)
    }
}

impl TokenCache {
    /// An empty cache for `capacity` principals.
    ///
    /// # Panics
    /// The operating system gives no random numbers.
    pub fn new(capacity: u64, metrics: &Metrics) -> Self {
        let word = || {
            let mut word = [0; 8];
            SystemRandom::new().fill(&mut word).expect("the operating system gives random numbers");
            u64::from_le_bytes(word)
        };
        let hasher = BuildHasherDefault::default;
        Self {
            hash_key: Key([word(), word(), word(), word()]),
            revocations: Revocations::default(),
            principals: Cache::builder().max_capacity(capacity).expire_after(OwnLifetime).build_with_hasher(hasher()),
            denials: Cache::builder()
                .max_capacity(limits::NEGATIVE_ENTRIES)
                .expire_after(OwnLifetime)
                .build_with_hasher(hasher()),
            hits: metrics.cache_request(CacheResult::Hit),
            negative_hits: metrics.cache_request(CacheResult::NegativeHit),
            misses: metrics.cache_request(CacheResult::Miss),
        }
    }

    /// The key for everything that an answer depends on: the provider instances and the `parts` of the request.
    pub fn key<'a>(&self, providers: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenKey {
        let mut hasher = HighwayHasher::new(self.hash_key);
        hasher.append(&providers.to_le_bytes());
        for part in parts {
            // The length first: ("ab", "c") and ("a", "bc") are different requests.
            hasher.append(&part.len().to_le_bytes());
            hasher.append(part);
        }
        TokenKey(hasher.finalize128())
    }

    /// The principal behind `key`: remembered, or from `validate`, which runs once for all who ask at the same time.
    ///
    /// # Errors
    /// What `validate` said. Denials are remembered for a short time, outages never.
    pub async fn get_or_validate<F>(
        &self,
        key: TokenKey,
        settings: &Settings,
        validate: impl FnOnce() -> F,
    ) -> Result<Arc<Principal>, AuthError>
    where
        F: Future<Output = Result<Principal, AuthError>>,
    {
        let known = self.principals.get(&key).await;
        if let Some(entry) = known.as_ref().filter(|entry| !entry.principal.is_expired(unix_now())) {
            self.hits.inc();
            return Ok(Arc::clone(&entry.principal));
        }
        // Boxed, because it is large and rare: else every request would carry room for it to its end.
        Box::pin(self.miss(key, settings, known.is_some(), validate)).await
    }

    async fn miss<F>(
        &self,
        key: TokenKey,
        settings: &Settings,
        expired: bool,
        validate: impl FnOnce() -> F,
    ) -> Result<Arc<Principal>, AuthError>
    where
        F: Future<Output = Result<Principal, AuthError>>,
    {
        if expired {
            // The wall clock ran ahead of the cache's: the credential decides.
            self.principals.invalidate(&key).await;
        }
        if let Some(denial) = self.denials.get(&key).await {
            self.negative_hits.inc();
            return Err(denial.error);
        }
        self.misses.inc();
        let made = self.principals.try_get_with(key, async {
            let generation = self.revocations.generation();
            let principal = Arc::new(validate().await?);
            // What was allowed before a revocation and comes in after it is not kept.
            let outdated = self.revocations.revoked_since(generation, &principal);
            let lifetime = if outdated { Duration::ZERO } else { lifetime(&principal, settings.ttl.0) };
            Ok::<_, AuthError>(Entry { lifetime, principal })
        });
        match made.await {
            Ok(entry) => Ok(entry.principal),
            Err(error) => {
                let error = AuthError::clone(&error);
                if matches!(error, AuthError::Denied(_) | AuthError::Forbidden(_) | AuthError::Refused(_)) {
                    let denial = Denial { error: error.clone(), lifetime: settings.negative_ttl.0 };
                    self.denials.insert(key, denial).await;
                }
                Err(error)
            }
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
        self.revocations.add(revocation.clone(), refuse_for)?;
        let mut purged = 0;
        for (key, entry) in &self.principals {
            if revocation.matches(&entry.principal) {
                self.principals.invalidate(key.as_ref()).await;
                purged += 1;
            }
        }
        Ok(purged)
    }

    /// How many principals there are, roughly.
    pub fn entries(&self) -> u64 {
        self.principals.entry_count()
    }
}

/// min(ttl, exp - now). A credential within its leeway is past `exp`: its entry ends at once.
fn lifetime(principal: &Principal, ttl: Duration) -> Duration {
    principal.expires_at().map_or(ttl, |end| ttl.min(Duration::from_secs(end.saturating_sub(unix_now()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScopeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn cache() -> TokenCache {
        TokenCache::new(100, &Metrics::new().expect("the families are consistent"))
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
                cache.get_or_validate(cache.key(1, ["t".as_bytes()]), &Settings::default(), validate).await
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
                let answer = cache.get_or_validate(cache.key(key, []), &Settings::default(), validate).await;
                assert_eq!(answer.err(), Some(error.clone()));
            }
            assert_eq!(runs.load(Ordering::SeqCst), expected, "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_entry_ends_with_its_credential() {
        let cache = cache();
        let runs = AtomicUsize::new(0);
        for _ in 0..3 {
            let validate = async || {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(alice(Some(unix_now())))
            };
            assert!(cache.get_or_validate(cache.key(1, []), &Settings::default(), validate).await.is_ok());
        }
        assert_eq!(runs.load(Ordering::SeqCst), 3, "within the leeway, past exp: never from the cache");
        assert_eq!(lifetime(&alice(Some(unix_now() + 10)), Duration::from_secs(300)), Duration::from_secs(10));
        assert_eq!(lifetime(&alice(None), Duration::from_secs(300)), Duration::from_secs(300));
    }
}
