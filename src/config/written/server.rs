//! Sections `server`, `listeners`, `admin`, `identity`, `sessions` and `log` as written.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::units::{Bind, Cidr, Header, Host, SecretSource, Span, WebOrigin};

/// Section `server`. It is read at start; a change is reported as "needs restart".
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Threads that serve connections: a number, or `auto` for one per core (the default). A connection stays on the thread
    /// that had the least to do when it came.
    pub threads: Threads,
    /// How long requests and streams may go on after SIGTERM (default 30s).
    pub grace_period: Span,
}

impl Default for Server {
    fn default() -> Self {
        Self { threads: Threads::Auto, grace_period: Span(Duration::from_secs(30)) }
    }
}

/// How many threads serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Threads {
    /// One per core: the word `auto`.
    #[schemars(with = "String")]
    Auto,
    /// This many.
    Count(usize),
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = Threads;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`auto` or a number from 1 to 1024")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Threads, E> {
                match word {
                    "auto" => Ok(Threads::Auto),
                    _ => Err(E::invalid_type(de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Threads, E> {
                match count {
                    1..=1024 => Ok(Threads::Count(count as usize)),
                    _ => Err(E::invalid_type(de::Unexpected::Unsigned(count), &self)),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// One entry of `listeners`. They are bound at start; certificates are loaded again with every reload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address to listen on; HTTP/1.1 and HTTP/2 share it. `[::]` is all of IPv6 and of IPv4.
    pub address: Bind,
    /// The hosts that this listener answers to; none: any host. Others get 421.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// TLS; without it the listener speaks cleartext.
    pub tls: Option<ListenerTls>,
    /// Proxies in front of the edge whose `X-Forwarded-*` fields are believed.
    #[serde(default)]
    pub trusted_proxies: Vec<Cidr>,
    /// The web pages that may call MCP routes: what `Origin` may be; others get 403. Without it, only the listener's own
    /// origin is accepted, and on a listener that is bound to loopback also every loopback origin. Requests without an
    /// `Origin`, which no browser sent, are not concerned.
    #[serde(default)]
    pub origins: Vec<WebOrigin>,
}

/// `listeners[].tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the authorities of client certificates; with it, a client must show one.
    pub client_ca: Option<PathBuf>,
    /// Also serve clients that show no certificate (default false). Wants `client_ca`.
    #[serde(default)]
    pub client_optional: bool,
}

/// Section `admin`. Read at start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where `/livez`, `/readyz`, `/metrics`, `/status` and `/reload` are served (default 127.0.0.1:9901).
    pub address: Bind,
    /// A bearer token that `POST` requests must show. Required when the address is not loopback.
    pub token: Option<SecretSource>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Bind(std::net::SocketAddr::from(([127, 0, 0, 1], 9901))), token: None }
    }
}

/// Section `identity`: the header fields that tell upstreams who the caller is. Clients cannot set them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// Carries the principal's subject (default `X-User`).
    pub subject_header: Header,
    /// Carries the principal's scopes, separated by spaces (default `X-Scopes`).
    pub scopes_header: Header,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            subject_header: Header(http::HeaderName::from_static("x-user")),
            scopes_header: Header(http::HeaderName::from_static("x-scopes")),
        }
    }
}

/// Section `sessions`: how the ids of MCP sessions, up to revision 2025-11-25, are sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Keys of at least 32 bytes, at most 8: the first seals, all open. Edges that share them open each other's sessions.
    /// Without one, a key is generated at start, and no session outlives the process.
    pub keys: Vec<SecretSource>,
}

/// Section `log`. The format is read at start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines are written to standard output (default json).
    pub format: LogFormat,
    /// Which requests are logged: all (the default), errors, off; read again with every reload.
    pub access: AccessLog,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// `key=value` pairs.
    Text,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLog {
    /// Every request.
    #[default]
    All,
    /// Requests that were refused or failed.
    Errors,
    /// None.
    Off,
}
