//! A client's HTTP/1 connection.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::Ssl;
use pingora::protocols::tls::SslDigest;
use pingora::server::ShutdownWatch;

use super::stream::ClientStream;
use crate::config::limits;
use crate::proxy::fill::poll_fill;
use crate::proxy::outbox::Outbox;

/// A connection, and what was read of it.
pub(crate) struct Http1Connection {
    pub(crate) stream: Box<ClientStream>,
    /// Bytes that were read and not used yet.
    pub(crate) input: BytesMut,
    /// Bytes that are still to be written.
    pub(crate) outbox: Outbox,
    pub(crate) tls: Option<Arc<SslDigest>>,
    /// True once the edge stops. Connections close after the answers that begin then.
    stopping: ShutdownWatch,
}

impl Http1Connection {
    pub(crate) fn new(stream: Box<ClientStream>, stopping: ShutdownWatch) -> Self {
        let tls = stream.get_ssl_digest();
        let (input, outbox) = (BytesMut::new(), Outbox::default());
        Self { stream, input, outbox, tls, stopping }
    }

    /// True when the edge stops, and wants no more requests.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Reads what has come, at most about `room` bytes. Zero: the client has closed its side.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<std::io::Result<usize>> {
        poll_fill(cx, &mut *self.stream, &mut self.input, room)
    }

    /// Reads what comes of the next request. A connection that waits for it keeps no buffer.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let read = self.poll_fill(cx, limits::READ_BYTES);
        if read.is_pending() && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        read
    }

    /// Reads what the client still sends, and drops it: as long as bytes come, but not longer than
    /// [`limits::LINGER_TIME`]. A connection that is closed with unread bytes is reset, and the client may lose the answer.
    pub(crate) async fn linger(&mut self) {
        let rest = async {
            loop {
                self.input.clear();
                let read = std::future::poll_fn(|cx| self.poll_fill(cx, limits::READ_BYTES));
                if !matches!(tokio::time::timeout(limits::LINGER, read).await, Ok(Ok(1..))) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limits::LINGER_TIME, rest).await;
    }

    /// The request is served; the next one may come within `idle`.
    pub(crate) fn end_request(&mut self, idle: Duration) {
        self.stream.end_request(idle, !self.input.is_empty());
    }

    /// Writes what is in the outbox.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.outbox.poll_flush(cx, &mut *self.stream)
    }
}
