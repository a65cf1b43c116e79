//! Section `routes` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::credential::Credential;
use super::policy::{Cors, RouteSessions, Rule, rules};
use crate::config::units::{Header, HeaderText, Host, ScopeName, Size, Span, Url};

/// One route: which requests, where they go, and who may send them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The path prefix, matched on segment boundaries; the longest prefix wins.
    pub path: String,
    /// The hosts; none: any host. A route of the exact host comes before one of a wildcard, and that before one of any host.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// The name in metrics, logs and `/status` (default: the path, behind the first host if there is one).
    pub name: Option<String>,
    /// The name of the upstream.
    pub upstream: String,
    /// What the route carries (default `http`).
    #[serde(default)]
    pub protocol: Protocol,
    /// How the path changes on its way to the upstream.
    #[serde(default)]
    pub rewrite: Rewrite,
    /// Who may use the route: providers and scopes, or the word `none`.
    pub auth: RouteAuth,
    /// Whether the client's `Authorization` field is sent on to the upstream (default false).
    #[serde(default)]
    pub forward_token: bool,
    /// What the upstream is shown in place of the client's credential.
    pub credential: Option<Credential>,
    /// Which MCP methods callers may use, such as `tools/call`. In this list and the next three, the first rule that
    /// matches decides, and what no rule matches is denied: `{match: "*"}` at the end allows the rest, `[]` denies all.
    /// Without the list, all are allowed. Methods that every session needs (`initialize`, `ping`, `server/discover`,
    /// `logging/setLevel`, `notifications/*`) are allowed unless a rule says otherwise; methods that no revision of MCP has
    /// are denied on a route with any rules. Wants `protocol: mcp`, as all keys up to `cancel_on_disconnect` do.
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
    /// What becomes of MCP sessions.
    pub sessions: Option<RouteSessions>,
    /// A comment is sent on event streams that are silent for so long, at least 1s, so that nothing between takes them for
    /// dead (default: never).
    pub sse_keepalive: Option<Span>,
    /// For revisions before 2026-07-28: whether a client that leaves ends its request at the upstream (default false).
    pub cancel_on_disconnect: Option<bool>,
    /// Web pages of other origins that may use the route, of any protocol.
    pub cors: Option<Cors>,
    /// Protocols that a client may upgrade to; only `websocket` exists.
    #[serde(default)]
    pub upgrade: Vec<Upgrade>,
    /// Which `Host` the upstream sees (default `preserve`).
    #[serde(default)]
    pub host: HostHeader,
    /// Changes of the request's fields.
    #[serde(default)]
    pub request_headers: HeaderChanges,
    /// Changes of the response's fields.
    #[serde(default)]
    pub response_headers: HeaderChanges,
    /// The largest request body; default: `limits.body_bytes`.
    pub body_bytes: Option<Size>,
    /// Silence within a stream; default: the upstream's `timeouts.idle`.
    pub idle: Option<Span>,
}

/// What a route carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The Model Context Protocol over streamable HTTP.
    Mcp,
    /// Anything: WebSocket, gRPC, A2A, REST.
    #[default]
    Http,
}

/// `rewrite` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Whether the matched prefix is taken off (default true).
    pub strip_prefix: Option<bool>,
    /// What takes the matched prefix's place. Excludes `strip_prefix`.
    pub prefix: Option<String>,
}

/// `auth` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RouteAuth {
    /// The word `none`: anybody.
    #[schemars(with = "String")]
    None,
    /// Callers that a provider knows and that have all scopes.
    Required(RequiredAuth),
}

/// `auth` of a route that is not open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredAuth {
    /// The names of the providers that may validate the caller; which one does is told by what the credential looks like.
    pub providers: Vec<String>,
    /// All of these scopes are needed.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// The URL of this resource as clients know it (RFC 9728 `resource`). Default: made from the request.
    pub public_url: Option<Url>,
    /// One of these must be in a token's `aud`, beside what its provider asks. Default: the providers' own lists, and
    /// `public_url` for providers that have none, so that a token for one route does not open another.
    pub audiences: Option<Vec<String>>,
    /// What becomes of open streams whose credential is revoked, or of event streams without an end (GET,
    /// `subscriptions/listen`) and WebSockets whose credential ends (default `close`).
    #[serde(default, skip_serializing_if = "OpenStreams::is_default")]
    pub open_streams: OpenStreams,
}

/// What becomes of open streams whose credential is no longer good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenStreams {
    /// They are closed.
    #[default]
    Close,
    /// They go on to their own end.
    Finish,
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
                        "`{}` is no auth: write `{{providers: [NAME], scopes: [SCOPE]}}`, or `none` for an open route",
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

/// What a client may upgrade to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upgrade {
    /// RFC 6455.
    Websocket,
}

/// Which `Host` the upstream sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// The client's.
    #[default]
    Preserve,
    /// The endpoint's address as written in the configuration.
    Endpoint,
    /// This one: `{rewrite: NAME}`.
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
                        "`{}` is no host setting: write `preserve`, `endpoint` or `{{rewrite: NAME}}`",
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

/// `request_headers` and `response_headers` of a route: first `remove`, then `set`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// Fields to set, in place of any that are there.
    pub set: BTreeMap<String, HeaderText>,
    /// Fields to take away.
    pub remove: Vec<Header>,
}
