//! The public keys of an issuer (RFC 7517), from a file or from a URL that is fetched regularly.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use log::{info, warn};
use serde::Deserialize;

use super::discovery::Discovery;
use crate::auth::error::AuthError;
use crate::auth::outbound::client::{OutboundClient, OutboundError};
use crate::config::limits;
use crate::metrics::{KeyFetchResult, KeyMetrics};

/// The current keys of a key set.
#[derive(Debug)]
struct Keys {
    keys: Vec<Key>,
    /// When the keys were read or fetched.
    since: Instant,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// `alg` of the key; a key without one serves all algorithms of its family.
    algorithm: Option<String>,
    key: DecodingKey,
}

/// The key set of one provider. Its keys are replaced when they are fetched again.
#[derive(Debug)]
pub(crate) struct KeySet {
    provider: Arc<str>,
    keys: ArcSwapOption<Keys>,
    source: Option<Source>,
}

#[derive(Debug)]
struct Source {
    location: Location,
    refresh: Duration,
    client: OutboundClient,
    metrics: KeyMetrics,
    /// Locked during a fetch, so that only one fetch runs at a time.
    fetching: tokio::sync::Mutex<()>,
    last_attempt: Mutex<Option<Instant>>,
}

/// Where keys are fetched from.
#[derive(Debug)]
pub(crate) enum Location {
    /// From this URL.
    Url(Arc<reqwest::Url>),
    /// From the URL in the metadata of an issuer.
    Metadata(Discovery),
}

impl KeySet {
    /// A set of keys that were read with the configuration. They never change.
    pub(crate) fn from_file(provider: Arc<str>, set: &JwkSet) -> Self {
        let keys = Keys { keys: set.keys.iter().filter_map(Key::new).collect(), since: Instant::now() };
        Self { provider, keys: ArcSwapOption::from_pointee(keys), source: None }
    }

    /// A set of keys that are fetched. It is empty before the first fetch.
    pub(crate) fn fetched(
        provider: Arc<str>,
        location: Location,
        refresh: Duration,
        client: OutboundClient,
        metrics: KeyMetrics,
    ) -> Self {
        let (fetching, last_attempt) = (tokio::sync::Mutex::default(), Mutex::default());
        let source = Source { location, refresh, client, metrics, fetching, last_attempt };
        Self { provider, keys: ArcSwapOption::empty(), source: Some(source) }
    }

    /// The key for a token with this `kid` and `alg`. If it is not known, the keys are fetched, but at most once per
    /// [`limits::JWKS_REFETCH`], however many such tokens come.
    pub(crate) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, AuthError> {
        let missing = match self.known(id, algorithm) {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        match &self.source {
            Some(source) => {
                let started_at = Instant::now();
                let _one_at_a_time = source.fetching.lock().await;
                // While this request waited for the lock, another one may have fetched the keys.
                if !source.attempted_since(started_at) && source.may_attempt() {
                    self.fetch(source).await;
                }
                self.known(id, algorithm)
            }
            None => Err(missing),
        }
    }

    /// Fetches the keys regularly until dropped. If their URL is in the metadata of an issuer, each fetch begins with
    /// the metadata. Returns at once for keys from a file.
    pub(crate) async fn keep_fresh(&self) {
        let Some(source) = &self.source else { return };
        loop {
            if let Location::Metadata(metadata) = &source.location
                && let Err(failure) = metadata.look(&source.client).await
            {
                source.metrics.fetched(failure.result());
                warn!("provider {}: {failure}; the old keys stay", self.provider);
            }
            let fetched = {
                let _one_at_a_time = source.fetching.lock().await;
                self.fetch(source).await
            };
            tokio::time::sleep(if fetched { source.refresh } else { limits::JWKS_REFETCH }).await;
        }
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, AuthError> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(AuthError::Unavailable("the provider's keys have not been fetched yet"))?;
        if self.source.is_some() && keys.since.elapsed() > limits::JWKS_MAX_STALE {
            return Err(AuthError::Unavailable("the provider's keys are too old, and newer keys could not be fetched"));
        }
        let mut fitting = keys.keys.iter().filter(|key| key.fits(algorithm));
        let found = match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            // Without a `kid`, exactly one key must fit.
            None => fitting.next().filter(|_| fitting.next().is_none()),
        };
        found
            .map(|key| key.key.clone())
            .ok_or(AuthError::Denied("the token was signed with a key that the provider does not know"))
    }

