//! Validates API keys. Their hashes are in a file.

use http::HeaderName;
use tokio::sync::Semaphore;

use super::claims::Claims;
use crate::auth::error::AuthError;
use crate::config::{ApiKey, ApiKeysProvider, limits};
use crate::types::{api_key_id, unix_now};

/// Limits how many slow hashes are verified at the same time, over all providers. Each takes a core and up to 64 MiB.
static SLOW: Semaphore = Semaphore::const_new(limits::SLOW_HASHES);

/// Validates the API keys of one file.
#[derive(Debug)]
pub(crate) struct ApiKeyValidator {
    settings: ApiKeysProvider,
}

impl ApiKeyValidator {
    pub(crate) fn new(settings: &ApiKeysProvider) -> Self {
        Self { settings: settings.clone() }
    }

    /// The header field that may carry an API key, besides `Authorization`.
    pub(crate) fn header(&self) -> Option<&HeaderName> {
        self.settings.header.as_ref()
    }

    /// True if the file has a key with this id.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.settings.keys.contains_key(id)
    }

    /// Validates an API key. At most one hash is verified: that of the entry with the id in the key.
    pub(crate) async fn validate(&self, key: &str) -> Result<Claims, AuthError> {
        let entry = api_key_id(key).and_then(|id| self.settings.keys.get(id));
        let entry = entry.ok_or(AuthError::Denied("the API key is not known"))?;
        if !verify(entry, key).await? {
            return Err(AuthError::Denied("the API key is not known"));
        }
        if entry.expires.is_some_and(|end| end <= unix_now()) {
            return Err(AuthError::Denied("the API key has expired"));
        }
        let scopes = entry.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        Ok(Claims {
            subject: entry.subject.clone(),
            scopes,
            groups: Vec::new(),
            expires_at: entry.expires,
            audiences: None,
            token_id: None,
        })
    }
}

async fn verify(entry: &ApiKey, key: &str) -> Result<bool, AuthError> {
    if !entry.hash.is_slow() {
        return Ok(entry.hash.verify(key));
    }
    let waited = tokio::time::timeout(limits::AUTH_TIMEOUT, SLOW.acquire()).await;
    let Ok(Ok(permit)) = waited else {
        return Err(AuthError::Unavailable("too many API keys are being verified"));
    };
    let (hash, key) = (entry.hash.clone(), key.to_owned());
    // The work cannot be cancelled, so it keeps the permit to its end, even if the client disconnects.
    let verified = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        hash.verify(&key)
    });
    verified.await.map_err(|_| AuthError::Unavailable("the API key could not be verified"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{KeyHash, new_api_key};

    #[tokio::test]
    async fn a_key_is_found_by_its_id_and_verified_by_its_hash() {
        let (now, key, old) = (unix_now(), new_api_key("ci").expect("random"), new_api_key("old").expect("random"));
        let entry = |key: &str, expires| ApiKey {
            hash: KeyHash::sha256(key),
            subject: "robot".into(),
            scopes: ["b", "a"].into_iter().map(|scope| scope.parse().expect("legal")).collect(),
            expires,
        };
        let keys = [("ci", entry(&key, Some(now + 60))), ("old", entry(&old, Some(now)))];
        let keys = keys.into_iter().map(|(id, entry)| (id.to_owned(), entry)).collect();
        let validator = ApiKeyValidator::new(&ApiKeysProvider { keys, header: None });
        let claims = validator.validate(&key).await.expect("the key is valid");
        assert_eq!((claims.subject.as_str(), claims.expires_at), ("robot", Some(now + 60)));
        assert_eq!(claims.scopes, ["a", "b"]);
        let denied = async |key: &str| validator.validate(key).await.expect_err("the key is not valid");
        assert_eq!(denied(&old).await, AuthError::Denied("the API key has expired"));
        for wrong in [key.replace("_ci_", "_old_"), key.replace("_ci_", "_no_"), key.clone() + "x", "mcpe_ci_".into()] {
            assert_eq!(denied(&wrong).await, AuthError::Denied("the API key is not known"), "{wrong}");
        }
    }
}
