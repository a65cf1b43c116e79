//! The checked configuration: every name is defined, no pool is empty, no weight is zero, and all files that it names
//! were read.

pub(super) mod auth;
pub(super) mod credential;
pub(super) mod gateway;
pub(super) mod key_pair;
pub(super) mod outbound;
pub(super) mod policy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use super::limits::Limits;
use super::written::auth::Cache;
use super::written::route::{HostHeader, OpenStreams, Protocol, Refusals};
use super::written::server::{Identity, Log, Server};
use super::written::upstream::{Balance, Forwarded, Revision, Timeouts};
use crate::config::written::TrustedField;
use crate::types::{HostPattern, OriginPattern, PublicUrl, ScopeSet, Secret};
use auth::Provider;
use credential::{Assertions, Credential};
use gateway::Gateway;
use key_pair::KeyPair;
use outbound::Outbound;
use policy::{Cors, Policy, RouteSessions};

/// The whole configuration of an edge.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings of the process.
    pub server: Server,
    /// The listeners; at least one.
    pub listeners: Vec<Listener>,
    /// The admin listener.
    pub admin: Admin,
    /// Limits that an operator may set.
    pub limits: Limits,
    /// The header fields that tell upstreams who the caller is.
    pub identity: Identity,
    /// The keys that seal MCP session ids.
    pub sessions: Sessions,
    /// The issuer and the keys of the assertions that tell upstreams who the caller is, if section `assertions` is
    /// written.
    pub assertions: Option<Assertions>,
    /// Which log lines are written, and in which format.
    pub log: Log,
    /// The token cache.
    pub cache: Cache,
    /// The addresses that authentication may connect to.
    pub outbound: Outbound,
    /// The providers by name.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// The upstreams by name.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// The routes in the order of the files. No two routes match the same requests with the same precedence.
    pub routes: Vec<Arc<Route>>,
    /// All files that the configuration was read from, including certificates, keys and secrets.
    pub files: Vec<ConfigFile>,
    /// The folders in which an `include` may find further files.
    pub include_folders: Vec<PathBuf>,
}

/// A file that the configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The path as written. A relative path is joined to the folder of the file that names it.
    pub path: PathBuf,
    /// The SHA-256 digest of the content that was read, in hexadecimal. It shows whether the file has changed.
    pub sha256: String,
    /// False for certificates, keys, secrets and other files that the configuration names: their digests are never
    /// shown.
    pub is_config: bool,
}

/// An address that the edge listens on, and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The hosts that this listener serves; empty: any host.
    pub hosts: Vec<HostPattern>,
    /// The TLS settings; `None`: cleartext.
    pub tls: Option<ListenerTls>,
    /// The proxies that are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The fields in which they are believed.
    pub trusted_fields: Vec<TrustedField>,
    /// Whether fields whose names have underscores are passed on.
    pub underscores_in_headers: bool,
    /// The values of `Origin` that MCP routes accept; empty: the listener's own origin, and any loopback origin when
    /// `address` is loopback.
    pub origins: Vec<OriginPattern>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// The edge's certificate and its private key.
    pub identity: KeyPair,
    /// Further certificates: a client that asks for one of their DNS names gets that one. No name stands in two of them.
    pub sni: Vec<KeyPair>,
    /// The authorities that client certificates are verified against; `None`: the listener requests no client
    /// certificate.
    pub client_ca: Option<Vec<CertificateDer<'static>>>,
    /// Whether clients without a certificate are served too.
    pub client_optional: bool,
}

/// Section `sessions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    /// The first key seals session ids; every key opens them. At most [`SESSION_KEYS`](super::limits::SESSION_KEYS)
    /// keys, each of at least [`SESSION_KEY_BYTES`](super::limits::SESSION_KEY_BYTES) bytes, no two the same. Empty: a
    /// key is generated at start.
    pub keys: Vec<Secret>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The bearer token that `POST` requests must carry; `None`: no token is required.
    pub token: Option<Secret>,
}

/// An upstream: a pool of replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The upstream's name.
    pub name: Arc<str>,
    /// The endpoints; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How the health of the endpoints is checked; `None`: it is not checked.
    pub health: Option<Health>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// TLS to the endpoints; `None`: cleartext.
    pub tls: Option<UpstreamTls>,
    /// Whether the edge uses HTTP/2 to the endpoints.
    pub http2: bool,
    /// The `Host` of probes: the one that requests get. `None`: the endpoint's own.
    pub probe_host: Option<HeaderValue>,
    /// What the endpoints are told about the client.
    pub forwarded: Forwarded,
    /// How often the names of endpoints are resolved.
    pub resolve: Duration,
}

/// An endpoint of an upstream, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host name or IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The weight, from 1 to [`WEIGHT`](super::limits::WEIGHT).
    pub weight: u16,
}

impl Endpoint {
    /// The socket address, if `host` is an IP address; `None` for a host name, which must be resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// The endpoint in the form of a `Host` field. The default port is left out: servers compare the field with their name (RFC 9110
    /// section 4.2.3).
    pub fn authority(&self, tls: bool) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let default = if tls { 443 } else { 80 };
        if *port == default { host } else { format!("{host}:{port}") }
    }
}

