//! The open GET streams of sessions that can move to another endpoint (`sessions: {resume: true}`).
//!
//! When a session has moved, a stream at its old endpoint may stay open, but nothing of the session comes on it any more. So it
//! is ended, and the client opens another one, at the new endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The key is the sealed session id that the client has. A session without an open stream has no entry.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct SessionStreams(Arc<Mutex<HashMap<String, watch::Sender<bool>>>>);

/// An open stream of a session.
#[derive(Debug)]
pub(in crate::proxy) struct SessionStream {
    all: SessionStreams,
    sealed: String,
    is_over: watch::Receiver<bool>,
}

impl SessionStreams {
    /// Counts a stream of the session, until the stream is dropped.
    pub(in crate::proxy) fn open(&self, sealed: &str) -> SessionStream {
        let is_over = self.lock().entry(sealed.to_owned()).or_default().subscribe();
        SessionStream { all: self.clone(), sealed: sealed.to_owned(), is_over }
    }

    /// Ends all streams of the session that are open now.
    pub(in crate::proxy) fn end(&self, sealed: &str) {
        if let Some(sender) = self.lock().remove(sealed) {
            sender.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionStream {
    /// True when the stream has to end.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// What waits until the stream has to end.
    pub(in crate::proxy) fn watch(&self) -> watch::Receiver<bool> {
        self.is_over.clone()
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        // After the session has moved, the entry is that of newer streams.
        let is_own = |sender: &watch::Sender<bool>| sender.subscribe().same_channel(&self.is_over);
        // This one is still counted.
        if all.get(&self.sealed).is_some_and(|sender| is_own(sender) && sender.receiver_count() <= 1) {
            all.remove(&self.sealed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_end_with_their_session_and_leave_nothing() {
        let streams = SessionStreams::default();
        let (one, two, other) = (streams.open("a"), streams.open("a"), streams.open("b"));
        streams.end("a");
        assert!(one.is_over() && two.is_over() && !other.is_over());
        let later = streams.open("a");
        assert!(!later.is_over(), "it was opened at the new endpoint");
        drop(one);
        assert_eq!(streams.lock().len(), 2, "the later one is still known");
        streams.end("a");
        assert!(later.is_over());
        drop((two, other, later));
        assert!(streams.lock().is_empty());
    }
}
