//! The checked configuration: no dangling name, no empty pool, no zero weight, all files read.

pub(super) mod auth;
pub(super) mod credential;
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
use super::written::route::{HostHeader, OpenStreams, Protocol};
use super::written::server::{Identity, Log, Server};
use super::written::upstream::{Balance, Revision, Timeouts};
use crate::types::{HostPattern, OriginPattern, ScopeSet, Secret};
use auth::Provider;
use credential::{Assertions, Credential};
use key_pair::KeyPair;
use outbound::Outbound;
use policy::{Cors, Policy, RouteSessions};

/// Everything that an edge is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Process settings.
    pub server: Server,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// The admin listener.
    pub admin: Admin,
    /// Bounds.
    pub limits: Limits,
    /// What upstreams are told about callers.
    pub identity: Identity,
    /// How MCP session ids are sealed.
    pub sessions: Sessions,
    /// How the edge says to upstreams who is calling.
    pub assertions: Option<Assertions>,
    /// Log lines.
    pub log: Log,
    /// The token cache.
    pub cache: Cache,
    /// Where authentication may connect to.
    pub outbound: Outbound,
    /// By name.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// By name.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// In the order of the files; no two match the same requests with the same precedence.
    pub routes: Vec<Arc<Route>>,
    /// All files that were read.
    pub files: Vec<ConfigFile>,
    /// Folders in which an `include` may find further files.
    pub include_folders: Vec<PathBuf>,
}

/// A file that the configuration was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// As written, relative paths joined to the folder of the file that names them.
    pub path: PathBuf,
    /// The digest of what was read, in hex; it tells whether a file has changed.
    pub sha256: String,
    /// False for certificates, keys and secrets, whose digests are shown to nobody.
    pub is_config: bool,
}

/// A bound address and its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// Which hosts; none: any.
    pub hosts: Vec<HostPattern>,
    /// TLS, when it is spoken.
    pub tls: Option<ListenerTls>,
    /// Whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What `Origin` may be on MCP routes; none: the listener's own origin, and any loopback origin when `address` is
    /// loopback.
    pub origins: Vec<OriginPattern>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// What the edge shows.
    pub identity: KeyPair,
    /// The authorities of client certificates, when they are asked for.
    pub client_ca: Option<Vec<CertificateDer<'static>>>,
    /// Whether clients may show none.
    pub client_optional: bool,
}

/// Section `sessions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    /// The first seals, all open; at most [`SESSION_KEYS`](super::limits::SESSION_KEYS), each of at least
    /// [`SESSION_KEY_BYTES`](super::limits::SESSION_KEY_BYTES), no two the same. None: one is generated at start.
    pub keys: Vec<Secret>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// What writes must show.
    pub token: Option<Secret>,
}

/// A pool of replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// How one is chosen.
    pub balance: Balance,
    /// How their health is known.
    pub health: Option<Health>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// TLS to them.
    pub tls: Option<UpstreamTls>,
    /// HTTP/2 to them.
    pub http2: bool,
    /// How often names are resolved.
    pub resolve: Duration,
}

/// A replica as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// From 1 to 256.
    pub weight: u16,
}

impl Endpoint {
    /// The address when it needs no resolving.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// `HOST:PORT`, as a `Host` field has it.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// When an endpoint counts as healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is tried.
    pub probe: Probe,
    /// Time between two probes.
    pub interval: Duration,
    /// The most that one may take.
    pub timeout: Duration,
    /// Successes in a row.
    pub healthy: usize,
    /// Failures in a row.
    pub unhealthy: usize,
}

/// What a health check tries.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// A connection.
    Tcp,
    /// A request.
    Http {
        /// Method.
        method: Method,
        /// Path and query.
        path: String,
        /// Expected; `None`: any 2xx.
        status: Option<StatusCode>,
        /// To send.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// To send as bearer.
        token: Option<Secret>,
    },
    /// An MCP exchange.
    Mcp {
        /// Path of the MCP endpoint.
        path: String,
        /// Which messages.
        revision: Revision,
        /// To send as bearer.
        token: Option<Secret>,
    },
}

/// TLS to an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// The name to verify; `None`: that of the endpoint.
    pub server_name: Option<String>,
    /// The authorities to trust; `None`: the system's.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// What the edge shows.
    pub identity: Option<KeyPair>,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in metrics and logs; unique.
    pub name: Arc<str>,
    /// Canonical, with a leading slash and without a trailing one; the root is empty.
    pub prefix: String,
    /// None: any host.
    pub hosts: Vec<HostPattern>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What it carries.
    pub protocol: Protocol,
    /// How the path changes.
    pub rewrite: Rewrite,
    /// Who may use it; `None`: anybody.
    pub auth: Option<Authentication>,
    /// Which operations callers may do; nothing is written on routes that are not of MCP.
    pub policy: Policy,
    /// What becomes of MCP sessions.
    pub sessions: RouteSessions,
    /// Which web pages may use it; `None`: those of the listener's own origin.
    pub cors: Option<Cors>,
    /// A comment is sent on event streams that are silent for so long; `None`: never.
    pub sse_keepalive: Option<Duration>,
    /// Up to revision 2025-11-25: whether a client that leaves ends its request at the upstream.
    pub cancel_on_disconnect: bool,
    /// Whether the client's `Authorization` field goes on.
    pub forward_token: bool,
    /// What the upstream is shown in its place.
    pub credential: Option<Credential>,
    /// Whether clients may upgrade to WebSocket.
    pub websocket: bool,
    /// The upstream's `Host`.
    pub host: HostHeader,
    /// Changes on the way there.
    pub request_headers: Vec<HeaderChange>,
    /// Changes on the way back.
    pub response_headers: Vec<HeaderChange>,
    /// The largest request body in bytes.
    pub body_bytes: u64,
    /// Silence within a stream, when the route has its own limit.
    pub idle: Option<Duration>,
}

/// How a path changes on its way to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The matched prefix goes.
    Strip,
    /// Nothing changes.
    Keep,
    /// The matched prefix becomes this one, canonical and without a trailing slash.
    Replace(String),
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Authentication {
    /// Names of providers; at least one.
    pub providers: Vec<Arc<str>>,
    /// All are needed.
    pub scopes: ScopeSet,
    /// The URL of the resource as clients know it.
    pub public_url: Option<reqwest::Url>,
    /// What tokens must be meant for beside what their providers ask.
    pub audiences: RouteAudiences,
    /// Whether streams end with the credential.
    pub open_streams: OpenStreams,
}

/// What `aud` must be on a route, for credentials that say whom they are meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAudiences {
    /// What the providers ask is enough.
    OfProviders,
    /// One of these, whatever the provider asks.
    Listed(Vec<String>),
    /// This, the route's own URL, for the credentials of these providers: they list no audiences.
    Own(String, Vec<Arc<str>>),
}

/// One change of a message's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Put this in place of any that is there.
    Set(HeaderName, HeaderValue),
    /// Take it away.
    Remove(HeaderName),
}
