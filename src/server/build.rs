//! Builds a snapshot from a configuration. Parts that have not changed are taken over from the previous snapshot.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use log::warn;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::shared::Shared;
use crate::auth::{Authenticator, Policy, Provider, UpstreamCredential};
use crate::config;
use crate::config::{Config, Protocol};
use crate::mcp::{KeyRing, ServerMark};
use crate::metrics::RouteMetrics;
use crate::proxy::{Destination, GatewayContext, GatewayServer, RouteContext, ServerContext, Snapshot};
use crate::route::{Router, upstream_path};
use crate::upstream::Upstream;

type Upstreams = BTreeMap<Arc<str>, Arc<Upstream>>;
type Providers = BTreeMap<Arc<str>, Arc<Provider>>;

/// The parts of a snapshot that its routes refer to by name.
struct Parts {
    upstreams: Upstreams,
    providers: Providers,
}

/// Builds the snapshot that follows `previous`. This resolves the names of new upstreams: upstreams at the same time,
/// and the names of one upstream one after the other.
pub async fn build(shared: &Shared, config: Arc<Config>, previous: Option<&Snapshot>) -> Snapshot {
    let upstreams = upstreams(shared, &config, previous).await;
    let parts = Parts { upstreams, providers: providers(shared, &config, previous) };
    let mut routes = BTreeMap::new();
    for settings in &config.routes {
        if let Some(server) = server(shared, &config, settings, &parts, previous) {
            routes.insert(Arc::clone(&settings.name), Destination::Server(Arc::new(server)));
        }
    }
    for settings in &config.routes {
        if let Some(gateway) = gateway(shared, &config, settings, &parts, &routes, previous) {
            routes.insert(Arc::clone(&settings.name), Destination::Gateway(Arc::new(gateway)));
        }
    }
    let mut router = Router::default();
    for settings in &config.routes {
        let Some(route) = routes.get(&settings.name) else { continue };
        // In a checked configuration no routes overlap, and every name exists. If one did not, the route would be left
        // out, which is safe.
        if router.insert(&settings.hosts, &settings.prefix, route.clone()).is_err() {
            routes.remove(&settings.name);
        }
    }
    let generation = previous.map_or(1, |previous| previous.generation + 1);
    let has_keys = |config: &Config| !config.sessions.keys.is_empty();
    let carries_mcp = config.routes.iter().any(|route| route.protocol == Protocol::Mcp);
    if carries_mcp && !has_keys(&config) && previous.is_none_or(|previous| has_keys(&previous.config)) {
        warn!("there are no `sessions.keys`: MCP sessions end with this process, and no other edge can serve them");
    }
    let session_keys = KeyRing::new(&config.sessions.keys).unwrap_or_else(|| shared.session_keys.clone());
    let Parts { upstreams, providers } = parts;
    Snapshot {
        generation,
        config,
        router,
        routes,
        upstreams,
        providers,
        session_keys,
        is_replaced: watch::Sender::default(),
    }
}

async fn upstreams(shared: &Shared, config: &Config, previous: Option<&Snapshot>) -> Upstreams {
    let mut upstreams = BTreeMap::new();
    let mut resolving = JoinSet::new();
    for (name, settings) in &config.upstreams {
        let known = previous.and_then(|previous| previous.upstreams.get(name));
        if let Some(known) = known.filter(|known| known.settings() == settings) {
            upstreams.insert(Arc::clone(name), Arc::clone(known));
            continue;
        }
        let (name, settings) = (Arc::clone(name), Arc::clone(settings));
        let (probes, metrics) = (Arc::clone(&shared.probes), Arc::clone(&shared.metrics));
        if settings.endpoints.iter().all(|endpoint| endpoint.socket_address().is_some()) {
            upstreams.insert(name, Arc::new(Upstream::new(&settings, &probes, &metrics).await));
        } else {
            resolving.spawn(async move { (name, Arc::new(Upstream::new(&settings, &probes, &metrics).await)) });
        }
    }
    upstreams.extend(resolving.join_all().await);
    upstreams
}

