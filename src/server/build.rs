//! Builds a snapshot from a configuration. Parts that have not changed are taken over from the previous snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use log::warn;
use tokio::task::JoinSet;

use super::shared::Shared;
use crate::auth::{Authenticator, Policy, Provider, UpstreamCredential};
use crate::config;
use crate::config::{Config, Protocol};
use crate::mcp::KeyRing;
use crate::metrics::RouteMetrics;
use crate::proxy::{RouteContext, Snapshot};
use crate::route::Router;
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
    let mut router = Router::default();
    let mut routes = BTreeMap::new();
    for settings in &config.routes {
        let Some(route) = route(shared, &config, settings, &parts, previous) else { continue };
        let route = Arc::new(route);
        // In a checked configuration no routes overlap, and every name exists. If one did not, the route would be left
        // out, which is safe.
        if router.insert(&settings.hosts, &settings.prefix, Arc::clone(&route)).is_ok() {
            routes.insert(Arc::clone(&settings.name), route);
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
    Snapshot { generation, config, router, routes, upstreams, providers, session_keys }
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

fn route(
    shared: &Shared,
    config: &Config,
    settings: &Arc<config::Route>,
    parts: &Parts,
    previous: Option<&Snapshot>,
) -> Option<RouteContext> {
    let upstream = Arc::clone(parts.upstreams.get(&settings.upstream)?);
    let authenticator = match &settings.auth {
        Some(auth) => {
            let providers: Option<Vec<_>> =
                auth.providers.iter().map(|name| parts.providers.get(name).cloned()).collect();
            Some(Authenticator::new(providers?, Arc::clone(&shared.cache), config.cache.clone()))
        }
        None => None,
    };
    let known = previous.and_then(|previous| previous.routes.get(&settings.name));
    let metrics = match known {
        Some(known) => Arc::clone(&known.metrics),
        None => Arc::new(RouteMetrics::new(&shared.metrics, &settings.name)),
    };
    let name = &settings.name;
    let credential = settings.credential.as_ref().map(|settings| {
        let known = known.and_then(|known| known.credential.as_ref()).filter(|known| known.settings() == settings);
        let made = || UpstreamCredential::new(name, settings, &shared.upstream_tokens, &shared.client, &shared.metrics);
        known.map_or_else(|| Arc::new(made()), Arc::clone)
    });
    let policy = Policy::new(settings);
    metrics.calls.learn(policy.named_tools());
    Some(RouteContext { settings: Arc::clone(settings), upstream, authenticator, credential, policy, metrics })
}
