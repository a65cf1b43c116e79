//! The deadline of an upstream's response head, where Pingora waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::upstream::Connection;

/// Runs until it is dropped. When the time is over, it closes the connection.
#[derive(Debug)]
pub(crate) struct HeadDeadline {
    is_over: Arc<AtomicBool>,
    timer: AbortHandle,
}

impl HeadDeadline {
    /// Closes `connection` after `limit`, unless it is closed by then.
    pub(crate) fn start(connection: Weak<Connection>, limit: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(connection) = connection.upgrade() {
                flag.store(true, Ordering::Relaxed);
                connection.abort();
            }
        });
        Self { is_over, timer: timer.abort_handle() }
    }

    /// True when the response head did not come in time.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Drop for HeadDeadline {
    fn drop(&mut self) {
        self.timer.abort();
    }
}