/// How the health of endpoints is checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What a probe does.
    pub probe: Probe,
    /// The time between two probes of an endpoint.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// How many probes in a row must succeed before an unhealthy endpoint counts as healthy.
    pub healthy: usize,
    /// How many probes in a row must fail before a healthy endpoint counts as unhealthy.
    pub unhealthy: usize,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// It opens a TCP connection.
    Tcp,
    /// It sends an HTTP request.
    Http {
        /// The method.
        method: Method,
        /// The path and query.
        path: String,
        /// The expected status; `None`: any 2xx.
        status: Option<StatusCode>,
        /// Header fields to send.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// A bearer token to send.
        token: Option<Secret>,
    },
    /// It makes an MCP exchange.
    Mcp {
        /// The path of the MCP endpoint.
        path: String,
        /// The MCP revision, which decides the messages that the probe sends.
        revision: Revision,
        /// A bearer token to send.
        token: Option<Secret>,
    },
}

/// TLS to an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// The name that the certificate must have; `None`: the endpoint's host.
    pub server_name: Option<String>,
    /// The authorities to trust; `None`: those of the system.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// The client certificate that the edge presents, and its private key.
    pub identity: Option<KeyPair>,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The route's name in metrics and logs; unique.
    pub name: Arc<str>,
    /// The path prefix in canonical form, with a leading slash and without a trailing slash. The prefix of the root is
    /// empty.
    pub prefix: String,
    /// The hosts that the route matches; empty: any host.
    pub hosts: Vec<HostPattern>,
    /// Where its requests go.
    pub destination: Destination,
    /// The protocol that the route carries.
    pub protocol: Protocol,
    /// How the path changes on its way to the upstream.
    pub rewrite: Rewrite,
    /// Who may use the route; `None`: everybody.
    pub auth: Option<Authentication>,
    /// Which MCP operations callers may do. It has no rules on routes that do not carry MCP.
    pub policy: Policy,
    /// How the route handles MCP sessions.
    pub sessions: RouteSessions,
    /// The web pages that may use the route, in addition to those that the listener allows; `None`: no others.
    pub cors: Option<Cors>,
    /// The edge sends a comment on an event stream that has been silent for this long; `None`: never.
    pub sse_keepalive: Option<Duration>,
    /// For revisions up to 2025-11-25: whether a client that disconnects cancels its request at the upstream.
    pub cancel_on_disconnect: bool,
    /// How a client is told that a rule refuses its request.
    pub refusals: Refusals,
    /// Whether the client's `Authorization` field is forwarded to the upstream.
    pub forward_token: bool,
    /// The credential that the upstream gets in place of the client's.
    pub credential: Option<Credential>,
    /// Whether clients may upgrade to WebSocket.
    pub websocket: bool,
    /// The `Host` that the upstream gets.
    pub host: HostHeader,
    /// Changes of the request's header fields.
    pub request_headers: Vec<HeaderChange>,
    /// Changes of the response's header fields.
    pub response_headers: Vec<HeaderChange>,
    /// The largest request body in bytes.
    pub body_bytes: u64,
    /// How long a stream may be silent; `None`: the upstream's `timeouts.idle`.
    pub idle: Option<Duration>,
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// To the upstream with this name.
    Upstream(Arc<str>),
    /// To the servers of a gateway.
    Gateway(Arc<Gateway>),
}

impl Route {
    /// The name of the upstream. `None` for a gateway.
    pub fn upstream(&self) -> Option<&Arc<str>> {
        match &self.destination {
            Destination::Upstream(name) => Some(name),
            Destination::Gateway(_) => None,
        }
    }
}

/// How a path changes on its way to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The matched prefix is removed.
    Strip,
    /// The path does not change.
    Keep,
    /// The matched prefix is replaced by this one, which is in canonical form and has no trailing slash.
    Replace(String),
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Authentication {
    /// The names of the providers that may validate the credential; at least one.
    pub providers: Vec<Arc<str>>,
    /// The scopes that a caller needs: all of them.
    pub scopes: ScopeSet,
    /// The URL of the resource as clients know it (RFC 9728 `resource`).
    pub public_url: Option<PublicUrl>,
    /// Which audiences the route accepts, in addition to the check of the provider.
    pub audiences: RouteAudiences,
    /// Whether open streams end when their credential ends or is revoked.
    pub open_streams: OpenStreams,
}

/// Which `aud` a route accepts, for credentials that name their audiences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAudiences {
    /// The route accepts every audience that the provider accepts.
    OfProviders,
    /// One of these must be in `aud`, in addition to what the provider requires.
    Listed(Vec<String>),
    /// The route's own URL must be in `aud` of credentials of the named providers, which list no audiences themselves.
    Own(PublicUrl, Vec<Arc<str>>),
}

/// One change of a message's header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Sets the field to this value, and replaces existing fields of this name.
    Set(HeaderName, HeaderValue),
    /// Removes all fields of this name.
    Remove(HeaderName),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case D4: servers compare `Host` with their name, and hosted ones have no port in it.
    #[test]
    fn the_default_port_is_not_in_the_host_of_an_endpoint() {
        for (host, port, tls, expected) in [
            ("name", 443, true, "name"),
            ("name", 80, false, "name"),
            ("name", 443, false, "name:443"),
            ("name", 80, true, "name:80"),
            ("::1", 443, true, "[::1]"),
            ("::1", 8443, true, "[::1]:8443"),
        ] {
            let endpoint = Endpoint { host: host.to_owned(), port, weight: 1 };
            assert_eq!(endpoint.authority(tls), expected);
        }
    }
}
