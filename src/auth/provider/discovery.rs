//! Where an issuer has its keys, from its own metadata: OpenID Connect Discovery 1.0 section 4, and RFC 8414.

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
    /// As configured: what the metadata must call it.
    issuer: String,
    url: reqwest::Url,
    keys: ArcSwapOption<reqwest::Url>,
}

/// Why metadata does not lead to keys.
#[derive(Debug, Error)]
pub(crate) enum DiscoveryError {
    /// It is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// It is not there.
    #[error("{0}")]
    Unavailable(String),
}

impl DiscoveryError {
    /// How this counts among the fetches of keys.
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

    /// Where the keys were when the metadata was read last.
    pub(crate) fn known(&self) -> Option<Arc<reqwest::Url>> {
        self.keys.load_full()
    }

    /// Reads the metadata: at most one request for each place where it may be.
    ///
    /// # Errors
    /// Why it does not lead to keys; what was known stays.
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
                Ok(answer) => format!("the issuer's metadata was answered with status {}", answer.status.as_u16()),
                Err(error) => format!("the issuer's metadata cannot be fetched: {error}"),
            };
        }
        Err(DiscoveryError::Unavailable(why))
    }

    /// OpenID Connect appends the well-known path to the issuer's, RFC 8414 puts it before.
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

    /// Metadata of another issuer is that of an impostor (RFC 8414 section 3.3), and keys elsewhere could be anybody's.
    fn read(&self, body: &[u8]) -> Result<reqwest::Url, String> {
        let Ok(document) = serde_json::from_slice::<Document>(body) else {
            return Err("the issuer's metadata is no JSON with `issuer` and `jwks_uri`".to_owned());
        };
        if document.issuer != self.issuer {
            return Err("the metadata is of another issuer: write `issuer` exactly as it stands there".to_owned());
        }
        let keys = reqwest::Url::parse(&document.jwks_uri).ok();
        let keys = keys.filter(|url| url.username().is_empty() && url.password().is_none());
        match keys {
            Some(keys) if keys.origin() == self.url.origin() => Ok(keys),
            Some(keys) => Err(format!(
                "the issuer's metadata has its keys at another origin, {}: write `jwks: {{url: ...}}` if they are there",
                keys.origin().ascii_serialization()
            )),
            None => Err("`jwks_uri` of the issuer's metadata is no URL".to_owned()),
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
