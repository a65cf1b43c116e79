//! API keys, whose hashes stand in a file.

use http::HeaderName;
use tokio::sync::Semaphore;

use super::claims::Claims;
use crate::auth::error::AuthError;
use crate::config::{ApiKey, ApiKeysProvider, limits};
use crate::types::{api_key_id, unix_now};

/// Slow hashes that are verified at the same time, over all providers: each takes a core and up to 64 MiB.
static SLOW: Semaphore = Semaphore::const_new(limits::SLOW_HASHES);

/// Knows the keys of one file.
#[derive(Debug)]
pub(crate) struct ApiKeyValidator {
    settings: ApiKeysProvider,
}

impl ApiKeyValidator {
    pub(crate) fn new(settings: &ApiKeysProvider) -> Self {
        Self { settings: settings.clone() }
    }

    /// The field that may carry a key beside `Authorization`.
    pub(crate) fn header(&self) -> Option<&HeaderName> {
        self.settings.header.as_ref()
    }

    /// True when a key of this id is in the file.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.settings.keys.contains_key(id)
    }

    /// Verifies one hash: that of the id in the key.
    pub(crate) async fn validate(&self, key: &str) -> Result<Claims, AuthError> {
        let entry = api_key_id(key).and_then(|id| self.settings.keys.get(id));
        let entry = entry.ok_or(AuthError::Denied("the API key is not known"))?;
        if !is_right(entry, key).await? {
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

async fn is_right(entry: &ApiKey, key: &str) -> Result<bool, AuthError> {
    if !entry.hash.is_slow() {
        return Ok(entry.hash.verify(key));
    }
    let waited = tokio::time::timeout(limits::AUTH_TIMEOUT, SLOW.acquire()).await;
    let Ok(Ok(turn)) = waited else {
        return Err(AuthError::Unavailable("too many API keys are being verified"));
    };
    let (hash, key) = (entry.hash.clone(), key.to_owned());
    // The turn ends with the work, also when the client has left meanwhile.
    let verified = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        hash.verify(&key)
    });
    verified.await.map_err(|_| AuthError::Unavailable("the API key could not be verified"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{KeyHash, new_api_key};

    #[tokio::test]
    async fn a_key_is_found_by_its_id_and_known_by_its_hash() {
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
        let claims = validator.validate(&key).await.expect("it is right");
        assert_eq!((claims.subject.as_str(), claims.expires_at), ("robot", Some(now + 60)));
        assert_eq!(claims.scopes, ["a", "b"]);
        let denied = async |key: &str| validator.validate(key).await.expect_err("it is wrong");
        assert_eq!(denied(&old).await, AuthError::Denied("the API key has expired"));
        for wrong in [key.replace("_ci_", "_old_"), key.replace("_ci_", "_no_"), key.clone() + "x", "mcpe_ci_".into()] {
            assert_eq!(denied(&wrong).await, AuthError::Denied("the API key is not known"), "{wrong}");
        }
    }
}
