//! What all requests of one edge share. Functions take it; it has no behaviour of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};

use super::abandoned::Abandoned;
use super::context::RequestContext;
use super::gateway_memory::GatewayMemory;
use super::gateway_memory::catalog::Catalog;
use super::held::Held;
use super::listener::ListenerContext;
use super::resumptions::Resumptions;
use super::snapshot::Snapshot;
use crate::config::{Limits, LogFormat};
use crate::metrics::Metrics;

/// The state of one edge.
pub struct Edge {
    snapshot: Arc<ArcSwap<Snapshot>>,
    listeners: Vec<ListenerContext>,
    pub(super) metrics: Arc<Metrics>,
    /// Connects to upstreams over HTTP/1 with TLS.
    pub(super) transport: TransportConnector,
    /// Connects to upstreams over HTTP/2, and keeps the connections.
    pub(super) upstreams: Arc<Connector>,
    /// The memory that messages take while they are checked.
    pub(super) held: Held,
    /// The same for messages whose senders are not known yet.
    pub(super) held_early: Held,
    /// The same for small ones, which large ones must not keep out.
    pub(super) held_early_small: Held,
    pub(super) resumptions: Resumptions,
    /// What is remembered for gateways.
    pub(super) gateways: GatewayMemory,
    /// How access lines are written. Read at start, as that of other lines.
    pub(super) log_format: LogFormat,
    /// The exchanges that go on without their clients.
    pub(super) abandoned: Arc<Abandoned>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Edge {
    /// Each request uses what `snapshot` holds when it starts. At most `idle_connections` to upstreams are kept.
    /// Gateways note what they see in `catalog`.
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        listeners: Vec<ListenerContext>,
        metrics: Arc<Metrics>,
        idle_connections: usize,
        catalog: Arc<Catalog>,
    ) -> Self {
        let log_format = snapshot.load().config.log.format;
        Self {
            log_format,
            snapshot,
            listeners,
            metrics,
            transport: TransportConnector::new(None),
            upstreams: Arc::new(Connector::new(Some(ConnectorOptions::new(idle_connections)))),
            held: Held::default(),
            held_early: Held::default(),
            held_early_small: Held::default(),
            resumptions: Resumptions::default(),
            gateways: GatewayMemory::new(catalog),
            abandoned: Arc::default(),
        }
    }

    /// The listener that accepted a connection to the local address `local`.
    pub(super) fn listener(&self, local: SocketAddr) -> Option<&ListenerContext> {
        self.listeners.iter().find(|listener| listener.accepted(local))
    }

    /// The limits of the running configuration.
    pub(super) fn limits(&self) -> Limits {
        self.snapshot.load().config.limits.clone()
    }

    /// The context of a request that begins now. It captures the running snapshot.
    pub(super) fn begin(&self) -> RequestContext {
        RequestContext::new(self.snapshot.load_full())
    }
}
