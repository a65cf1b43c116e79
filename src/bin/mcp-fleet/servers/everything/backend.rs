//! What the replicas of `everything` share, as replicas of a real server share a database.
//!
//! Revision 2026-07-28 has no sessions. So any replica may get the next round of a call or a request about a task, and
//! a change in one replica may concern a subscription in another one.

use ring::error::Unspecified;
use rmcp::service::{SubscriptionSendError, SubscriptionSink};
use rmcp::task_manager::TaskManager;
use tokio::sync::watch;

use super::seal::Seal;

/// How often each list has changed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes {
    /// Changes of the list of tools.
    pub(crate) tools: u64,
    /// Changes of the list of prompts.
    pub(crate) prompts: u64,
}

/// The state that all replicas share.
pub(crate) struct Backend {
    /// Running and finished tasks.
    pub(crate) tasks: TaskManager,
    /// Seals the states that clients carry from one round of a call to the next.
    pub(crate) seal: Seal,
    changes: watch::Sender<Changes>,
}

impl Backend {
    /// A backend without tasks and with a new key.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        Ok(Self { tasks: TaskManager::new(), seal: Seal::generate()?, changes: watch::Sender::default() })
    }

    /// The changes from now on.
    pub(crate) fn feed(&self) -> Feed {
        let mut changes = self.changes.subscribe();
        let seen = *changes.borrow_and_update();
        Feed { changes, seen }
    }

    /// Announces a change to all replicas.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Changes)) {
        self.changes.send_modify(change);
    }
}

/// The changes since the feed was made.
#[derive(Clone)]
pub(crate) struct Feed {
    changes: watch::Receiver<Changes>,
    seen: Changes,
}

impl Feed {
    /// Notifies a subscription of the changes, until the subscription ends.
    pub(crate) async fn announce(mut self, sink: &SubscriptionSink) {
        while self.changes.changed().await.is_ok() {
            let (now, seen) = (*self.changes.borrow_and_update(), self.seen);
            if now.tools != seen.tools && ended(sink.notify_tool_list_changed().await)
                || now.prompts != seen.prompts && ended(sink.notify_prompt_list_changed().await)
            {
                return;
            }
            self.seen = now;
        }
    }
}

/// Whether a notification could not be sent because the client does not listen any more. A notification that the
/// subscription's filter does not accept does not count.
fn ended(sent: Result<(), SubscriptionSendError>) -> bool {
    !matches!(sent, Ok(()) | Err(SubscriptionSendError::NotificationNotAccepted(_)))
}
