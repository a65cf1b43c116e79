//! One immutable generation of everything that reloads.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::watch;

use super::held::Owner;
use crate::auth::{Authenticator, Policy, Provider, UpstreamCredential};
use crate::config;
use crate::config::Config;
use crate::mcp::{KeyRing, ServerMark};
use crate::metrics::RouteMetrics;
use crate::route::Router;
use crate::upstream::Upstream;

/// What a request sees of the configuration, from its start to its end.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first snapshot, one more for each reload.
    pub generation: u64,
    /// The configuration that it was made from.
    pub config: Arc<Config>,
    /// Finds the route of a request.
    pub router: Router<Destination>,
    /// By name.
    pub routes: BTreeMap<Arc<str>, Destination>,
    /// By name.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// By name.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Seals and opens the ids of MCP sessions.
    pub session_keys: KeyRing,
    /// Says when a newer snapshot is in use.
    pub is_replaced: watch::Sender<bool>,
}

impl Snapshot {
    /// Waits until a newer snapshot is in use.
    pub(super) async fn replaced(&self) {
        // This snapshot has the sender, so waiting cannot fail.
        let _ = self.is_replaced.subscribe().wait_for(|is_replaced| *is_replaced).await;
    }
}

/// Where the requests of a route go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To the upstream of the route.
    Server(Arc<ServerContext>),
    /// To the servers that a gateway offers together.
    Gateway(Arc<GatewayContext>),
}

/// A route with everything that decides who may use it.
#[derive(Debug)]
pub struct RouteContext {
    /// The route's configuration.
    pub settings: Arc<config::Route>,
    /// Authenticates callers. `None` on an open route.
    pub authenticator: Option<Authenticator>,
    /// Decides what callers may do.
    pub policy: Policy,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
}

/// A route whose requests go to an upstream.
#[derive(Debug)]
pub struct ServerContext {
    /// The route itself.
    pub route: Arc<RouteContext>,
    /// The upstream that its requests go to.
    pub upstream: Arc<Upstream>,
    /// What the upstream is shown in place of a caller's credential.
    pub credential: Option<Arc<UpstreamCredential>>,
    /// Who the memory for lists of the upstream counts for.
    pub(super) owner: Owner,
}

impl ServerContext {
    /// A route and its upstream. `credential`: what the upstream is shown in place of a caller's credential.
    pub fn new(route: Arc<RouteContext>, upstream: Arc<Upstream>, credential: Option<Arc<UpstreamCredential>>) -> Self {
        let owner = Owner::of("upstream", &*upstream.settings().name);
        Self { route, upstream, credential, owner }
    }
}

/// A route that offers the tools, prompts and resources of several servers.
#[derive(Debug)]
pub struct GatewayContext {
    /// The route itself.
    pub route: Arc<RouteContext>,
    /// How it offers its servers.
    pub settings: Arc<config::Gateway>,
    /// The servers in the order of the configuration.
    pub servers: Vec<GatewayServer>,
}

/// One of the servers of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayServer {
    /// How the gateway offers it.
    pub settings: Arc<config::GatewayServer>,
    /// Its own route, with its upstream.
    pub server: Arc<ServerContext>,
    /// Stands for it in ids.
    pub mark: ServerMark,
    /// The path of its MCP endpoint, as its replicas see it.
    pub target: Arc<str>,
    /// Stands for it in the memory of the edge. Another configuration of the server has another key, so that nothing is remembered of
    /// one that does not exist any more.
    pub key: u64,
}

impl Destination {
    /// The route itself.
    pub fn route(&self) -> &Arc<RouteContext> {
        match self {
            Self::Server(server) => &server.route,
            Self::Gateway(gateway) => &gateway.route,
        }
    }
}

/// A route with an upstream is a route.
impl Deref for ServerContext {
    type Target = RouteContext;

    fn deref(&self) -> &RouteContext {
        &self.route
    }
}
