//! The data of a replica that is kept while the replica is dead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rmcp::model::CallToolResponse;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::mode::Mode;
use crate::server::Server;

/// A replica's identity, mode and counters. They are kept when the replica is killed.
pub(crate) struct Vitals {
    /// The server this is a replica of.
    pub(crate) server: Server,
    /// The replica's name, such as `fininfo-0`.
    pub(crate) name: String,
    /// Its open connections.
    pub(crate) connections: Gauge,
    /// Its running tool calls.
    pub(crate) calls: Gauge,
    mode: watch::Sender<Mode>,
    requests: AtomicU64,
}

impl Vitals {
    /// A replica that has not started yet.
    pub(crate) fn new(server: Server, index: usize) -> Self {
        Self {
            server,
            name: format!("{}-{index}", server.name()),
            connections: Gauge::default(),
            calls: Gauge::default(),
            mode: watch::Sender::new(Mode::Ok),
            requests: AtomicU64::new(0),
        }
    }

    /// The mode now.
    pub(crate) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// Sets the mode and returns the one before.
    pub(crate) fn set_mode(&self, mode: Mode) -> Mode {
        self.mode.send_replace(mode)
    }

    /// Counts a request.
    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the replica's name into the metadata of a tool's result.
    pub(crate) fn sign(&self, mut response: CallToolResponse) -> CallToolResponse {
        if let CallToolResponse::Complete(result) = &mut response {
            let meta = result.meta.get_or_insert_default();
            meta.insert("replica".to_owned(), Value::from(self.name.as_str()));
        }
        response
    }

    /// The replica's entry on the switch page.
    pub(crate) fn report(&self, address: SocketAddr) -> Value {
        json!({
            "name": self.name,
            "address": address,
            "mode": self.mode(),
            "requests": self.requests.load(Ordering::Relaxed),
            "open_connections": self.connections.value(),
            "running_calls": self.calls.value(),
        })
    }
}

/// Counts things that exist for a while, such as connections.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Counts one more until the returned guard drops.
    pub(crate) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.0.clone())
    }

    fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thing counted by a [`Gauge`], until it drops.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
