//! One immutable generation of everything that reloads.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::{Authenticator, Policy, Provider, UpstreamCredential};
use crate::config;
use crate::config::Config;
use crate::mcp::KeyRing;
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
    pub router: Router<Arc<RouteContext>>,
    /// By name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteContext>>,
    /// By name.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// By name.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Seals and opens the ids of MCP sessions.
    pub session_keys: KeyRing,
}

/// A route with everything that its requests need.
#[derive(Debug)]
pub struct RouteContext {
    /// The route's configuration.
    pub settings: Arc<config::Route>,
    /// The upstream that its requests go to.
    pub upstream: Arc<Upstream>,
    /// Authenticates callers. `None` on an open route.
    pub authenticator: Option<Authenticator>,
    /// What the upstream is shown in place of a caller's credential.
    pub credential: Option<Arc<UpstreamCredential>>,
    /// Decides what callers may do.
    pub policy: Policy,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
}
