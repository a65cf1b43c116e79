//! What is remembered of MCP sessions so that they can be opened again on another replica (`sessions: {resume: true}`).
//!
//! The `initialize` of a session travels in its id. Here are those that are too long for that, and where sessions were moved to.

pub(super) mod streams;

use bytes::Bytes;
use moka::future::Cache;

use self::streams::SessionStreams;
use super::context::opened_session::OpenSession;
use crate::config::limits;
use crate::mcp::SessionTarget;

/// By the session id that the client has.
#[derive(Clone, Debug)]
pub(super) struct Resumptions {
    /// The `initialize` that a session began with, if it is not in the id.
    pub(super) messages: Cache<String, Bytes>,
    /// Where a session was moved to.
    pub(super) moved: Cache<String, SessionTarget>,
    /// Sessions that their clients have ended. At the endpoint where a moved session began, it may be open still.
    ended: Cache<String, ()>,
    pub(super) streams: SessionStreams,
}

impl Default for Resumptions {
    fn default() -> Self {
        let weight = |id: &String, message: &Bytes| (id.len() + message.len()) as u32;
        Self {
            messages: Cache::builder()
                .max_capacity(limits::RESUME_BYTES)
                .weigher(weight)
                .time_to_idle(limits::RESUME_IDLE)
                .build(),
            moved: Cache::builder().max_capacity(limits::RESUMED_SESSIONS).time_to_idle(limits::RESUME_IDLE).build(),
            streams: SessionStreams::default(),
            ended: Cache::builder().max_capacity(limits::RESUMED_SESSIONS).time_to_idle(limits::RESUME_IDLE).build(),
        }
    }
}

impl Resumptions {
    /// Keeps the `initialize` that a session began with.
    pub(super) async fn remember(&self, sealed: String, message: Bytes) {
        self.messages.insert(sealed, message).await;
    }

    /// A client has ended its session. It must not be opened again from what its id carries.
    pub(super) async fn forget(&self, sealed: &str) {
        self.messages.invalidate(sealed).await;
        self.ended.insert(sealed.to_owned(), ()).await;
        if self.moved.contains_key(sealed) {
            self.moved.invalidate(sealed).await;
            self.streams.end(sealed);
        }
    }

    /// Points `open` to the endpoint that the session was moved to, if it was. False when the session has ended.
    #[must_use]
    pub(super) async fn follow(&self, open: &mut OpenSession) -> bool {
        if let Some(target) = self.moved.get(&open.sealed).await {
            open.target = target;
            return true;
        }
        self.ended.get(&open.sealed).await.is_none()
    }
}
