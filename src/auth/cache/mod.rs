//! The one token cache: principals by a keyed hash of their credential, and, apart from them, recent denials. moka decides
//! what stays; `recent` finds what is used most without asking it.

mod entry;
mod grants;
mod key;
mod recent;
mod refresh;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use prometheus::IntCounter;

use super::error::AuthError;
use super::revocation::{Revocation, Revocations, TooManyRefusals};
use crate::config::{Cache as Settings, limits};
use crate::metrics::{CacheResult, Metrics, RefreshResult};
use crate::types::Principal;
use entry::{Denial, Entry, OwnLifetime, StaleLifetime};
use grants::Grants;
use key::{BuildAlreadyHashed, KeyMaker};
use recent::Recent;
use refresh::{Refresh, Refreshes};

pub use key::TokenKey;
pub(super) use refresh::Validation;

type Entries<V> = Cache<TokenKey, V, BuildAlreadyHashed>;

/// The cache. One per process; it outlives reloads, because keys hold the identity of the provider instances.
#[derive(Debug)]
pub struct TokenCache {
    keys: KeyMaker,
    principals: Entries<Arc<Entry>>,
    /// Some of them.
    recent: Arc<Recent>,
    /// Those that may stand in for a provider that cannot tell.
    stale: Entries<Arc<Entry>>,
    denials: Entries<Denial>,
    grants: Grants,
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
        let recent = Arc::new(Recent::new(capacity));
        let forget = {
            let recent = Arc::clone(&recent);
            move |key: Arc<TokenKey>, entry: Arc<Entry>, _| {
                entry.end();
                recent.forget(*key, &entry);
            }
        };
        let principals = Cache::builder().max_capacity(capacity).expire_after(OwnLifetime).eviction_listener(forget);
        let stale = Cache::builder().max_capacity(capacity).expire_after(StaleLifetime);
        let denials = Cache::builder().max_capacity(limits::NEGATIVE_ENTRIES).expire_after(OwnLifetime);
        Self {
            keys: KeyMaker::new(),
            principals: principals.build_with_hasher(hasher()),
            recent,
            stale: stale.build_with_hasher(hasher()),
            denials: denials.build_with_hasher(hasher()),
            grants: Grants::new(),
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

    /// The principal behind `key`, if it is remembered, good, and not to be validated anew.
    pub(super) async fn get(&self, key: TokenKey) -> Option<Arc<Principal>> {
        let entry = self.known(key).await.filter(|entry| entry.is_good(&self.revocations) && !entry.wants_refresh())?;
        self.count(&entry);
        Some(Arc::clone(&entry.principal))
    }

    async fn known(&self, key: TokenKey) -> Option<Arc<Entry>> {
        match self.recent.get(key) {
            Some(entry) => Some(entry),
            None => self.principals.get(&key).await.inspect(|entry| self.recent.put(key, entry)),
        }
    }

    fn count(&self, hit: &Entry) {
        if hit.is_stale { &self.counters.stale_hits } else { &self.counters.hits }.inc();
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
        let known = self.known(key).await;
        if let Some(entry) = known.as_ref().filter(|entry| entry.is_good(&self.revocations)) {
            self.count(entry);
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
            let principal = self.grants.share(validate().await?).await;
            let entry = Arc::new(Entry::new(key, principal, generation, settings));
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
                let principal = self.grants.share(principal).await;
                let entry = Arc::new(Entry::new(key, principal, generation, settings));
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
mod tests;
