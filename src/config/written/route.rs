//! Section `routes` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::credential::Credential;
use super::gateway::Gateway;
use super::policy::{Cors, RouteSessions, Rule, rules};
use crate::config::units::{Header, HeaderText, Host, ResourceUrl, ScopeName, Size, Span};

/// One route: which requests it matches, which upstream they go to, and who may send them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The path prefix. It matches whole segments only, and the longest prefix wins.
    pub path: String,
    /// The hosts that the route matches (default: any host). A route for the exact host comes before one with a
    /// wildcard, and that one before a route for any host.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// The route's name in metrics, logs and `/status`, of at most 128 characters. Default: the path, after the first
    /// host if the route has hosts.
    pub name: Option<String>,
    /// The name of the upstream. A route has either this or `gateway`.
    pub upstream: Option<String>,
    /// The servers that the route offers together at one MCP endpoint.
    pub gateway: Option<Gateway>,
    /// The protocol of the route (default `http`; a gateway always carries MCP).
    #[serde(default)]
    pub protocol: Protocol,
    /// How the edge changes the path for the upstream. By default it removes the matched prefix.
    #[serde(default)]
    pub rewrite: Rewrite,
    /// Who may use the route: providers and scopes, or the word `none` for an open route.
    pub auth: RouteAuth,
    /// Whether the fields that carry the client's credential, such as `Authorization`, are sent to the upstream
    /// (default false).
    #[serde(default)]
    pub forward_token: bool,
    /// What the upstream gets in place of the client's credential.
    pub credential: Option<Credential>,
    /// Which MCP methods callers may use, such as `tools/call`. In this list and the next three, the first rule that
    /// matches decides, and a name that no rule matches is denied: `{match: "*"}` at the end allows the rest, `[]`
    /// denies all. Without the list, all are allowed. Methods that every session needs (`initialize`, `ping`,
    /// `server/discover`, `logging/setLevel`, `notifications/*`) are allowed, unless a rule of this list denies them.
    /// Methods that no revision of MCP has are denied on a route with any of the four lists, unless a rule of this list
    /// allows them. This key and all keys up to `refusals` need `protocol: mcp`. A list has at most 1000
    /// rules.
    #[serde(default, deserialize_with = "rules")]
    pub methods: Option<Vec<Rule>>,
    /// Which tools callers may see and call, by name.
    #[serde(default, deserialize_with = "rules")]
    pub tools: Option<Vec<Rule>>,
    /// Which prompts callers may see and get, by name.
    #[serde(default, deserialize_with = "rules")]
    pub prompts: Option<Vec<Rule>>,
    /// Which resources callers may see, read and subscribe to, by URI.
    #[serde(default, deserialize_with = "rules")]
    pub resources: Option<Vec<Rule>>,
    /// What the edge does for MCP sessions.
    pub sessions: Option<RouteSessions>,
    /// After this much silence, at least 1s, the edge sends a comment on an event stream, so that proxies and firewalls
    /// do not close the stream as idle (default: never).
    pub sse_keepalive: Option<Span>,
    /// For revisions before 2026-07-28: whether the edge cancels a request at the upstream when its client disconnects
    /// (default false). From that revision on, it always does.
    pub cancel_on_disconnect: Option<bool>,
    /// How a client is told that a rule refuses its request (default `auto`).
    pub refusals: Option<Refusals>,
    /// The web pages of other origins that may use the route. Works with any `protocol`.
    pub cors: Option<Cors>,
    /// Protocols that a client may upgrade to: only `websocket`. Needs `protocol: http`.
    #[serde(default)]
    pub upgrade: Vec<Upgrade>,
    /// Which `Host` the edge sends to the upstream. Default: `endpoint` with `protocol: mcp`, because MCP servers refuse hosts that
    /// they do not know; else `preserve`. `X-Forwarded-Host` has the host of the client.
    pub host: Option<HostHeader>,
    /// Changes to the header fields of requests.
    #[serde(default)]
    pub request_headers: HeaderChanges,
    /// Changes to the header fields of responses.
    #[serde(default)]
    pub response_headers: HeaderChanges,
    /// The largest request body (default: `limits.body_bytes`).
    pub body_bytes: Option<Size>,
    /// How long a stream may be silent (default: `timeouts.idle` of the upstream).
    pub idle: Option<Span>,
}

/// The protocol of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The Model Context Protocol over Streamable HTTP.
    Mcp,
    /// Any HTTP: WebSocket, gRPC, A2A, REST.
    #[default]
    Http,
}

/// How a client is told that a rule refuses what its JSON-RPC request asks for. Many clients end their session at any status but
/// 200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refusals {
    /// If a scope would allow it, 403 with a challenge that names the scope. Otherwise as a server answers that does not have the
    /// tool, prompt, resource or method: a JSON-RPC error, with the status of the client's revision.
    #[default]
    Auto,
    /// Always 403.
    Http,
    /// Always a JSON-RPC error.
    Jsonrpc,
}

