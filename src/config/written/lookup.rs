//! `lookup` of a provider, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::limits;
use crate::config::units::{Header, Span, Url};

/// `lookup` of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// What is asked with GET: 2xx allows, 401 and 403 refuse, anything else is an outage.
    pub url: Url,
    /// Fields of the client's request that may carry its credential (default `Authorization`). The answer is cached for
    /// exactly these, and they are not sent upstream unless the route says `forward_token`.
    #[serde(default = "default_lookup_headers")]
    pub headers: Vec<Header>,
    /// Further fields that are sent along, such as a tenant. The answer is cached for these too; they go on to the upstream.
    #[serde(default)]
    pub context_headers: Vec<Header>,
    /// Tells the server what the MCP message wants, and caches the answer for it. The body is then read before the caller
    /// is known; a body about several things at once (a batch) is refused.
    pub operation: Option<LookupOperation>,
    /// Whether `X-Original-URI`, `-Method` and `-URL` are sent (default true). The answer is then cached for this URI only.
    #[serde(default = "yes")]
    pub original_uri: bool,
    /// Fields of the answer that may carry the subject; the first that is there counts (default `X-User`, `X-Username`).
    #[serde(default = "default_subject_headers")]
    pub subject_headers: Vec<Header>,
    /// The field of the answer that carries the scopes, separated by spaces (default `X-Scopes`).
    #[serde(default = "default_scopes_header")]
    pub scopes_header: Header,
    /// The field of the answer that carries the groups, separated by commas or spaces (default `X-Groups`).
    #[serde(default = "default_groups_header")]
    pub groups_header: Header,
    /// The authorization server that clients without a token are pointed to (RFC 9728 `authorization_servers`).
    pub issuer: Option<String>,
    /// How long the server may take (default and maximum 2s).
    #[serde(default = "default_lookup_timeout")]
    pub timeout: Span,
}

/// `operation` of a `lookup`. What a field cannot hold is written `=?base64?...?=` (MCP 2026-07-28, "Standard headers").
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LookupOperation {
    /// The field for the MCP method (default `Mcp-Method`).
    pub method: Header,
    /// The field for the name of the tool or prompt, or the URI of the resource (default `Mcp-Name`).
    pub name: Header,
}

impl Default for LookupOperation {
    fn default() -> Self {
        Self { method: header("mcp-method"), name: header("mcp-name") }
    }
}

fn yes() -> bool {
    true
}

fn header(name: &'static str) -> Header {
    Header(http::HeaderName::from_static(name))
}

fn default_lookup_headers() -> Vec<Header> {
    vec![header("authorization")]
}

fn default_subject_headers() -> Vec<Header> {
    vec![header("x-user"), header("x-username")]
}

fn default_scopes_header() -> Header {
    header("x-scopes")
}

fn default_groups_header() -> Header {
    header("x-groups")
}

pub(crate) fn default_lookup_timeout() -> Span {
    Span(limits::AUTH_TIMEOUT)
}
