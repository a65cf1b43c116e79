//! The metrics of one route.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::call::CallMetrics;
use super::families::Metrics;

/// The metrics of one route. Its series are removed with the last snapshot that has the route.
#[derive(Debug)]
pub struct RouteMetrics {
    route: Arc<str>,
    families: Arc<Metrics>,
    /// Requests in flight.
    pub in_flight: IntGauge,
    /// Open event streams and upgraded connections.
    pub streams: IntGauge,
    /// Answers in which the upstream would have led clients to another host.
    pub misleading: IntCounter,
    /// Changes of the definitions of tools, as gateways have noticed them.
    pub changed_tools: IntCounter,
    /// MCP calls.
    pub calls: CallMetrics,
    duration: Histogram,
    /// The counters of the status codes so far. A vector, because there are few: searching it is the fastest lookup.
    codes: Mutex<Vec<(u16, IntCounter)>>,
}

impl RouteMetrics {
    /// The metrics of the route named `route`.
    pub fn new(families: &Arc<Metrics>, route: &Arc<str>) -> Self {
        Self {
            route: Arc::clone(route),
            families: Arc::clone(families),
            in_flight: families.requests_in_flight.with_label_values(&[route]),
            streams: families.streams_open.with_label_values(&[route]),
            misleading: families.misleading_answers.with_label_values(&[route]),
            changed_tools: families.changed_tools.with_label_values(&[route]),
            calls: CallMetrics::new(families, route),
            duration: families.request_duration.with_label_values(&[route]),
            codes: Mutex::default(),
        }
    }

    /// Counts a request that ended with `code` after `duration`.
    pub fn finished(&self, code: u16, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        match codes.iter().find(|(known, _)| *known == code) {
            Some((_, counter)) => counter.inc(),
            None => {
                let counter = self.families.requests.with_label_values(&[&*self.route, code.to_string().as_str()]);
                counter.inc();
                codes.push((code, counter));
            }
        }
    }
}

impl Drop for RouteMetrics {
    fn drop(&mut self) {
        let route = &*self.route;
        let codes = std::mem::take(&mut *self.codes.lock().unwrap_or_else(PoisonError::into_inner));
        for (code, _) in codes {
            // Here and below, a series that does not exist is not an error.
            let _ = self.families.requests.remove_label_values(&[route, code.to_string().as_str()]);
        }
        let _ = self.families.requests_in_flight.remove_label_values(&[route]);
        let _ = self.families.streams_open.remove_label_values(&[route]);
        let _ = self.families.misleading_answers.remove_label_values(&[route]);
        let _ = self.families.changed_tools.remove_label_values(&[route]);
        let _ = self.families.request_duration.remove_label_values(&[route]);
        self.families.forget_upstream_tokens(route);
    }
}
