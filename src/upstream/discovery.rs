//! The addresses of an upstream's endpoints: written in the configuration, or resolved from names.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use log::warn;
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use tokio::task::JoinSet;

use super::balance::backend;
use crate::config;
use crate::config::limits;

/// Resolves the endpoints of one upstream. When a name does not resolve, its last known addresses stay in use.
pub(super) struct Discovery {
    upstream: Arc<config::Upstream>,
    last_good: Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>,
}

impl Discovery {
    pub(super) fn new(upstream: Arc<config::Upstream>) -> Self {
        Self { upstream, last_good: Arc::default() }
    }

    /// The addresses of each endpoint. Names are resolved at the same time: one that nobody answers holds up no other.
    async fn all(&self) -> Vec<Vec<SocketAddr>> {
        let mut found = vec![Vec::new(); self.upstream.endpoints.len()];
        let mut resolving = JoinSet::new();
        for (index, endpoint) in self.upstream.endpoints.iter().enumerate() {
            match endpoint.socket_address() {
                Some(address) => found[index] = vec![address],
                None => {
                    let name = Name { upstream: Arc::clone(&self.upstream), index };
                    let last_good = Arc::clone(&self.last_good);
                    resolving.spawn(async move { (index, name.resolve(&last_good).await) });
                }
            }
        }
        for (index, addresses) in resolving.join_all().await {
            found[index] = addresses;
        }
        found
    }
}

/// The name of an endpoint.
struct Name {
    upstream: Arc<config::Upstream>,
    index: usize,
}

impl Name {
    async fn resolve(&self, last_good: &Mutex<HashMap<String, Vec<SocketAddr>>>) -> Vec<SocketAddr> {
        let endpoint = &self.upstream.endpoints[self.index];
        let name = format!("{}:{}", endpoint.host, endpoint.port);
        let looked_up = tokio::time::timeout(
            limits::RESOLVE_TIMEOUT,
            tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)),
        )
        .await;
        let reason = match looked_up {
            Ok(Ok(addresses)) => {
                let addresses: Vec<_> = addresses.take(limits::ENDPOINTS_PER_UPSTREAM).collect();
                if !addresses.is_empty() {
                    last_good.lock().unwrap_or_else(PoisonError::into_inner).insert(name, addresses.clone());
                    return addresses;
                }
                "the name has no address".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        warn!("upstream {}: {name} cannot be resolved ({reason}): its last addresses stay in use", self.upstream.name);
        let last_good = last_good.lock().unwrap_or_else(PoisonError::into_inner);
        last_good.get(&name).cloned().unwrap_or_default()
    }
}

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends: BTreeSet<Backend> = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (endpoint, addresses) in self.upstream.endpoints.iter().zip(self.all().await) {
            for address in addresses {
                // Two names may have the same address. The endpoint that is written first decides about the weight.
                if backends.len() < limits::ENDPOINTS_PER_UPSTREAM && seen.insert(address) {
                    let mut backend = backend(address, endpoint.weight);
                    backend.ext.insert(Origin(endpoint.clone()));
                    backends.insert(backend);
                }
            }
        }
        Ok((backends, HashMap::new()))
    }
}

/// The configured endpoint that an address comes from. The backend of the address carries it.
#[derive(Clone)]
pub(super) struct Origin(pub(super) config::Endpoint);
