//! The token cache of the process. It maps keyed hashes of credentials to principals, and keeps recent denials
//! separately. moka decides which entries stay. `recent` finds the most used entries without moka.

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

/// The token cache. There is one per process. It survives reloads, because its keys contain the number of the provider
/// instance.
#[derive(Debug)]
pub struct TokenCache {
    keys: KeyMaker,
    principals: Entries<Arc<Entry>>,
    /// The entries of `principals` that were used most recently.
    recent: Arc<Recent>,
    /// Entries that may be used while their provider is unavailable.
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

    /// The cache key for a provider instance and for the `parts` of the request on which its decision depends.
    pub fn key<'a>(&self, provider: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenKey {
        self.keys.key(provider, parts)
    }

    /// The principal for `key`, if the cache has it, it is still good, and it is not due for a refresh.
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

    /// The principal for `key`, from the cache or from `validate`. When several requests need the same principal at the
    /// same time, `validate` runs once for all of them. `again` makes the same validation for
    /// [`refresh`](Self::refresh), when the entry is due.
    ///
    /// # Errors
    /// The error of `validate`. Denials are cached for a short time, outages never.
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
        // Boxed, because this future is large and rarely needed. Without the box, the future of every request would
        // have to contain it.
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
            // Read before the validation: a credential that is revoked during the validation is not good.
            let generation = self.revocations.generation();
            let principal = self.grants.share(validate().await?).await;
            let entry = Arc::new(Entry::new(key, principal, generation, settings));
            self.keep_for_outages(key, &entry).await;
            Ok::<_, AuthError>(entry)
        });
        match made.await {
            // This request's validation, or that of another request for which it has waited, began before a revocation.
            Ok(entry) if !entry.is_unrevoked(&self.revocations) => {
                self.principals.invalidate(&key).await;
                let entry = self.renew(key, settings, again()).await?;
                let again =
                    AuthError::Unavailable("the credential was revoked while its provider validated it: try again");
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

    /// Validates the entries that are due again, until dropped.
    pub async fn refresh(&self) {
        while let Some(Refresh { key, settings, validation }) = self.refreshes.next().await {
            let counter = match self.renew(key, &settings, validation).await {
                Ok(_) => &self.counters.refreshed,
                // The entry stays, and is due again after a while.
                Err(AuthError::Unavailable(_)) => &self.counters.unavailable,
                Err(_) => &self.counters.denied,
            };
            counter.inc();
        }
    }

    /// Validates a credential again. Replaces its entry, or removes it if the credential is denied.
    async fn renew(&self, key: TokenKey, settings: &Settings, validation: Validation) -> Result<Arc<Entry>, AuthError> {
        let generation = self.revocations.generation();
        match validation.await {
            Ok(principal) => {
                // Meanwhile another validation has denied the credential. The denial wins.
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
            // An earlier entry may have granted more.
            false => self.stale.invalidate(&key).await,
        }
    }

    /// The principal of an earlier entry, if the configuration allows its use while the provider is unavailable. It
    /// goes into the cache for a moment, so that not every request goes to the provider.
    async fn stand_in(&self, key: TokenKey, settings: &Settings) -> Option<Arc<Principal>> {
        settings.stale_if_error.as_ref()?;
        let allowed = self.stale.get(&key).await.filter(|entry| entry.is_good(&self.revocations))?;
        let entry = Arc::new(allowed.standing_in()?);
        self.counters.stale_hits.inc();
        let principal = Arc::clone(&entry.principal);
        self.principals.insert(key, entry).await;
        Some(principal)
    }

    /// Caches a denial. An earlier entry can then not be used any more while the provider is unavailable.
    async fn deny(&self, key: TokenKey, error: &AuthError, settings: &Settings) {
        if matches!(
            error,
            AuthError::Denied(_) | AuthError::Claim { .. } | AuthError::Forbidden(_) | AuthError::Refused(_)
        ) {
            self.stale.invalidate(&key).await;
            let denial = Denial { error: error.clone(), lifetime: settings.negative_ttl.0 };
            self.denials.insert(key, denial).await;
        }
    }

    /// The revocations of operators.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Records `revocation`, removes the principals that it covers, and returns their number.
    ///
    /// # Errors
    /// See [`Revocations::add`]. No principal is removed then.
    pub async fn purge(&self, revocation: Revocation, refuse_for: Option<Duration>) -> Result<usize, TooManyRefusals> {
        // From here on, earlier entries that the revocation covers are not used. Removing them only frees memory.
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

    /// About how many principals are in the cache.
    pub fn entries(&self) -> u64 {
        self.principals.entry_count()
    }
}

#[cfg(test)]
mod tests;
