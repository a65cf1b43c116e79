//! A running upstream: its endpoints, their health, and the choice of an endpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use log::error;
use pingora_load_balancing::Backends;
use serde::Serialize;

use super::balance::Table;
use super::discovery::{Discovery, Origin};
use super::endpoint::{Endpoint, EndpointStatus};
use super::health::{HealthProbe, ProbeClient};
use super::peer::PeerTemplate;
use crate::config;
use crate::config::{Balance, HashOn, limits};
use crate::metrics::{Metrics, UpstreamMetrics};

/// A pool of replicas. A reload keeps the pool when the upstream's configuration has not changed.
pub struct Upstream {
    /// Distinguishes this instance from all others of the process in cache keys.
    instance: u64,
    settings: Arc<config::Upstream>,
    backends: Backends,
    table: Arc<ArcSwap<Table>>,
    template: Arc<PeerTemplate>,
    metrics: UpstreamMetrics,
}

/// No endpoint of the upstream can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEndpoint;

/// What `/status` shows of an upstream.
#[derive(Debug, Serialize)]
pub struct UpstreamStatus {
    endpoints: Vec<EndpointStatus>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.settings.name).field("table", &self.table.load()).finish()
    }
}

impl Upstream {
    /// Makes a pool and resolves its names once. A name that does not resolve has no endpoints yet.
    pub async fn new(settings: &Arc<config::Upstream>, probes: &Arc<ProbeClient>, metrics: &Arc<Metrics>) -> Self {
        let table = Arc::new(ArcSwap::from_pointee(Table::new(Vec::new(), &settings.balance)));
        let mut backends = Backends::new(Box::new(Discovery::new(Arc::clone(settings))));
        let template = Arc::new(PeerTemplate::new(settings));
        if let Some(health) = &settings.health {
            let (settings, table) = (Arc::clone(settings), Arc::clone(&table));
            let template = Arc::clone(&template);
            let check =
                HealthProbe { upstream: settings, health: health.clone(), template, table, client: Arc::clone(probes) };
            backends.set_health_check(Box::new(check));
        }
        let metrics = UpstreamMetrics::new(metrics, &settings.name);
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
        let upstream = Self { instance, settings: Arc::clone(settings), backends, table, template, metrics };
        upstream.resolve().await;
        upstream
    }

    /// A number that no other pool of the process has. A pool whose configuration changes is another one.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// The configuration of the upstream.
    pub fn settings(&self) -> &Arc<config::Upstream> {
        &self.settings
    }

    /// The metrics of the upstream.
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// What is hashed to choose an endpoint, for `balance: {hash: ...}`.
    pub fn hash_on(&self) -> Option<&HashOn> {
        match &self.settings.balance {
            Balance::Hash(on) => Some(on),
            _ => None,
        }
    }

    /// Chooses an endpoint for a request, as [`Table::choose`] does.
    ///
    /// # Errors
    /// All endpoints are unhealthy or in `tried`.
    pub fn choose(&self, key: Option<&[u8]>, tried: &[SocketAddr]) -> Result<Arc<Endpoint>, NoEndpoint> {
        self.table.load().choose(key, tried).cloned().ok_or(NoEndpoint)
    }

    /// The endpoint at `address`, healthy or not.
    pub fn endpoint(&self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        self.table.load().get(address).cloned()
    }

    /// True when at least one endpoint can take a request.
    pub fn is_healthy(&self) -> bool {
        self.table.load().endpoints().iter().any(|endpoint| endpoint.is_healthy())
    }

    /// Runs health checks, resolves names and closes idle connections, until the future is dropped.
    pub async fn run(&self) {
        let health = async {
            let Some(health) = &self.settings.health else { return std::future::pending().await };
            loop {
                self.backends.run_health_check(true).await;
                tokio::time::sleep(health.interval).await;
            }
        };
        let names = async {
            if self.settings.endpoints.iter().all(|endpoint| endpoint.socket_address().is_some()) {
                return std::future::pending().await;
            }
            loop {
                tokio::time::sleep(self.settings.resolve).await;
                self.resolve().await;
            }
        };
        let idle = async {
            loop {
                tokio::time::sleep(limits::IDLE_SWEEP).await;
                self.table.load().endpoints().iter().for_each(|endpoint| endpoint.sweep_idle());
            }
        };
        let ((), (), ()) = tokio::join!(health, names, idle);
    }

    async fn resolve(&self) {
        let updated = self.backends.update(|backends| {
            let old = self.table.load_full();
            let endpoints = backends.iter().filter_map(|backend| {
                let (address, origin) = (*backend.addr.as_inet()?, &backend.ext.get::<Origin>()?.0);
                let known =
                    old.endpoints().iter().find(|known| known.address() == address && known.weight() == origin.weight);
                Some(known.cloned().unwrap_or_else(|| Arc::new(self.new_endpoint(address, origin))))
            });
            let table = Table::new(endpoints.collect(), &self.settings.balance);
            let gone = old
                .endpoints()
                .iter()
                .filter(|old| table.endpoints().iter().all(|endpoint| endpoint.address() != old.address()));
            gone.for_each(|endpoint| endpoint.forget_series());
            self.table.store(Arc::new(table));
        });
        if let Err(error) = updated.await {
            error!("upstream {}: the endpoints cannot be updated: {error}", self.settings.name);
        }
    }

    fn new_endpoint(&self, address: SocketAddr, origin: &config::Endpoint) -> Endpoint {
        let metrics = self.metrics.endpoint(&address.to_string());
        let peer = self.template.peer(address, &origin.host);
        Endpoint::new(address, origin.authority(self.settings.tls.is_some()), origin.weight, peer, metrics)
    }

    /// What `/status` shows.
    pub fn status(&self) -> UpstreamStatus {
        UpstreamStatus { endpoints: self.table.load().endpoints().iter().map(|endpoint| endpoint.status()).collect() }
    }

    /// Removes the metric series of this upstream that `successor` does not have. `successor` is the upstream with the
    /// same name in the next snapshot.
    pub fn forget_series(&self, successor: Option<&Self>) {
        let next = successor.map(|successor| successor.table.load_full());
        for endpoint in self.table.load().endpoints() {
            let stays = next
                .as_ref()
                .is_some_and(|next| next.endpoints().iter().any(|other| other.address() == endpoint.address()));
            if !stays {
                endpoint.forget_series();
            }
        }
        if successor.is_none() {
            self.metrics.forget();
        }
    }
}
