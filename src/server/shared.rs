//! What lives as long as the process, through all reloads.

use std::sync::Arc;

use thiserror::Error;

use crate::auth::{OutboundClient, TokenCache, UpstreamTokens, install_crypto};
use crate::mcp::KeyRing;
use crate::metrics::Metrics;
use crate::upstream::ProbeClient;

/// Handed from snapshot to snapshot.
pub struct Shared {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The token cache.
    pub cache: Arc<TokenCache>,
    /// The tokens that upstreams are shown.
    pub upstream_tokens: Arc<UpstreamTokens>,
    /// For authentication servers and key sets.
    pub client: OutboundClient,
    /// For health checks.
    pub probes: Arc<ProbeClient>,
    /// Seals session ids where the configuration has no keys for that.
    pub session_keys: KeyRing,
}

/// The process cannot be set up.
#[derive(Debug, Error)]
pub enum SetUpError {
    /// A mistake in the metrics module.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No TLS for outbound calls.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// No key for session ids.
    #[error("the system gives no random numbers")]
    Random,
}

impl Shared {
    /// With a token cache for `cache_capacity` principals.
    pub fn new(cache_capacity: u64) -> Result<Self, SetUpError> {
        install_crypto();
        let metrics = Arc::new(Metrics::new()?);
        Ok(Self {
            cache: Arc::new(TokenCache::new(cache_capacity, &metrics)),
            upstream_tokens: Arc::default(),
            client: OutboundClient::new()?,
            probes: Arc::default(),
            session_keys: KeyRing::generate().ok_or(SetUpError::Random)?,
            metrics,
        })
    }
}
