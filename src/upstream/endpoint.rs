//! One replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;
use serde::Serialize;

use super::idle::IdleConnections;
use super::wire::Wire;
use crate::metrics::{EndpointMetrics, EndpointResult, InFlight};

/// A replica at an address. It lives as long as its address and weight stay in the pool.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    /// The address as text.
    label: String,
    /// `HOST:PORT` as written in the configuration: the `Host` of routes with `host: endpoint`.
    authority: String,
    weight: u16,
    healthy: AtomicBool,
    in_flight: InFlight,
    metrics: EndpointMetrics,
    peer: HttpPeer,
    idle: IdleConnections,
}

/// What `/status` shows of an endpoint.
#[derive(Debug, Serialize)]
pub struct EndpointStatus {
    address: SocketAddr,
    weight: u16,
    healthy: bool,
    in_flight: usize,
}

impl Endpoint {
    /// A replica that counts as healthy until its checks say otherwise.
    pub(super) fn new(
        (address, authority, weight): (SocketAddr, String, u16),
        peer: HttpPeer,
        metrics: EndpointMetrics,
    ) -> Self {
        metrics.healthy(true);
        Self {
            address,
            label: address.to_string(),
            authority,
            weight,
            healthy: AtomicBool::new(true),
            in_flight: InFlight::default(),
            metrics,
            peer,
            idle: IdleConnections::default(),
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as text.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `HOST:PORT` as configured.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its share.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// Whether its health checks succeed.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
        self.metrics.healthy(healthy);
    }

    /// Requests that it is serving.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Counts a request as in flight until the guard is dropped, however it ends.
    pub fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.begin(&self.metrics);
        InFlightGuard(Arc::clone(self))
    }

    /// Counts how a request went.
    pub fn finished(&self, result: EndpointResult) {
        self.metrics.finished(result);
    }

    /// The template of its connections.
    pub fn peer(&self) -> &HttpPeer {
        &self.peer
    }

    /// An idle HTTP/1 connection, if there is a good one.
    pub fn take_idle(&self) -> Option<Wire> {
        self.idle.take(self.keepalive())
    }

    /// Keeps an HTTP/1 connection on which an exchange has ended whole.
    pub fn keep_idle(&self, stream: Wire) {
        self.idle.put(stream);
    }

    /// Closes idle connections whose time is over.
    pub(super) fn sweep_idle(&self) {
        self.idle.sweep(self.keepalive());
    }

    fn keepalive(&self) -> Duration {
        self.peer.options.idle_timeout.unwrap_or_default()
    }

    /// What `/status` shows.
    pub fn status(&self) -> EndpointStatus {
        let (address, weight) = (self.address, self.weight);
        EndpointStatus { address, weight, healthy: self.is_healthy(), in_flight: self.in_flight() }
    }

    pub(super) fn forget_series(&self) {
        self.metrics.forget();
    }
}

/// One request in flight.
#[derive(Debug)]
pub struct InFlightGuard(Arc<Endpoint>);

impl InFlightGuard {
    /// The endpoint that serves it.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.end(&self.0.metrics);
    }
}
