//! Finds the URL of an issuer's keys in the issuer's metadata (OpenID Connect Discovery 1.0 section 4, RFC 8414).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use thiserror::Error;

use crate::auth::outbound::client::OutboundClient;
use crate::config::limits;
use crate::metrics::KeyFetchResult;

/// The metadata of one issuer.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// The configured issuer. `issuer` in the metadata must be exactly the same.
    issuer: String,
    url: reqwest::Url,
    keys: ArcSwapOption<reqwest::Url>,
}

/// Why the metadata gives no URL of keys.
#[derive(Debug, Error)]
pub(crate) enum DiscoveryError {
    /// The metadata is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The metadata cannot be fetched.
    #[error("{0}")]
    Unavailable(String),
}

impl DiscoveryError {
    /// The result to count in the metric of key fetches.
    pub(crate) fn result(&self) -> KeyFetchResult {
        match self {
            Self::Invalid(_) => KeyFetchResult::Invalid,
            Self::Unavailable(_) => KeyFetchResult::Unavailable,
        }
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

impl Discovery {
    pub(crate) fn new(issuer: &str, url: &reqwest::Url) -> Self {
        Self { issuer: issuer.to_owned(), url: url.clone(), keys: ArcSwapOption::empty() }
    }

    /// The URL of the keys, as the metadata had it when it was last read. `None` before that.
    pub(crate) fn known(&self) -> Option<Arc<reqwest::Url>> {
        self.keys.load_full()
    }

    /// Fetches and reads the metadata. There is at most one request for each URL where the metadata may be.
    ///
    /// # Errors
    /// The metadata gives no URL of keys. The URL that was known before is kept.
    pub(crate) async fn look(&self, client: &OutboundClient) -> Result<(), DiscoveryError> {
        let mut why = String::new();
        for url in self.places() {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            why = match client.get(&url, headers, limits::AUTH_TIMEOUT).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    self.keys.store(Some(Arc::new(self.read(&answer.body).map_err(DiscoveryError::Invalid)?)));
                    return Ok(());
                }
                Ok(answer) => {
                    format!("the request for the issuer's metadata was answered with status {}", answer.status.as_u16())
                }
                Err(error) => format!("the issuer's metadata cannot be fetched: {error}"),
            };
        }
        Err(DiscoveryError::Unavailable(why))
    }

    /// The URLs where the metadata may be. OpenID Connect appends the well-known path to the issuer's path. RFC 8414
    /// puts it in front.
    fn places(&self) -> [reqwest::Url; 2] {
        let path = self.url.path().trim_end_matches('/').to_owned();
        let at = |path: &str| {
            let mut url = self.url.clone();
            url.set_path(path);
            url
        };
        [
            at(&format!("{path}/.well-known/openid-configuration")),
            at(&format!("/.well-known/oauth-authorization-server{path}")),
        ]
    }

    /// Reads the URL of the keys. Metadata that names another issuer may come from an attacker (RFC 8414 section 3.3),
    /// and keys at another origin could belong to anybody.
    fn read(&self, body: &[u8]) -> Result<reqwest::Url, String> {
        let Ok(document) = serde_json::from_slice::<Document>(body) else {
            return Err("the issuer's metadata is not a JSON object with `issuer` and `jwks_uri`".to_owned());
        };
        if document.issuer != self.issuer {
            return Err("the metadata names another issuer: write `issuer` exactly as in the metadata".to_owned());
        }
        let keys = reqwest::Url::parse(&document.jwks_uri).ok();
        let keys = keys.filter(|url| url.username().is_empty() && url.password().is_none());
        match keys {
            Some(keys) if keys.origin() == self.url.origin() => Ok(keys),
            Some(keys) => Err(format!(
                "`jwks_uri` of the issuer's metadata has another origin, {}: \
                 write `jwks: {{url: ...}}` if the keys are there",
                keys.origin().ascii_serialization()
            )),
            None => {
                Err("`jwks_uri` of the issuer's metadata is not a URL, or contains a user name or password".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn discovery(issuer: &str) -> Discovery {
        Discovery::new(issuer, &issuer.parse().expect("a URL"))
    }

    #[test]
    fn places_of_metadata() {
        for (issuer, places) in [
            (
                "https://idp.example",
                [
                    "https://idp.example/.well-known/openid-configuration",
                    "https://idp.example/.well-known/oauth-authorization-server",
                ],
            ),
            (
                "https://idp.example:8443/realms/a/",
                [
                    "https://idp.example:8443/realms/a/.well-known/openid-configuration",
                    "https://idp.example:8443/.well-known/oauth-authorization-server/realms/a",
                ],
            ),
        ] {
            assert_eq!(discovery(issuer).places().map(|url| url.to_string()), places);
        }
    }

    #[test]
    fn only_its_own_metadata_with_keys_at_its_own_origin() {
        let issuer = "https://idp.example/a";
        let read = |issuer_claim: &str, keys: &str| {
            discovery(issuer).read(json!({"issuer": issuer_claim, "jwks_uri": keys}).to_string().as_bytes())
        };
        assert_eq!(read(issuer, "https://idp.example/keys").map(String::from), Ok("https://idp.example/keys".into()));
        for (issuer, keys) in [
            ("https://idp.example/a/", "https://idp.example/keys"),
            ("https://idp.example", "https://idp.example/keys"),
            (issuer, "https://keys.example/keys"),
            (issuer, "http://idp.example/keys"),
            (issuer, "https://idp.example:444/keys"),
            (issuer, "https://user@idp.example/keys"),
            (issuer, "/keys"),
        ] {
            assert!(read(issuer, keys).is_err(), "{issuer} {keys}");
        }
        for body in ["", "[]", "{}", r#"{"issuer": "https://idp.example/a"}"#] {
            assert!(discovery(issuer).read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
