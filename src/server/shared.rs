//! State that lives as long as the process and is kept through all reloads.

use std::sync::Arc;

use thiserror::Error;

use crate::auth::{OutboundClient, TokenCache, UpstreamTokens, install_crypto};
use crate::mcp::KeyRing;
use crate::metrics::Metrics;
use crate::proxy::Catalog;
use crate::upstream::ProbeClient;

/// State that all snapshots share.
pub struct Shared {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The token cache.
    pub cache: Arc<TokenCache>,
    /// The tokens that the edge sends to upstreams.
    pub upstream_tokens: Arc<UpstreamTokens>,
    /// The HTTP client for authentication servers and key sets.
    pub client: OutboundClient,
    /// The connectors for health checks.
    pub probes: Arc<ProbeClient>,
    /// What gateways have seen of their servers.
    pub catalog: Arc<Catalog>,
    /// Seals MCP session ids when the configuration has no `sessions.keys`.
    pub session_keys: KeyRing,
}

/// The process cannot be set up.
#[derive(Debug, Error)]
pub enum SetUpError {
    /// The metrics cannot be registered. This is a bug in the metrics module.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The HTTP client for outbound calls cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// There are no random numbers for the key that seals session ids.
    #[error("the system gives no random numbers")]
    Random,
}

impl Shared {
    /// Makes the shared state, with a token cache for `cache_capacity` principals.
    pub fn new(cache_capacity: u64) -> Result<Self, SetUpError> {
        install_crypto();
        let metrics = Arc::new(Metrics::new()?);
        Ok(Self {
            cache: Arc::new(TokenCache::new(cache_capacity, &metrics)),
            upstream_tokens: Arc::default(),
            client: OutboundClient::new()?,
            probes: Arc::default(),
            catalog: Arc::default(),
            session_keys: KeyRing::generate().ok_or(SetUpError::Random)?,
            metrics,
        })
    }
}
