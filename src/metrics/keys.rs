//! The metrics of the key fetches of one provider.

use prometheus::{Gauge, IntCounter};

use super::families::Metrics;
use super::labels::{KeyFetchResult, Label};

/// The metrics of one provider's key fetches.
#[derive(Debug)]
pub struct KeyMetrics {
    results: [IntCounter; KeyFetchResult::ALL.len()],
    last_success: Gauge,
}

impl KeyMetrics {
    /// The metrics of the provider named `provider`, whose keys have not been fetched yet.
    pub fn new(families: &Metrics, provider: &str) -> Self {
        let counter = |result: KeyFetchResult| families.key_fetches.with_label_values(&[provider, result.label()]);
        let last_success = families.keys_last_success.with_label_values(&[provider]);
        last_success.set(0.0);
        let results = [KeyFetchResult::Ok, KeyFetchResult::Invalid, KeyFetchResult::Unavailable].map(counter);
        Self { results, last_success }
    }

    /// Counts a fetch of the keys. A failed fetch of the issuer's metadata, which says where the keys are, counts too.
    pub fn fetched(&self, result: KeyFetchResult) {
        self.results[result as usize].inc();
        if result == KeyFetchResult::Ok {
            self.last_success.set(crate::types::unix_now() as f64);
        }
    }
}