fn providers(shared: &Shared, config: &Config, previous: Option<&Snapshot>) -> Providers {
    let provider = |(name, settings): (&Arc<str>, &Arc<config::Provider>)| {
        let known = previous.and_then(|previous| previous.providers.get(name));
        let provider = match known.filter(|known| known.settings() == settings) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Provider::new(settings, &shared.client, &shared.metrics)),
        };
        (Arc::clone(name), provider)
    };
    config.providers.iter().map(provider).collect()
}

/// What decides who may use a route.
fn route(
    shared: &Shared,
    config: &Config,
    settings: &Arc<config::Route>,
    parts: &Parts,
    previous: Option<&Snapshot>,
) -> Option<RouteContext> {
    let authenticator = match &settings.auth {
        Some(auth) => {
            let providers: Option<Vec<_>> =
                auth.providers.iter().map(|name| parts.providers.get(name).cloned()).collect();
            Some(Authenticator::new(providers?, Arc::clone(&shared.cache), config.cache.clone()))
        }
        None => None,
    };
    let metrics = match previous.and_then(|previous| previous.routes.get(&settings.name)) {
        Some(known) => Arc::clone(&known.route().metrics),
        None => Arc::new(RouteMetrics::new(&shared.metrics, &settings.name)),
    };
    let policy = Policy::new(settings);
    metrics.calls.learn(policy.named_tools());
    Some(RouteContext { settings: Arc::clone(settings), authenticator, policy, metrics })
}

/// `None` for a gateway.
fn server(
    shared: &Shared,
    config: &Config,
    settings: &Arc<config::Route>,
    parts: &Parts,
    previous: Option<&Snapshot>,
) -> Option<ServerContext> {
    let upstream = Arc::clone(parts.upstreams.get(settings.upstream()?)?);
    let known = match previous.and_then(|previous| previous.routes.get(&settings.name)) {
        Some(Destination::Server(known)) => Some(known),
        Some(Destination::Gateway(_)) | None => None,
    };
    let name = &settings.name;
    let credential = settings.credential.as_ref().map(|settings| {
        let known = known.and_then(|known| known.credential.as_ref()).filter(|known| known.settings() == settings);
        let made = || UpstreamCredential::new(name, settings, &shared.upstream_tokens, &shared.client, &shared.metrics);
        known.map_or_else(|| Arc::new(made()), Arc::clone)
    });
    let route = Arc::new(route(shared, config, settings, parts, previous)?);
    Some(ServerContext::new(route, upstream, credential))
}

/// A number for a server as it is configured. Nobody can choose it, so two servers never have the same one.
fn server_key(server: &ServerContext, target: &str) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let credential = server.credential.as_ref().map(Arc::as_ptr);
    let settings = &server.settings;
    let headers = format!("{:?} {:?}", settings.request_headers, settings.host);
    SEED.hash_one((&settings.name, server.upstream.instance(), target, headers, credential))
}

/// `None` for a route with an upstream. `servers`: the routes with upstreams.
fn gateway(
    shared: &Shared,
    config: &Config,
    settings: &Arc<config::Route>,
    parts: &Parts,
    servers: &BTreeMap<Arc<str>, Destination>,
    previous: Option<&Snapshot>,
) -> Option<GatewayContext> {
    let config::Destination::Gateway(gateway) = &settings.destination else { return None };
    let server = |settings: &Arc<config::GatewayServer>| match servers.get(&settings.route) {
        Some(Destination::Server(server)) => {
            let target = upstream_path(&server.settings.rewrite, &server.settings.prefix, &settings.path);
            Some(GatewayServer {
                settings: Arc::clone(settings),
                server: Arc::clone(server),
                mark: ServerMark::of_route(&settings.route),
                key: server_key(server, &target),
                target: target.into(),
            })
        }
        Some(Destination::Gateway(_)) | None => None,
    };
    let servers = gateway.servers.iter().filter_map(server).collect();
    let route = Arc::new(route(shared, config, settings, parts, previous)?);
    Some(GatewayContext { route, settings: Arc::clone(gateway), servers })
}
