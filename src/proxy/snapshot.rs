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

/// What a request sees of the configuration, from its first byte to its last.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first, one more for each that followed.
    pub generation: u64,
    /// What it was made from.
    pub config: Arc<Config>,
    /// Finds routes.
    pub router: Router<Arc<RouteContext>>,
    /// By name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteContext>>,
    /// By name.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// By name.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Seal the ids of MCP sessions.
    pub session_keys: KeyRing,
}

/// A route with everything that its requests need.
#[derive(Debug)]
pub struct RouteContext {
    /// As configured.
    pub settings: Arc<config::Route>,
    /// Where its requests go.
    pub upstream: Arc<Upstream>,
    /// Who may send them; `None` on an open route.
    pub authenticator: Option<Authenticator>,
    /// What the upstream is shown in place of their credentials.
    pub credential: Option<Arc<UpstreamCredential>>,
    /// What they may do.
    pub policy: Policy,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
}
