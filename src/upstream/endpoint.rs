//! One endpoint of an upstream: a replica at an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use serde::Serialize;

use super::idle::IdleConnections;
use super::wire::Wire;
use crate::metrics::{EndpointMetrics, EndpointResult, InFlight};

/// A replica at an address. The pool keeps this object as long as the address and the weight stay the same.
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
    /// From which connections are made.
    peer: ArcSwap<HttpPeer>,
    /// How long an idle connection is kept.
    keepalive: Duration,
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
    /// A replica. It counts as healthy until its health checks fail.
    pub(super) fn new(
        address: SocketAddr,
        authority: String,
        weight: u16,
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
            keepalive: peer.options.idle_timeout.unwrap_or_default(),
            peer: ArcSwap::from_pointee(peer),
            idle: IdleConnections::default(),
        }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as text.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `HOST:PORT` as configured.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The endpoint's share of the requests, relative to the weights of the other endpoints.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// Whether the endpoint is healthy. Always true without health checks.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
        self.metrics.healthy(healthy);
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.begin(&self.metrics);
        InFlightGuard(Arc::clone(self))
    }

    /// Counts the result of a request.
    pub fn finished(&self, result: EndpointResult) {
        self.metrics.finished(result);
    }

    /// The peer from which connections to this endpoint are made.
    pub fn peer(&self) -> Arc<HttpPeer> {
        self.peer.load_full()
    }

    /// No new stream uses the HTTP/2 connections that were made from `peer`: an exchange on one of them took too long, and
    /// perhaps the connection is dead. The streams on them go on. Pingora finds connections by the group key.
    pub fn leave_connections(&self, peer: &Arc<HttpPeer>) {
        let mut next = HttpPeer::clone(peer);
        next.group_key = next.group_key.wrapping_add(1);
        // Other exchanges may have seen the same. Then the connections have been left already.
        self.peer.compare_and_swap(peer, Arc::new(next));
    }

    /// Takes an idle HTTP/1 connection that can be used, if there is one.
    pub fn take_idle(&self) -> Option<Wire> {
        self.idle.take(self.keepalive)
    }

    /// Keeps an HTTP/1 connection for a later request. The last exchange on it must be complete.
    pub fn keep_idle(&self, stream: Wire) {
        self.idle.put(stream);
    }

    /// Closes idle connections that are too old.
    pub(super) fn sweep_idle(&self) {
        self.idle.sweep(self.keepalive);
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

/// Counts one request as in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<Endpoint>);

impl InFlightGuard {
    /// The endpoint that serves the request.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.end(&self.0.metrics);
    }
}
