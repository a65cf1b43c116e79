//! What the admin listener can see and do.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::ConfigErrors;
use crate::proxy::Snapshot;

/// The edge, as the admin listener sees it.
#[async_trait]
pub trait Control: Send + Sync {
    /// The running snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// How the last reload went.
    fn last_reload(&self) -> serde_json::Value;

    /// Reloads the configuration, and returns the generation that is in use after that.
    async fn reload(&self) -> Result<u64, ConfigErrors>;
}
