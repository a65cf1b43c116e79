//! `lookup` of a provider as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::limits;
use crate::config::units::{Header, Span, Url};

/// `lookup` of a provider: an authentication server that decides on credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The URL to which the edge sends a GET. An answer with status 2xx allows the request, 401 and 403 refuse it, and
    /// any other answer is an outage.
    pub url: Url,
    /// The fields of the client's request that may carry its credential (default `Authorization`). They are sent to the
    /// server, and the decision is cached for their values. They are not sent to the upstream, unless the route has
    /// `forward_token: true`.
    #[serde(default = "default_lookup_headers")]
    pub headers: Vec<Header>,
    /// What happens to requests that have none of `headers` (default `refuse`).
    #[serde(default)]
    pub anonymous: Anonymous,
    /// Further fields of the request that are sent to the server, such as a tenant. The decision is cached for their
    /// values too. They are also sent to the upstream.
    #[serde(default)]
    pub context_headers: Vec<Header>,
    /// Tells the server which MCP operation the message asks for. The decision is then cached for this operation. The
    /// edge reads the body before it knows the caller, and refuses a body with several operations, such as a batch.
    pub operation: Option<LookupOperation>,
    /// Whether `X-Original-URI`, `X-Original-Method` and `X-Original-URL` are sent (default true). The decision is then
    /// cached for this method and URL only.
    #[serde(default = "yes")]
    pub original_uri: bool,
    /// The fields of the answer that may carry the caller's subject (default `X-User`, `X-Username`). The first one
    /// that is not empty is used.
    #[serde(default = "default_subject_headers")]
    pub subject_headers: Vec<Header>,
    /// The field of the answer with the caller's scopes, separated by spaces (default `X-Scopes`).
    #[serde(default = "default_scopes_header")]
    pub scopes_header: Header,
    /// The field of the answer with the caller's groups, separated by commas or spaces (default `X-Groups`).
    #[serde(default = "default_groups_header")]
    pub groups_header: Header,
    /// The authorization server where clients get tokens (RFC 9728 `authorization_servers`).
    pub issuer: Option<String>,
    /// How long the server may take to answer (default and maximum 2s).
    #[serde(default = "default_lookup_timeout")]
    pub timeout: Span,
}

/// What happens to requests without a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// 401.
    #[default]
    Refuse,
    /// The server is asked: it may know the caller by a key in the query, or let anybody in.
    Ask,
}

/// `operation` of a `lookup`: the fields that describe the MCP operation. A value that a field cannot hold is written
/// as `=?base64?...?=` (MCP 2026-07-28, "Standard headers").
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