    /// Fetches and replaces the keys. Returns false, and keeps the old keys, if that fails.
    async fn fetch(&self, source: &Source) -> bool {
        // Metadata is read only in the background, so that no request waits for it.
        let Some(url) = source.url() else { return false };
        *source.last_attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let provider = &self.provider;
        let keys = match source.request(&url).await {
            Ok(keys) => keys,
            Err((result, why)) => {
                source.metrics.fetched(result);
                warn!("provider {provider}: {why}; the old keys stay");
                return false;
            }
        };
        let ids = |keys: &[Key]| keys.iter().map(|key| key.id.clone()).collect::<HashSet<_>>();
        let before = self.keys.load().as_ref().map(|keys| ids(&keys.keys));
        if before.as_ref() != Some(&ids(&keys)) {
            info!("provider {provider}: the key set has changed, it now has {} keys", keys.len());
        }
        self.keys.store(Some(Arc::new(Keys { keys, since: Instant::now() })));
        source.metrics.fetched(KeyFetchResult::Ok);
        true
    }
}

impl Source {
    fn url(&self) -> Option<Arc<reqwest::Url>> {
        match &self.location {
            Location::Url(url) => Some(Arc::clone(url)),
            Location::Metadata(metadata) => metadata.known(),
        }
    }

    /// Fetches the usable keys at `url`, at least one. The error says why there are none.
    async fn request(&self, url: &reqwest::Url) -> Result<Vec<Key>, (KeyFetchResult, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        let answer = self.client.get(url, headers, limits::AUTH_TIMEOUT).await.map_err(|error| {
            let result = match error {
                OutboundError::TooLarge => KeyFetchResult::Invalid,
                _ => KeyFetchResult::Unavailable,
            };
            (result, format!("the key set cannot be fetched: {error}"))
        })?;
        if answer.status != StatusCode::OK {
            let why = format!("the request for the key set was answered with status {}", answer.status.as_u16());
            return Err((KeyFetchResult::Unavailable, why));
        }
        let keys = parse(&answer.body);
        if keys.is_empty() {
            return Err((KeyFetchResult::Invalid, "the key set holds no key that can be used".to_owned()));
        }
        Ok(keys)
    }

    fn attempted_since(&self, moment: Instant) -> bool {
        self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|last| last >= moment)
    }

    fn may_attempt(&self) -> bool {
        let last = *self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= limits::JWKS_REFETCH)
    }
}

/// Reads the keys of a set. Keys that the edge cannot use (encryption keys, unknown kinds) are skipped, because a set
/// may have them beside usable keys.
fn parse(body: &[u8]) -> Vec<Key> {
    #[derive(Deserialize)]
    struct AnySet {
        keys: Vec<serde_json::Value>,
    }
    let Ok(set) = serde_json::from_slice::<AnySet>(body) else { return Vec::new() };
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    keys.filter_map(|key| Key::new(&key)).take(limits::JWKS_KEYS).collect()
}

impl Key {
    fn new(jwk: &Jwk) -> Option<Self> {
        let for_signatures = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) || !for_signatures {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        // With a shared secret in a public key set, anybody who can read the set could sign tokens.
        if key.family() == AlgorithmFamily::Hmac {
            return None;
        }
        let algorithm = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
        Some(Self { id: jwk.common.key_id.clone(), algorithm, key })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.key.family().algorithms().contains(&algorithm)
            && self.algorithm.as_ref().is_none_or(|own| *own == format!("{algorithm:?}"))
    }
}
