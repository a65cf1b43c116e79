//! Hands on open upstream connections, so that a deadline can end one. Pingora's only limit on waiting for a response is
//! the longest silence between two reads, fixed before the request is sent: it cannot tell "no response head within a
//! minute" from "a stream that is silent for ten". So the head has a deadline of its own, and this is how it strikes.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pingora::upstreams::peer::{HttpPeer, Tracer, Tracing};
use socket2::SockRef;

/// A duplicate of a connection's descriptor: it stays the same connection whatever happens to the number.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Ends the connection at once, for whoever reads or writes it.
    pub fn abort(&self) {
        // An error says that it has ended already.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

/// The open connections of one edge, by descriptor number.
#[derive(Debug, Default)]
pub struct Connections(Arc<Mutex<HashMap<RawFd, Weak<Connection>>>>);

impl Connections {
    /// Makes a connection that is opened for `peer` known here for as long as it is open.
    pub fn follow(&self, peer: &mut HttpPeer) {
        let slot = Slot::default();
        let (open, held) = (Arc::clone(&self.0), slot.clone());
        peer.options.tracer = Some(Tracer(Box::new(slot)));
        peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(move |socket| {
            // Without the duplicate there is no deadline for the head; the limit on silence still holds.
            if let Ok(duplicate) = socket.as_fd().try_clone_to_owned() {
                let connection = Arc::new(Connection(duplicate));
                lock(&open).insert(socket.as_raw_fd(), Arc::downgrade(&connection));
                *lock(&held.0) = Some(connection);
            }
            Ok(())
        }));
    }

    /// The open connection with this descriptor.
    pub fn get(&self, descriptor: RawFd) -> Option<Weak<Connection>> {
        lock(&self.0).get(&descriptor).cloned()
    }
}

/// Holds the duplicate of one connection; the connection's stream owns it, and lets it go when it closes.
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
