//! Sections `server`, `listeners`, `admin`, `identity`, `sessions` and `log` as written.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::limits;
use crate::config::units::{Bind, Cidr, Header, Host, SecretSource, Span, WebOrigin};

/// Section `server`. A change needs a restart: a reload reports it, but does not apply it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Threads that serve connections: a number from 1 to 1024, or `auto` for one per core (the default). A new
    /// connection goes to the least busy thread, and stays there.
    pub threads: Threads,
    /// How long requests and streams may continue after SIGTERM, before the edge ends them (default 30s).
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
    /// The word `auto`: one thread per core.
    #[schemars(with = "String")]
    Auto,
    /// This number of threads, from 1 to 1024.
    Count(usize),
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = Threads;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "`auto` or a number from 1 to {}", limits::THREADS)
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Threads, E> {
                match word {
                    "auto" => Ok(Threads::Auto),
                    _ => Err(E::invalid_type(de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Threads, E> {
                match usize::try_from(count) {
                    Ok(count @ 1..=limits::THREADS) => Ok(Threads::Count(count)),
                    _ => Err(E::invalid_type(de::Unexpected::Unsigned(count), &self)),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// One entry of `listeners`. A change needs a restart, but a reload loads the certificates and their keys again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address and port to listen on. HTTP/1.1 and HTTP/2 share them. `[::]` stands for all IPv6 and IPv4
    /// addresses.
    pub address: Bind,
    /// The hosts that this listener serves. A request for another host gets 421. Default: any host. But without this
    /// list, a listener on a loopback address serves MCP routes under loopback hosts only, unless a trusted proxy sent
    /// the request.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// TLS for this listener. Without it, connections are cleartext.
    pub tls: Option<ListenerTls>,
    /// The networks of proxies in front of the edge. The edge believes `trusted_fields` only from these addresses (default:
    /// from none).
    #[serde(default)]
    pub trusted_proxies: Vec<Cidr>,
    /// The fields that these proxies set, whatever their own clients send. Default: `X-Forwarded-For`, `X-Forwarded-Proto`,
    /// `X-Forwarded-Host` and `X-Request-Id`. List only those that they do set: the others come from clients.
    #[serde(default = "TrustedField::defaults")]
    pub trusted_fields: Vec<TrustedField>,
    /// The origins of web pages that may send requests. A request with another `Origin` gets 403, unless `cors` of the
    /// route lists the origin. Without this list, MCP routes accept the listener's own origin only (a listener on
    /// loopback without `hosts` also every loopback origin), and other routes accept every origin. Requests without an
    /// `Origin` are not affected.
    #[serde(default)]
    pub origins: Vec<WebOrigin>,
    /// Whether upstreams get fields whose names have underscores (default false, as in nginx). Many servers read `X_User` as
    /// `X-User`.
    #[serde(default)]
    pub underscores_in_headers: bool,
}

/// A field in which a proxy tells what it knows of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TrustedField {
    /// The addresses of the client and of proxies.
    #[serde(rename = "X-Forwarded-For")]
    XForwardedFor,
    /// `http` or `https`.
    #[serde(rename = "X-Forwarded-Proto")]
    XForwardedProto,
    /// The host that the client asked for. It must be among `hosts` of the listener.
    #[serde(rename = "X-Forwarded-Host")]
    XForwardedHost,
    /// All of this in one field (RFC 7239). It comes before the others.
    Forwarded,
    /// The id of the request. It replaces the edge's own if it has 1 to 128 letters, digits and `-._~:+/=@`.
    #[serde(rename = "X-Request-Id")]
    XRequestId,
}

impl TrustedField {
    pub(crate) fn defaults() -> Vec<Self> {
        vec![Self::XForwardedFor, Self::XForwardedProto, Self::XForwardedHost, Self::XRequestId]
    }

    /// The name of the field, in lower case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::XForwardedProto => "x-forwarded-proto",
            Self::XForwardedHost => "x-forwarded-host",
            Self::Forwarded => "forwarded",
            Self::XRequestId => "x-request-id",
        }
    }
}

/// `listeners[].tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// A PEM file with the certificate chain. The server's own certificate comes first.
    pub certificate: PathBuf,
    /// A PEM file with the private key of the certificate.
    pub key: PathBuf,
    /// Further certificates. A client that asks for a host (SNI) gets the one whose DNS names include it, else
    /// `certificate`.
    #[serde(default)]
    pub sni: Vec<SniCertificate>,
    /// A PEM file with the authorities that issue client certificates. With it, every client must present a
    /// certificate, unless `client_optional` is true.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are served too (default false). Needs `client_ca`.
    #[serde(default)]
    pub client_optional: bool,
}

/// One entry of `listeners[].tls.sni`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SniCertificate {
    /// A PEM file with the certificate chain. The server's own certificate comes first. Clients get it when they ask for
    /// one of its DNS names; `*.example.com` stands for one label.
    pub certificate: PathBuf,
    /// A PEM file with the private key of the certificate.
    pub key: PathBuf,
}

/// Section `admin`. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address that serves `/livez`, `/readyz`, `/metrics`, `/status`, `/jwks.json`, `/reload` and `/auth/purge`
    /// (default 127.0.0.1:9901).
    pub address: Bind,
    /// A bearer token that `POST` requests must carry. Required when `address` is not a loopback address.
    pub token: Option<SecretSource>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Bind(std::net::SocketAddr::from(([127, 0, 0, 1], 9901))), token: None }
    }
}

/// Section `identity`: the header fields that tell upstreams who the caller is. The edge removes these fields from the
/// requests of clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The field with the caller's subject (default `X-User`).
    pub subject_header: Header,
    /// The field with the caller's scopes, separated by spaces (default `X-Scopes`).
    pub scopes_header: Header,
    /// The field with the name of the provider that knows the caller (default `X-User-Provider`). The same subject at another
    /// provider is somebody else.
    pub provider_header: Header,
}

impl Identity {
    /// The three fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &http::HeaderName> {
        [&self.subject_header.0, &self.scopes_header.0, &self.provider_header.0].into_iter()
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            subject_header: Header(http::HeaderName::from_static("x-user")),
            scopes_header: Header(http::HeaderName::from_static("x-scopes")),
            provider_header: Header(http::HeaderName::from_static("x-user-provider")),
        }
    }
}

/// Section `sessions`: how the edge encrypts the ids of MCP sessions, which revisions up to 2025-11-25 have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// At most 8 keys of at least 32 bytes each. The first key encrypts new ids, and every key decrypts ids. Edges that
    /// share their keys accept each other's sessions. Without this list, the edge generates a key at start, and no
    /// session outlives the process.
    pub keys: Vec<SecretSource>,
}

/// Section `log`. A change of `format` needs a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines are written to standard output (default `json`).
    pub format: LogFormat,
    /// Which requests are logged: `all` (the default), `errors` or `off`. A reload applies a change.
    pub access: AccessLog,
}

/// The format of a log line.
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
    /// Requests with a status of 400 or more, and requests that failed.
    Errors,
    /// No requests.
    Off,
}
