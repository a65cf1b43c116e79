//! The deadline of an upstream's response head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::upstream::Connection;

/// Runs from the moment the request has a connection until it is dropped; striking ends the connection.
#[derive(Debug)]
pub(crate) struct HeadDeadline {
    struck: Arc<AtomicBool>,
    timer: AbortHandle,
}

impl HeadDeadline {
    /// Strikes after `limit`, unless the connection has closed by then.
    pub(crate) fn start(connection: std::sync::Weak<Connection>, limit: Duration) -> Self {
        let struck = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&struck);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(connection) = connection.upgrade() {
                flag.store(true, Ordering::Relaxed);
                connection.abort();
            }
        });
        Self { struck, timer: timer.abort_handle() }
    }

    /// True when the response head did not come in time.
    pub(crate) fn has_struck(&self) -> bool {
        self.struck.load(Ordering::Relaxed)
    }
}

impl Drop for HeadDeadline {
    fn drop(&mut self) {
        self.timer.abort();
    }
}
