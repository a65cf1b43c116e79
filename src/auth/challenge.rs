//! Tells a rejected client how to authenticate: `WWW-Authenticate` (RFC 6750) and resource metadata (RFC 9728).

use http::HeaderValue;
use serde::Serialize;

use crate::types::ScopeSet;

/// The `WWW-Authenticate` field of a 401 or 403.
#[derive(Clone, Debug)]
pub struct Challenge<'a> {
    /// `invalid_token` or `insufficient_scope`; absent when the request had no credential (RFC 6750 section 3.1).
    pub error: Option<&'a str>,
    /// A text for people (RFC 6750 section 3).
    pub description: Option<&'a str>,
    /// All scopes that the operation needs.
    pub scopes: &'a ScopeSet,
    /// The URL of the resource metadata (RFC 9728 section 5.1). `None`: no authorization server gives tokens for the route.
    pub resource_metadata: Option<&'a str>,
}

impl Challenge<'_> {
    /// The field's value. No part can end its quoted string early: whoever makes a challenge has checked `error` and
    /// `description`, `resource_metadata` is made of a checked host and a canonical path, and scopes are
    /// [`Scope`](crate::types::Scope)s.
    pub fn to_header(&self) -> HeaderValue {
        let scopes = (!self.scopes.is_empty()).then(|| self.scopes.to_string());
        let parts = [
            ("error", self.error),
            ("error_description", self.description),
            ("scope", scopes.as_deref()),
            ("resource_metadata", self.resource_metadata),
        ];
        let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}=\"{}\"", value?)));
        let text = format!("Bearer {}", parts.collect::<Vec<_>>().join(", "));
        HeaderValue::from_str(text.trim_end()).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    }
}

/// The protected resource metadata of a route (RFC 9728 section 2).
#[derive(Debug, Serialize)]
pub struct Metadata<'a> {
    /// Exactly the URL that the client uses.
    pub resource: &'a str,
    /// Where a client gets tokens. MCP requires at least one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_servers: Vec<&'a str>,
    /// The scopes that the route requires.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<&'a str>,
    /// Always `header`: tokens in query strings and bodies are not accepted.
    pub bearer_methods_supported: [&'static str; 1],
}

impl<'a> Metadata<'a> {
    /// The metadata of `resource`.
    pub fn new(resource: &'a str, issuers: impl IntoIterator<Item = &'a str>, scopes: &'a ScopeSet) -> Self {
        Self {
            resource,
            authorization_servers: issuers.into_iter().collect(),
            scopes_supported: scopes.iter().map(|scope| scope.as_str()).collect(),
            bearer_methods_supported: ["header"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let scopes: ScopeSet = ["b", "a"].into_iter().map(|scope| scope.parse().expect("legal")).collect();
        let url = "https://edge.example/.well-known/oauth-protected-resource/fininfo/mcp";
        let header =
            |error| Challenge { error, description: None, scopes: &scopes, resource_metadata: Some(url) }.to_header();
        assert_eq!(
            header(Some("insufficient_scope")),
            format!("Bearer error=\"insufficient_scope\", scope=\"a b\", resource_metadata=\"{url}\"")
        );
        assert_eq!(header(None), format!("Bearer scope=\"a b\", resource_metadata=\"{url}\""));
    }
}