/// `rewrite` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Whether the edge removes the matched prefix (default true).
    pub strip_prefix: Option<bool>,
    /// The edge replaces the matched prefix with this path. Cannot be combined with `strip_prefix`.
    pub prefix: Option<String>,
}

/// `auth` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RouteAuth {
    /// The word `none`: everybody may use the route.
    #[schemars(with = "String")]
    None,
    /// Callers may use the route if a provider accepts their credential and they have all scopes.
    Required(RequiredAuth),
}

/// `auth` of a route that is not open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredAuth {
    /// The names of the providers that may validate callers. The form of a credential decides which of them validates
    /// it.
    pub providers: Vec<String>,
    /// The scopes that a caller needs, all of them.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// The URL of this resource as clients know it (RFC 9728 `resource`). `{host}` in it stands for the host of the request.
    /// Default: the URL that the client itself used.
    pub public_url: Option<ResourceUrl>,
    /// One of these must be in a token's `aud`. `audiences` of its provider are checked as well. Default: only those of
    /// the provider, or `public_url` for providers that have none, so that a token for one route does not open another.
    pub audiences: Option<Vec<String>>,
    /// What happens to open streams when the caller's credential is revoked (default `close`). The same happens when
    /// the credential expires, but only to WebSockets and to event streams without an end (GET, `subscriptions/listen`,
    /// and all event streams with `protocol: http`).
    #[serde(default, skip_serializing_if = "OpenStreams::is_default")]
    pub open_streams: OpenStreams,
}

/// What happens to open streams whose credential is no longer valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenStreams {
    /// The edge closes them.
    #[default]
    Close,
    /// They continue until they end by themselves.
    Finish,
}

impl Route {
    /// The protocol that the route carries.
    pub(crate) fn carried(&self) -> Protocol {
        if self.gateway.is_some() { Protocol::Mcp } else { self.protocol }
    }

    /// The route's name: the one that is written, or else the path, after the first host if the route has hosts.
    pub(crate) fn own_name(&self) -> String {
        match (&self.name, self.hosts.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => format!("{}{}", host.0, self.path),
            (None, None) => self.path.clone(),
        }
    }

    /// True when a gateway that names `name` means this route: by its name, or by its path without slashes at both ends.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.own_name() == name || (self.hosts.is_empty() && self.path.trim_matches('/') == name)
    }
}

impl OpenStreams {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl<'de> Deserialize<'de> for RouteAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = RouteAuth;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`{providers: [NAME], scopes: [SCOPE]}`, or `none` for an open route")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<RouteAuth, E> {
                match word {
                    "none" => Ok(RouteAuth::None),
                    _ => Err(E::custom(format!(
                        "`{}` is not a valid `auth`: write `{{providers: [NAME], scopes: [SCOPE]}}`, or `none` for an \
                         open route",
                        word.escape_debug()
                    ))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteAuth, A::Error> {
                RequiredAuth::deserialize(MapAccessDeserializer::new(map)).map(RouteAuth::Required)
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// A protocol that a client may upgrade to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upgrade {
    /// WebSocket (RFC 6455).
    Websocket,
}

/// Which `Host` the edge sends to the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// The `Host` of the client.
    Preserve,
    /// The endpoint's address as written in the configuration.
    Endpoint,
    /// This name: `{rewrite: NAME}`.
    #[schemars(with = "String")]
    Rewrite(HeaderText),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostRewrite {
    rewrite: HeaderText,
}

impl<'de> Deserialize<'de> for HostHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = HostHeader;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`preserve`, `endpoint` or `{rewrite: NAME}`")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<HostHeader, E> {
                match word {
                    "preserve" => Ok(HostHeader::Preserve),
                    "endpoint" => Ok(HostHeader::Endpoint),
                    _ => Err(E::custom(format!(
                        "`{}` is not a valid `host`: write `preserve`, `endpoint` or `{{rewrite: NAME}}`",
                        word.escape_debug()
                    ))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HostHeader, A::Error> {
                HostRewrite::deserialize(MapAccessDeserializer::new(map)).map(|host| HostHeader::Rewrite(host.rewrite))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl HostHeader {
    /// What a route has that does not say it.
    pub(crate) fn default_of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Mcp => Self::Endpoint,
            Protocol::Http => Self::Preserve,
        }
    }
}

/// `request_headers` and `response_headers` of a route. The edge first applies `remove`, then `set`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// Fields to set. A field that is already there is replaced.
    pub set: BTreeMap<String, HeaderText>,
    /// Fields to remove.
    pub remove: Vec<Header>,
}
