//! The metrics of one upstream, and of each of its endpoints.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntGauge};

use super::families::Metrics;
use super::labels::{EndpointResult, Label};

/// The metrics of one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    upstream: Arc<str>,
    families: Arc<Metrics>,
    new: IntCounter,
    reused: IntCounter,
}

impl UpstreamMetrics {
    /// The metrics of the upstream named `upstream`.
    pub fn new(families: &Arc<Metrics>, upstream: &Arc<str>) -> Self {
        let connections = |reused| families.upstream_connections.with_label_values(&[&**upstream, reused]);
        Self {
            upstream: Arc::clone(upstream),
            families: Arc::clone(families),
            new: connections("false"),
            reused: connections("true"),
        }
    }

    /// Counts a connection that a request is sent on. `reused`: the connection has carried a request before.
    pub fn connected(&self, reused: bool) {
        if reused { self.reused.inc() } else { self.new.inc() }
    }

    /// The metrics of the endpoint named `endpoint`.
    pub fn endpoint(&self, endpoint: &str) -> EndpointMetrics {
        EndpointMetrics::new(&self.families, &self.upstream, endpoint)
    }

    /// Removes the series of this upstream. Its endpoints remove their own series.
    pub fn forget(&self) {
        for reused in ["true", "false"] {
            // A series that does not exist is not an error.
            let _ = self.families.upstream_connections.remove_label_values(&[&*self.upstream, reused]);
        }
    }
}

/// The metrics of one endpoint.
#[derive(Debug)]
pub struct EndpointMetrics {
    labels: [String; 2],
    families: Arc<Metrics>,
    healthy: IntGauge,
    in_flight: IntGauge,
    /// Created when a result is first counted: there may be many endpoints, and most of them never fail.
    results: [OnceLock<IntCounter>; EndpointResult::ALL.len()],
}

impl EndpointMetrics {
    fn new(families: &Arc<Metrics>, upstream: &str, endpoint: &str) -> Self {
        Self {
            labels: [upstream.to_owned(), endpoint.to_owned()],
            families: Arc::clone(families),
            healthy: families.endpoint_healthy.with_label_values(&[upstream, endpoint]),
            in_flight: families.endpoint_in_flight.with_label_values(&[upstream, endpoint]),
            results: Default::default(),
        }
    }

    /// Sets the gauge that shows whether the endpoint is healthy.
    pub fn healthy(&self, healthy: bool) {
        self.healthy.set(healthy.into());
    }

    /// Counts the result of a request.
    pub fn finished(&self, result: EndpointResult) {
        let counter = self.results[result as usize].get_or_init(|| {
            let [upstream, endpoint] = &self.labels;
            self.families.endpoint_requests.with_label_values(&[upstream.as_str(), endpoint, result.label()])
        });
        counter.inc();
    }

    /// Removes the series of an endpoint that is gone.
    pub fn forget(&self) {
        let [upstream, endpoint] = [self.labels[0].as_str(), self.labels[1].as_str()];
        for result in EndpointResult::ALL {
            // Here and below, a series that does not exist is not an error.
            let _ = self.families.endpoint_requests.remove_label_values(&[upstream, endpoint, result.label()]);
        }
        let _ = self.families.endpoint_healthy.remove_label_values(&[upstream, endpoint]);
        let _ = self.families.endpoint_in_flight.remove_label_values(&[upstream, endpoint]);
    }
}

/// The number of requests in flight to one endpoint. `least_request` compares it, and a gauge shows it.
#[derive(Debug, Default)]
pub struct InFlight(AtomicUsize);

impl InFlight {
    /// Adds a request.
    pub fn begin(&self, metrics: &EndpointMetrics) {
        self.0.fetch_add(1, Ordering::Relaxed);
        metrics.in_flight.inc();
    }

    /// Removes a request.
    pub fn end(&self, metrics: &EndpointMetrics) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics.in_flight.dec();
    }

    /// The number of requests in flight.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
