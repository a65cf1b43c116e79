//! A client's HTTP/1 connection, which the edge reads and writes itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{GetSocketDigest, Ssl};
use pingora::{Error, ErrorType, OrErr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::alarm::Alarm;
use super::stream::Downstream;
use crate::proxy::front::last_request::LastRequest;
use crate::proxy::mcp_session::LastOpened;
use crate::proxy::within::within;

/// Room for what a client sends at once, in bytes: most requests whole.
pub(crate) const READ_BYTES: usize = 4 << 10;
/// A larger buffer for what is written is given back, in bytes.
const KEPT_OUTPUT: usize = 64 << 10;

/// A client's connection and what was read of it.
pub(crate) struct Http1Connection {
    pub(crate) stream: Box<Downstream>,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) tls: Option<Arc<SslDigest>>,
    /// For answers that take their time.
    pub(crate) alarm: Option<Alarm>,
    /// While the next request is awaited.
    pub(crate) last: Option<LastRequest>,
    /// Kept from one request to the next.
    pub(crate) last_session: Option<Box<LastOpened>>,
}

impl Http1Connection {
    pub(crate) fn new(stream: Box<Downstream>) -> Self {
        let digest = stream.get_socket_digest();
        let (peer, local) = match &digest {
            Some(digest) => (digest.peer_addr(), digest.local_addr()),
            None => (None, None),
        };
        let [peer, local] = [peer, local].map(|address| address.and_then(|address| address.as_inet()).copied());
        let tls = stream.get_ssl_digest();
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            peer,
            local,
            tls,
            alarm: None,
            last: None,
            last_session: None,
        }
    }

    /// Reads what has come, about `room` bytes at most. Zero is the connection's end.
    pub(crate) async fn fill(&mut self, room: usize) -> std::io::Result<usize> {
        fill(&mut *self.stream, &mut self.input, room).await
    }

    /// Reads what the client still sends, for nobody: with unread bytes the connection would be reset, and the answer lost.
    pub(crate) async fn linger(&mut self) {
        let rest = async {
            while matches!(self.fill(READ_BYTES).await, Ok(1..)) {
                self.input.clear();
            }
        };
        // A second is enough for an answer to arrive.
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    }

    /// The request is served. A connection that waits needs little room.
    pub(crate) fn end_request(&mut self, idle: Duration) {
        if self.input.is_empty() && self.input.capacity() > 2 * READ_BYTES {
            self.input = BytesMut::new();
        }
        self.stream.end_request(idle, !self.input.is_empty());
    }

    /// Writes what was collected, and `piece` behind it.
    pub(crate) async fn flush(&mut self, piece: &[u8], limit: Duration) -> pingora::Result<()> {
        let Self { stream, output, .. } = self;
        let writing = async {
            stream.write_all(output).await?;
            stream.write_all(piece).await?;
            stream.flush().await
        };
        let written = within(limit, writing).await;
        if output.capacity() > KEPT_OUTPUT {
            *output = BytesMut::new();
        }
        output.clear();
        match written {
            Ok(written) => {
                written.or_err(ErrorType::WriteError, "writing an answer").map_err(|error| error.into_down())
            }
            Err(_) => Err(Error::explain(ErrorType::WriteTimedout, "the client does not read").into_down()),
        }
    }
}

/// Reads what has come into `input`, about `room` bytes at most. Zero is the connection's end.
pub(crate) async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    room: usize,
) -> std::io::Result<usize> {
    // Most requests fit into what the ones before have left.
    if input.capacity() - input.len() < room / 8 {
        input.reserve(room);
    }
    stream.read_buf(input).await
}
