//! Measured latencies, and their summary in microseconds.

use std::time::Duration;

use serde_json::{Value, json};

/// A list of measured times.
#[derive(Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn add(&mut self, span: Duration) {
        self.0.push(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The number of times, and their percentiles.
    pub(crate) fn summary(mut self) -> Value {
        self.0.sort_unstable();
        let at = |share: f64| {
            let last = self.0.len().saturating_sub(1);
            self.0.get((last as f64 * share) as usize).map(|nanos| *nanos as f64 / 1e3)
        };
        json!({"count": self.0.len(), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "max_us": at(1.0)})
    }
}
