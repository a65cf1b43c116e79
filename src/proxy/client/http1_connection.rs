//! A client's HTTP/1 connection that the edge reads and writes itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{GetSocketDigest, Ssl};
use pingora::{Error, ErrorType, OrErr};
use tokio::io::AsyncWriteExt;

use super::alarm::Alarm;
use super::stream::ClientStream;
use crate::config::limits;
use crate::proxy::fill::fill;
use crate::proxy::within::within;

/// A connection, and what was read of it.
pub(crate) struct Http1Connection {
    pub(crate) stream: Box<ClientStream>,
    /// Bytes that were read and not used yet.
    pub(crate) input: BytesMut,
    /// Bytes that are still to be written.
    pub(crate) output: BytesMut,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) tls: Option<Arc<SslDigest>>,
    /// Made for the first answer that does not come at once.
    pub(crate) alarm: Option<Alarm>,
}

impl Http1Connection {
    pub(crate) fn new(stream: Box<ClientStream>) -> Self {
        let digest = stream.get_socket_digest();
        let (peer, local) = match &digest {
            Some(digest) => (digest.peer_addr(), digest.local_addr()),
            None => (None, None),
        };
        let [peer, local] = [peer, local].map(|address| address.and_then(|address| address.as_inet()).copied());
        let tls = stream.get_ssl_digest();
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), peer, local, tls, alarm: None }
    }

    /// Reads what has come, at most about `room` bytes. Zero: the client has closed its side.
    pub(crate) async fn fill(&mut self, room: usize) -> std::io::Result<usize> {
        fill(&mut *self.stream, &mut self.input, room).await
    }

    /// Reads what the client still sends, and drops it, for at most [`limits::LINGER`]. A connection that is closed with
    /// unread bytes is reset, and the client may lose the answer.
    pub(crate) async fn linger(&mut self) {
        let rest = async {
            while matches!(self.fill(limits::READ_BYTES).await, Ok(1..)) {
                self.input.clear();
            }
        };
        let _ = tokio::time::timeout(limits::LINGER, rest).await;
    }

    /// The request is served; the next one may come within `idle`. A connection that waits keeps no large buffer.
    pub(crate) fn end_request(&mut self, idle: Duration) {
        if self.input.is_empty() && self.input.capacity() > 2 * limits::READ_BYTES {
            self.input = BytesMut::new();
        }
        self.stream.end_request(idle, !self.input.is_empty());
    }

    /// Writes what was collected in `output`, and `piece` after it.
    pub(crate) async fn flush(&mut self, piece: &[u8], limit: Duration) -> pingora::Result<()> {
        let Self { stream, output, .. } = self;
        let writing = async {
            stream.write_all(output).await?;
            stream.write_all(piece).await?;
            stream.flush().await
        };
        let written = within(limit, writing).await;
        if output.capacity() > limits::KEPT_OUTPUT_BYTES {
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
