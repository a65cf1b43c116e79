//! Handles to open upstream connections, so that a deadline can end one of them. Pingora's only limit on waiting for a
//! response is the longest silence between two reads, and it is fixed before the request is sent. This limit cannot
//! tell "no response head within a minute" from "a stream that is silent for ten minutes". So the edge has its own
//! deadline for the response head, and ends the connection when the deadline has passed.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pingora::upstreams::peer::{HttpPeer, Tracer, Tracing};
use socket2::SockRef;

/// A duplicate of a connection's file descriptor. It belongs to the same connection even after the original descriptor
/// is closed and its number is used for another connection.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Ends the connection at once. Reads and writes that are waiting on it end too.
    pub fn abort(&self) {
        // An error means that the connection has already ended.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

/// The open upstream connections of one edge, by descriptor number.
#[derive(Debug, Default)]
pub struct Connections(Arc<Mutex<HashMap<RawFd, Weak<Connection>>>>);

impl Connections {
    /// Registers the connection that will be opened for `peer`, for as long as it is open.
    pub fn follow(&self, peer: &mut HttpPeer) {
        let slot = Slot::default();
        let (open, held) = (Arc::clone(&self.0), slot.clone());
        peer.options.tracer = Some(Tracer(Box::new(slot)));
        peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(move |socket| {
            // If the descriptor cannot be duplicated, the response head has no deadline. The limit on silence still
            // applies.
            if let Ok(duplicate) = socket.as_fd().try_clone_to_owned() {
                let connection = Arc::new(Connection(duplicate));
                lock(&open).insert(socket.as_raw_fd(), Arc::downgrade(&connection));
                *lock(&held.0) = Some(connection);
            }
            Ok(())
        }));
    }

    /// The open connection with this descriptor number.
    pub fn get(&self, descriptor: RawFd) -> Option<Weak<Connection>> {
        lock(&self.0).get(&descriptor).cloned()
    }
}

/// Holds the duplicate of one connection. The connection's stream owns the slot and empties it when the stream closes.
#[derive(Clone, Debug, Default)]
struct Slot(Arc<Mutex<Option<Arc<Connection>>>>);

impl Tracing for Slot {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        *lock(&self.0) = None;
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
