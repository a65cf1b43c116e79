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
    /// The replicas.
    pub endpoints: Vec<Endpoint>,
    /// How a replica is chosen (default `least_request`).
    #[serde(default)]
    pub balance: Balance,
    /// Active health checks; without them every endpoint counts as healthy.
    pub health: Option<Health>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// TLS to the replicas; without it the connection is cleartext.
    pub tls: Option<UpstreamTls>,
    /// Speak HTTP/2 to the replicas (default false): with TLS by ALPN, else with prior knowledge.
    #[serde(default)]
    pub http2: bool,
    /// How often endpoints that are names are resolved again (default 30s).
    #[serde(default = "default_resolve")]
    pub resolve: Span,
}

pub(crate) fn default_resolve() -> Span {
    Span(Duration::from_secs(30))
}

/// One entry of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `ADDRESS:PORT` or `NAME:PORT`; a name stands for all addresses that it resolves to.
    pub address: String,
    /// Its share of the requests, relative to the others, from 1 to 256 (default 1).
    #[serde(default = "default_weight")]
    pub weight: u64,
}

fn default_weight() -> u64 {
    1
}

/// How a replica is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// Of two random ones, the one with fewer requests in flight for its weight.
    #[default]
    LeastRequest,
    /// At random, by weight.
    Random,
    /// The same key goes to the same replica (Ketama consistent hashing): `{hash: {header: NAME}}` and so on.
    #[schemars(with = "HashOn")]
    Hash(HashOn),
}

/// What `balance: {hash: ...}` hashes: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HashOn {
    /// A field of the request.
    pub header: Option<Header>,
    /// A cookie of the request.
    pub cookie: Option<String>,
    /// The client's address.
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
                        "`{}` is no balance: write `round_robin`, `least_request`, `random` or `{{hash: {{header: NAME}}}}`",
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

/// `health`: exactly one of `tcp`, `http` and `mcp`, and when to believe it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// A connection is enough: `tcp: {}`.
    pub tcp: Option<TcpProbe>,
    /// A request and its status.
    pub http: Option<HttpProbe>,
    /// A real MCP exchange.
    pub mcp: Option<McpProbe>,
    /// Time between two probes of an endpoint (default 5s); each is moved by up to a tenth of it at random.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long a probe may take in all (default 2s).
    #[serde(default = "default_probe_timeout")]
    pub timeout: Span,
    /// Successes in a row that make an endpoint healthy (default 2).
    #[serde(default = "default_healthy")]
    pub healthy: usize,
    /// Failures in a row that make an endpoint unhealthy (default 3).
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

/// `health.tcp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {}

/// `health.http`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path and query (default `/`).
    #[serde(default = "root_path")]
    pub path: String,
    /// The method (default GET).
    #[serde(default = "default_method")]
    pub method: Verb,
    /// The expected status (default: any 2xx).
    pub status: Option<u16>,
    /// Fields to send.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// A bearer token to send.
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
    /// The revision to speak (default 2025-11-25): `initialize` and DELETE, from 2026-07-28 on `server/discover`.
    #[serde(default)]
    pub revision: Revision,
    /// A bearer token to send.
    pub token: Option<SecretSource>,
}

fn mcp_path() -> String {
    "/mcp".to_owned()
}

/// A revision of the protocol that a probe can speak.
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
    /// For a connection, TLS included (default 1s).
    pub connect: Span,
    /// Until the response head is there (default 60s).
    pub response: Span,
    /// Silence within a stream (default 10m). A route may set its own.
    pub idle: Span,
    /// How long an idle connection is kept for reuse (default 4s: uvicorn and Node close theirs after 5s).
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
    /// The name that the certificate must have, also sent as SNI. Default: the name of the endpoint's address.
    pub server_name: Option<String>,
    /// PEM file with the authorities to trust; default: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate that the edge shows. Wants `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}
