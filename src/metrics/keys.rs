//! The metrics of a provider's keys that are fetched, with their labels filled in.

use prometheus::{Gauge, IntCounter};

use super::families::Metrics;
use super::labels::{KeyFetchResult, Label};

/// Handles of one provider.
#[derive(Debug)]
pub struct KeyMetrics {
    results: [IntCounter; KeyFetchResult::ALL.len()],
    last_success: Gauge,
}

impl KeyMetrics {
    /// The handles of the provider named `provider`, whose keys are not there yet.
    pub fn new(families: &Metrics, provider: &str) -> Self {
        let counter = |result: KeyFetchResult| families.key_fetches.with_label_values(&[provider, result.label()]);
        let last_success = families.keys_last_success.with_label_values(&[provider]);
        last_success.set(0.0);
        let results = [KeyFetchResult::Ok, KeyFetchResult::Invalid, KeyFetchResult::Unavailable].map(counter);
        Self { results, last_success }
    }

    /// Counts a fetch of the keys, or of the metadata that says where they are when that failed.
    pub fn fetched(&self, result: KeyFetchResult) {
        self.results[result as usize].inc();
        if result == KeyFetchResult::Ok {
            self.last_success.set(crate::types::unix_now() as f64);
        }
    }
}
