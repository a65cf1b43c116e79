//! The connection that one exchange has with a replica.

mod http1;
mod http2;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorSource, ErrorType};
use tokio::time::Instant;

use self::http1::Http1Link;
use self::http2::Http2Link;
pub(crate) use self::http2::was_not_processed;
use super::upstream_head::UpstreamHead;
use crate::http1::BodyLength;
use crate::proxy::edge::Edge;
use crate::upstream::{Endpoint, Upstream, Wire};

/// A connection, and the endpoint that it belongs to. What is sent is first queued, and then flushed.
pub(crate) struct Link {
    endpoint: Arc<Endpoint>,
    protocol: Protocol,
}

enum Protocol {
    Http1(Http1Link),
    Http2(Http2Link),
}

impl Link {
    /// An idle connection, or else a new one. Also says whether it was used before.
    pub(crate) async fn open(
        edge: &Edge,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
    ) -> pingora::Result<(Self, bool)> {
        let link = |protocol| Self { endpoint: Arc::clone(endpoint), protocol };
        if upstream.settings().http2 {
            // Boxed, because the future of a TLS handshake is large, and every stream would carry room for it.
            let peer = endpoint.peer();
            return match Box::pin(edge.upstreams.get_http_session(&*peer)).await? {
                (HttpSession::H2(stream), reused) => Ok((
                    link(Protocol::Http2(Http2Link::new(Box::new(stream), peer, Arc::clone(&edge.upstreams)))),
                    reused,
                )),
                _ => Error::e_explain(ErrorType::ConnectError, "the upstream does not speak HTTP/2"),
            };
        }
        if let Some(stream) = endpoint.take_idle() {
            return Ok((link(Protocol::Http1(Http1Link::new(stream))), true));
        }
        let stream = Wire::connect(&edge.transport, &endpoint.peer(), endpoint.address()).await?;
        Ok((link(Protocol::Http1(Http1Link::new(stream))), false))
    }

    /// Begins a request. `first`: what is at hand of its body. `end`: that is all of it.
    pub(crate) fn begin(&mut self, head: UpstreamHead<'_>, first: Bytes, end: bool) -> pingora::Result<()> {
        match &mut self.protocol {
            Protocol::Http1(link) => {
                head.to_wire(link.begin(head.method(), head.length(), head.upgrades()))?;
                if head.length() != BodyLength::Exact(0) {
                    link.queue(first, end)?;
                }
            }
            Protocol::Http2(link) => {
                let ends = end && first.is_empty();
                link.begin(head.to_header()?, ends)?;
                if !ends {
                    link.queue(first, end);
                }
            }
        }
        Ok(())
    }

    /// Queues a piece of the request's body. Everything before must have been flushed. `end`: it is the last one.
    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.queue(piece, end),
            Protocol::Http2(link) => {
                link.queue(piece, end);
                Ok(())
            }
        }
    }

    /// Since when the upstream does not read.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        match &self.protocol {
            Protocol::Http1(link) => link.stalled_since(),
            Protocol::Http2(link) => link.stalled_since(),
        }
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.poll_flush(cx),
            Protocol::Http2(link) => link.poll_flush(cx),
        }
    }

    /// Reads the next head: of the answer, or of an informational answer before it. 101 comes only if the request asked for
    /// it.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Box<ResponseHeader>>> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.poll_head(cx),
            Protocol::Http2(link) => link.poll_head(cx),
        }
    }

    /// Sends what is queued, and waits for the head of the answer.
    pub(crate) async fn answer(&mut self) -> pingora::Result<Box<ResponseHeader>> {
        loop {
            let head = poll_fn(|cx| match self.poll_flush(cx)? {
                Poll::Ready(()) | Poll::Pending => self.poll_head(cx),
            });
            let head = head.await?;
            if is_answer(head.status) {
                return Ok(head);
            }
        }
    }

    /// True once something of the answer has come, as far as that can be seen.
    pub(crate) fn has_seen(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(link) => link.has_seen(),
            Protocol::Http2(_) => false,
        }
    }

    /// The next piece of the answer's body. `None`: it has ended.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.poll_body(cx),
            Protocol::Http2(link) => link.poll_body(cx),
        }
    }

    /// The trailers behind the answer's body. Those of HTTP/1 are dropped (RFC 9110 section 6.5.1 allows that).
    pub(crate) async fn read_trailers(&mut self) -> pingora::Result<Option<HeaderMap>> {
        match &mut self.protocol {
            Protocol::Http1(_) => Ok(None),
            Protocol::Http2(link) => link.read_trailers().await,
        }
    }

    /// The exchange has ended whole. The connection is kept for others, if the replica keeps it open.
    pub(crate) fn release(self) {
        // HTTP/2 keeps the connection in any case.
        if let Protocol::Http1(link) = self.protocol
            && let Some(stream) = link.into_idle()
        {
            self.endpoint.keep_idle(stream);
        }
    }

    /// The exchange took too long. Later ones do not begin on the same HTTP/2 connection, which may be dead.
    pub(crate) fn leave_connection(&self) {
        if let Protocol::Http2(link) = &self.protocol {
            self.endpoint.leave_connections(link.peer());
        }
    }

    /// Breaks the exchange off. The upstream sees the connection, or its stream, closed.
    pub(crate) async fn abandon(self) {
        match self.protocol {
            Protocol::Http1(mut link) => link.shutdown().await,
            Protocol::Http2(mut link) => link.shutdown(),
        }
    }
}

/// A 1xx is not the answer yet, except for 101.
pub(crate) fn is_answer(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// True when a deadline of the route was missed.
pub(crate) fn is_late(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream
        && matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
}
