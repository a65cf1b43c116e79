//! Entries that are validated anew before they end, without a request that waits for it.

use std::pin::Pin;

use tokio::sync::{Mutex, mpsc};

use super::TokenKey;
use crate::auth::error::AuthError;
use crate::config::{Cache as Settings, limits};
use crate::types::Principal;

/// A validation that nobody waits for. It owns all that it needs, the credential included.
pub(in crate::auth) type Validation = Pin<Box<dyn Future<Output = Result<Principal, AuthError>> + Send>>;

pub(super) struct Refresh {
    pub(super) key: TokenKey,
    pub(super) settings: Settings,
    pub(super) validation: Validation,
}

/// What is due, in bounded number.
pub(super) struct Refreshes {
    sender: mpsc::Sender<Refresh>,
    receiver: Mutex<mpsc::Receiver<Refresh>>,
}

impl Refreshes {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(limits::REFRESH_QUEUE);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// False when there is no room: the entry is then due again later, or ends.
    pub(super) fn add(&self, refresh: Refresh) -> bool {
        self.sender.try_send(refresh).is_ok()
    }

    pub(super) async fn next(&self) -> Option<Refresh> {
        self.receiver.lock().await.recv().await
    }
}

impl std::fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refreshes").field("room", &self.sender.capacity()).finish()
    }
}
