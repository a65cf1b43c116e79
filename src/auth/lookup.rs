//! Asks an authentication server, as nginx's `auth_request` does.

use http::{HeaderMap, HeaderName, HeaderValue};
use log::warn;

use super::claims::Claims;
use super::client::OutboundClient;
use super::error::AuthError;
use crate::config::LookupProvider;
use crate::types::ClientCertificate;

/// What an authentication server may be told about the client's request.
#[derive(Clone, Copy, Debug)]
pub struct OriginalRequest<'a> {
    /// All its fields.
    pub headers: &'a HeaderMap,
    /// Its method.
    pub method: &'a str,
    /// Scheme and authority as the client used them, such as `https://edge.example`.
    pub origin: &'a str,
    /// Its path and query.
    pub uri: &'a str,
    /// What the client has shown on the connection, verified.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Asks one server.
#[derive(Debug)]
pub(super) struct LookupValidator {
    settings: LookupProvider,
    client: OutboundClient,
}

impl LookupValidator {
    pub(super) fn new(settings: &LookupProvider, client: &OutboundClient) -> Self {
        Self { settings: settings.clone(), client: client.clone() }
    }

    /// True when the request carries any field that the server would see.
    pub(super) fn has_credential(&self, headers: &HeaderMap) -> bool {
        self.settings.headers.iter().any(|name| headers.contains_key(name))
    }

    /// Everything that the answer depends on: what is sent is what the cache's key is made of.
    pub(super) fn key_parts<'a>(&'a self, request: &OriginalRequest<'a>) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        for name in &self.settings.headers {
            for value in request.headers.get_all(name) {
                parts.push(name.as_str().as_bytes());
                parts.push(value.as_bytes());
            }
        }
        if self.settings.original_uri {
            parts.extend([request.method.as_bytes(), request.origin.as_bytes(), request.uri.as_bytes()]);
        }
        parts
    }

    /// One sub-request: 2xx allows, 401 and 403 refuse, anything else is an outage.
    pub(super) async fn validate(&self, provider: &str, request: &OriginalRequest<'_>) -> Result<Claims, AuthError> {
        let outage = |what: &str| {
            warn!("provider {provider}: {what}");
            AuthError::Unavailable("the authentication server does not answer as it should")
        };
        let headers = self.headers(request);
        let answer = self.client.get(&self.settings.url, headers, self.settings.timeout).await;
        let answer = answer.map_err(|error| outage(&error.to_string()))?;
        match answer.status.as_u16() {
            200..=299 => {}
            401 => return Err(AuthError::Denied("the authentication server does not accept the credential")),
            403 => return Err(AuthError::Forbidden("the authentication server refuses the request")),
            status => return Err(outage(&format!("the authentication server answered with status {status}"))),
        }
        let text =
            |name: &HeaderName| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let subject = self.settings.subject_headers.iter().map(text).find(|subject| !subject.is_empty());
        let Some(subject) = subject else {
            return Err(outage(
                "the authentication server allowed the request, but named no subject (see `subject_headers`)",
            ));
        };
        let words = |text: &str, separators: &[char]| -> Vec<String> {
            text.split(separators).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        Ok(Claims {
            subject: subject.to_owned(),
            scopes: words(text(&self.settings.scopes_header), &[' ']),
            groups: words(text(&self.settings.groups_header), &[',', ' ']),
            expires_at: None,
            audiences: None,
            token_id: None,
        })
    }

    fn headers(&self, request: &OriginalRequest<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in &self.settings.headers {
            for value in request.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if self.settings.original_uri {
            let url = format!("{}{}", request.origin, request.uri);
            for (name, value) in
                [("x-original-uri", request.uri), ("x-original-method", request.method), ("x-original-url", &url)]
            {
                // A request target and a method are visible ASCII: they were checked when the request was read.
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
        headers
    }
}
