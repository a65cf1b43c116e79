//! The queue of entries that are validated again before they end, in the background, so that no request waits.

use std::pin::Pin;

use tokio::sync::{Mutex, mpsc};

use super::TokenKey;
use crate::auth::error::AuthError;
use crate::config::{Cache as Settings, limits};
use crate::types::Principal;

/// A validation in the background. It owns all that it needs, including the credential.
pub(in crate::auth) type Validation = Pin<Box<dyn Future<Output = Result<Principal, AuthError>> + Send>>;

/// An entry that is due for a refresh.
pub(super) struct Refresh {
    pub(super) key: TokenKey,
    pub(super) settings: Settings,
    pub(super) validation: Validation,
}

/// The queue of entries that are due. Its length is limited to [`limits::REFRESH_QUEUE`].
pub(super) struct Refreshes {
    sender: mpsc::Sender<Refresh>,
    receiver: Mutex<mpsc::Receiver<Refresh>>,
}

impl Refreshes {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(limits::REFRESH_QUEUE);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Adds an entry to the queue. False if the queue is full: the entry is then due again later, or ends.
    pub(super) fn add(&self, refresh: Refresh) -> bool {
        self.sender.try_send(refresh).is_ok()
    }

    /// Waits for the next entry.
    pub(super) async fn next(&self) -> Option<Refresh> {
        self.receiver.lock().await.recv().await
    }
}

impl std::fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refreshes").field("room", &self.sender.capacity()).finish()
    }
}
