//! Validates requests with an authentication server, as nginx's `auth_request` does.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use log::warn;

use super::claims::Claims;
use crate::auth::error::AuthError;
use crate::auth::outbound::client::OutboundClient;
use crate::auth::refusal::Refusal;
use crate::config::{Anonymous, LookupProvider};
use crate::types::ClientCertificate;

/// The operation of an MCP message, as values of header fields.
#[derive(Clone, Debug)]
pub struct OperationFields {
    /// The method. `None` if the message is an answer of the client.
    pub method: Option<HeaderValue>,
    /// The name of the tool or prompt, or the URI of the resource.
    pub name: Option<HeaderValue>,
}

/// The client's request, as far as an authentication server may see it.
#[derive(Clone, Copy, Debug)]
pub struct OriginalRequest<'a> {
    /// All header fields of the request.
    pub headers: &'a HeaderMap,
    /// The HTTP method.
    pub method: &'a str,
    /// `http` or `https`, as the client used it.
    pub scheme: &'a str,
    /// The host as the client wrote it, and the port.
    pub authority: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The query string, without `?`.
    pub query: Option<&'a str>,
    /// The operation of the message. `None` if it is not sent to the authentication server.
    pub operation: Option<&'a OperationFields>,
    /// The client certificate of the connection. The listener has verified it.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Validates requests with one authentication server.
#[derive(Debug)]
pub(crate) struct LookupValidator {
    settings: LookupProvider,
    client: OutboundClient,
}

impl LookupValidator {
    pub(crate) fn new(settings: &LookupProvider, client: &OutboundClient) -> Self {
        Self { settings: settings.clone(), client: client.clone() }
    }

    /// True if the server is sent the operation of a message.
    pub(crate) fn sees_operation(&self) -> bool {
        self.settings.operation.is_some()
    }

    /// The header fields that may carry a credential.
    pub(crate) fn headers(&self) -> &[HeaderName] {
        &self.settings.headers
    }

    /// The header fields that are sent to the server and also go on to the upstream.
    pub(crate) fn context_headers(&self) -> &[HeaderName] {
        &self.settings.context_headers
    }

    /// True for a header field that is sent to the server.
    pub(crate) fn shows(&self, name: &HeaderName) -> bool {
        self.settings.headers.contains(name) || self.settings.context_headers.contains(name)
    }

    /// True if the server is asked about requests without a credential.
    pub(crate) fn asks_about_anybody(&self) -> bool {
        self.settings.anonymous == Anonymous::Ask
    }

    /// True if the request has a header field that may carry a credential.
    pub(crate) fn has_credential(&self, headers: &HeaderMap) -> bool {
        self.settings.headers.iter().any(|name| headers.contains_key(name))
    }

    /// The parts of the cache key: everything that is sent to the server, because its answer may depend on it.
    pub(crate) fn key_parts<'a>(&'a self, request: &OriginalRequest<'a>) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        for (name, value) in self.sent(request) {
            parts.push(name.as_str().as_bytes());
            parts.push(value.as_bytes());
        }
        if self.settings.original_uri {
            let parts_of_url = [request.method, request.scheme, request.authority, request.path];
            parts.extend(parts_of_url.into_iter().chain(request.query).map(str::as_bytes));
        }
        parts
    }

    /// Sends one sub-request. 2xx allows the client's request, 401 and 403 refuse it, any other answer is an outage.
    pub(crate) async fn validate(&self, provider: &str, question: HeaderMap) -> Result<Claims, AuthError> {
        let outage = |what: &str| {
            warn!("provider {provider}: {what}");
            AuthError::Unavailable("the authentication server is not reachable, or its answer is not valid")
        };
        let answer = self.client.get(&self.settings.url, question, self.settings.timeout).await;
        let answer = answer.map_err(|error| outage(&error.to_string()))?;
        match answer.status.as_u16() {
            200..=299 => {}
            status @ (401 | 403) => {
                return Err(AuthError::Refused(Arc::new(Refusal::read(status == 403, &answer.headers))));
            }
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

    /// The header fields that are copied from the request, and those with the operation.
    fn sent<'a>(&'a self, request: &OriginalRequest<'a>) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let headers = request.headers;
        let names = self.settings.headers.iter().chain(&self.settings.context_headers);
        let copied = names.flat_map(move |name| headers.get_all(name).iter().map(move |value| (name, value)));
        let operation = self.settings.operation.as_ref().zip(request.operation);
        let operation = operation.into_iter().flat_map(|((method, name), operation)| {
            let method = operation.method.as_ref().map(|value| (method, value));
            method.into_iter().chain(operation.name.as_ref().map(|value| (name, value)))
        });
        copied.chain(operation)
    }

    /// The header fields of the sub-request.
    pub(crate) fn question(&self, request: &OriginalRequest<'_>) -> HeaderMap {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in self.sent(request) {
            headers.append(name.clone(), value.clone());
        }
        if self.settings.original_uri {
            let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
            let uri = format!("{}{query}", request.path);
            let url = format!("{}://{}{uri}", request.scheme, request.authority);
            for (name, value) in
                [("x-original-uri", &*uri), ("x-original-method", request.method), ("x-original-url", &url)]
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
