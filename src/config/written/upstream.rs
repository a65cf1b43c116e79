//! Section `upstreams` as written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::units::{Header, HeaderText, SecretSource, Span, Verb};

/// One upstream: a pool of replicas of one server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The replicas, at least 1 and at most 1024.
    pub endpoints: Vec<Endpoint>,
    /// How the edge chooses a replica for a request (default `least_request`).
    #[serde(default)]
    pub balance: Balance,
    /// Active health checks. Without them, every endpoint counts as healthy.
    pub health: Option<Health>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// TLS to the replicas. Without it, connections are cleartext.
    pub tls: Option<UpstreamTls>,
    /// Whether the edge uses HTTP/2 to the replicas (default false): by ALPN with `tls`, by prior knowledge without.
    #[serde(default)]
    pub http2: bool,
    /// What the edge tells the replicas about the client and its own place (default `full`).
    #[serde(default)]
    pub forwarded: Forwarded,
    /// How often the names of endpoints are resolved again (default 30s).
    #[serde(default = "default_resolve")]
    pub resolve: Span,
}

pub(crate) fn default_resolve() -> Span {
    Span(Duration::from_secs(30))
}

/// What replicas are told about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forwarded {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    Full,
    /// None of them. For servers of others: they could log addresses that are not theirs to know, or take `http` in
    /// `X-Forwarded-Proto` for their own scheme.
    None,
}

/// One entry of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `ADDRESS:PORT` or `NAME:PORT`. A name stands for all addresses that it resolves to.
    pub address: String,
    /// The endpoint's share of the requests, relative to the other endpoints, from 1 to 256 (default 1).
    #[serde(default = "default_weight")]
    pub weight: u64,
}

fn default_weight() -> u64 {
    1
}

/// How the edge chooses a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Each replica in turn, by weight.
    RoundRobin,
    /// Of two random replicas, the one with fewer requests in flight for its weight.
    #[default]
    LeastRequest,
    /// A random replica, by weight.
    Random,
    /// Requests with the same key go to the same replica (Ketama consistent hashing): `{hash: {header: NAME}}`.
    /// Requests without the key use `least_request`.
    #[schemars(with = "HashOn")]
    Hash(HashOn),
}

/// The key of `balance: {hash: ...}`: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HashOn {
    /// The value of this field of the request.
    pub header: Option<Header>,
    /// The value of this cookie.
    pub cookie: Option<String>,
    /// The client's IP address.
    pub client_address: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashBalance {
    hash: HashOn,
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = Balance;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`round_robin`, `least_request`, `random` or `{hash: {header: NAME}}`")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Balance, E> {
                match word {
                    "round_robin" => Ok(Balance::RoundRobin),
                    "least_request" => Ok(Balance::LeastRequest),
                    "random" => Ok(Balance::Random),
                    _ => Err(E::custom(format!(
                        "`{}` is not a valid balance: write `round_robin`, `least_request`, `random` or \
                         `{{hash: {{header: NAME}}}}`",
                        word.escape_debug()
                    ))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Balance, A::Error> {
                HashBalance::deserialize(MapAccessDeserializer::new(map)).map(|chosen| Balance::Hash(chosen.hash))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// `health` of an upstream: exactly one of `tcp`, `http` and `mcp`, and when an endpoint counts as healthy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Checks that a connection can be made: `tcp: {}`.
    pub tcp: Option<TcpProbe>,
    /// Sends an HTTP request and checks the status of the response.
    pub http: Option<HttpProbe>,
    /// Sends an MCP request and checks the answer.
    pub mcp: Option<McpProbe>,
    /// The time between two probes of an endpoint (default 5s). Each probe starts later by a random time of up to a
    /// tenth of it.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long a whole probe may take (default 2s).
    #[serde(default = "default_probe_timeout")]
    pub timeout: Span,
    /// How many probes in a row must succeed to make an endpoint healthy (default 2).
    #[serde(default = "default_healthy")]
    pub healthy: usize,
    /// How many probes in a row must fail to make an endpoint unhealthy (default 3).
    #[serde(default = "default_unhealthy")]
    pub unhealthy: usize,
}

fn default_interval() -> Span {
    Span(Duration::from_secs(5))
}

fn default_probe_timeout() -> Span {
    Span(Duration::from_secs(2))
}

fn default_healthy() -> usize {
    2
}

fn default_unhealthy() -> usize {
    3
}

/// `health.tcp`. It has no keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {}

/// `health.http`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path and query of the request (default `/`).
    #[serde(default = "root_path")]
    pub path: String,
    /// The method of the request (default `GET`).
    #[serde(default = "default_method")]
    pub method: Verb,
    /// The status that the response must have (default: any 2xx).
    pub status: Option<u16>,
    /// Header fields of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// A bearer token for the request.
    pub token: Option<SecretSource>,
}

fn root_path() -> String {
    "/".to_owned()
}

fn default_method() -> Verb {
    Verb(http::Method::GET)
}

/// `health.mcp`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpProbe {
    /// The path of the MCP endpoint on the replica (default `/mcp`).
    #[serde(default = "mcp_path")]
    pub path: String,
    /// The MCP revision that the probe uses (default 2025-11-25). Up to that one, it sends `initialize`, and DELETE to
    /// end the session; from 2026-07-28 on, it sends `server/discover`.
    #[serde(default)]
    pub revision: Revision,
    /// A bearer token for the requests.
    pub token: Option<SecretSource>,
}

fn mcp_path() -> String {
    "/mcp".to_owned()
}

/// An MCP revision that a probe can use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the published ones")]
pub enum Revision {
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    #[default]
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
    #[serde(rename = "2026-07-28")]
    V2026_07_28,
}

/// `timeouts` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// How long connecting may take, TLS included (default 1s).
    pub connect: Span,
    /// How long the edge waits for the response head (default 60s).
    pub response: Span,
    /// How long a stream may be silent (default 10m). A route may set its own `idle`.
    pub idle: Span,
    /// How long an idle connection is kept for reuse (default 4s, because uvicorn and Node close theirs after 5s).
    pub keepalive: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span(Duration::from_secs(1)),
            response: Span(Duration::from_secs(60)),
            idle: Span(Duration::from_secs(600)),
            keepalive: Span(Duration::from_secs(4)),
        }
    }
}

/// `tls` of an upstream. The replica's certificate is always verified.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name that the certificate must have. The edge also sends it as SNI. Default: the host of the endpoint's
    /// address.
    pub server_name: Option<String>,
    /// A PEM file with the certificate authorities to trust. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// A PEM file with the client certificate that the edge presents. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the private key of the client certificate. Needs `certificate`.
    pub key: Option<PathBuf>,
}
