//! A client's request and its answer, whichever way the request came: the edge reads HTTP/1 itself, and HTTP/2 comes through
//! Pingora.
//!
//! An answer is first queued and then flushed. One piece of a body waits at a time: whoever passes pieces on has to flush one
//! before the next, so that a client that does not read holds its upstream up.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::tls::SslDigest;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use tokio::time::Instant;

use super::http1_downstream::Http1Downstream;
use super::http2_downstream::Http2Downstream;
use super::pingora_downstream::PingoraDownstream;
use super::transfer::{Follows, Seen};
use crate::config::limits;
use crate::http1::BodyLength;
use crate::proxy::within::within;

/// One request of a client, and the answer to it.
pub(crate) struct Downstream<'a> {
    wire: Wire<'a>,
    /// How long the client may take to accept a piece of an answer.
    write_timeout: Duration,
}

enum Wire<'a> {
    Http1(Http1Downstream<'a>),
    Http2(Http2Downstream<'a>),
    /// HTTP/1 that Pingora reads.
    Pingora(PingoraDownstream<'a>),
}

/// Does the same with the request of each kind.
macro_rules! each {
    ($wire:expr, $request:ident => $call:expr) => {
        match $wire {
            Wire::Http1($request) => $call,
            Wire::Http2($request) => $call,
            Wire::Pingora($request) => $call,
        }
    };
}

impl<'a> Downstream<'a> {
    /// A request over HTTP/1. `write_timeout`: how long the client may take to accept a piece of the answer.
    pub(crate) fn of_http1(request: Http1Downstream<'a>, write_timeout: Duration) -> Self {
        Self { wire: Wire::Http1(request), write_timeout }
    }

    /// A request that Pingora has accepted. `keepalive`: how long an HTTP/1 connection may wait for the next request.
    ///
    /// # Errors
    /// It is neither HTTP/1 nor HTTP/2.
    pub(crate) fn of_pingora(
        session: &'a mut Session,
        write_timeout: Duration,
        keepalive: Duration,
    ) -> pingora::Result<Self> {
        if !session.is_http2() {
            let request = PingoraDownstream::new(session, write_timeout, keepalive);
            return Ok(Self { wire: Wire::Pingora(request), write_timeout });
        }
        match session.as_downstream_mut() {
            ServerSession::H2(stream) => Ok(Self { wire: Wire::Http2(Http2Downstream::new(stream)), write_timeout }),
            _ => Error::e_explain(ErrorType::InternalError, "a request of an unknown protocol"),
        }
    }

    /// The request over HTTP/1 that this was made from.
    pub(crate) fn into_http1(self) -> Option<Http1Downstream<'a>> {
        match self.wire {
            Wire::Http1(request) => Some(request),
            Wire::Http2(_) | Wire::Pingora(_) => None,
        }
    }

    /// The head of the request.
    pub(crate) fn req_header(&self) -> &RequestHeader {
        each!(&self.wire, request => request.head())
    }

    /// What the TLS handshake told about the client.
    pub(crate) fn tls(&self) -> Option<&SslDigest> {
        match &self.wire {
            Wire::Http1(request) => request.connection().tls.as_deref(),
            Wire::Http2(request) => request.digest()?.ssl_digest.as_deref(),
            Wire::Pingora(request) => request.session().digest()?.ssl_digest.as_deref(),
        }
    }

    /// The client's address: the other end of the connection.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match &self.wire {
            Wire::Http1(request) => Some(request.connection().stream.peer()),
            Wire::Http2(request) => request.digest()?.socket_digest.as_ref()?.peer_addr()?.as_inet().copied(),
            Wire::Pingora(request) => request.session().client_addr()?.as_inet().copied(),
        }
    }

    /// The address of the listener that accepted the connection.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match &self.wire {
            Wire::Http1(request) => Some(request.connection().stream.local()),
            Wire::Http2(request) => request.digest()?.socket_digest.as_ref()?.local_addr()?.as_inet().copied(),
            Wire::Pingora(request) => request.session().server_addr()?.as_inet().copied(),
        }
    }

    /// True when the client asks for a WebSocket: with an upgrade of HTTP/1.1 (RFC 6455 section 4.1), or with an extended
    /// CONNECT of HTTP/2 (RFC 8441 section 4).
    pub(crate) fn asks_for_websocket(&self) -> bool {
        if let Wire::Http2(request) = &self.wire {
            return self.req_header().method == Method::CONNECT && request.asks_for() == Some("websocket");
        }
        let header = self.req_header();
        let has = |name, wanted: &[u8]| {
            let fields = header.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            fields
                .flat_map(|field| field.split(|byte| *byte == b','))
                .any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted))
        };
        header.version == Version::HTTP_11 && has(UPGRADE, b"websocket") && has(CONNECTION, b"upgrade")
    }

    /// True over HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.wire, Wire::Http2(_))
    }

    /// The client has left, and its request goes on: its connection does not count any more.
    pub(crate) fn makes_room(&mut self) {
        if let Wire::Http1(request) = &mut self.wire {
            request.makes_room();
        }
    }

    /// The connection closes after this answer.
    pub(crate) fn close_after(&mut self) {
        match &mut self.wire {
            Wire::Http1(request) => request.close_after(),
            // Each request is a stream.
            Wire::Http2(_) => {}
            Wire::Pingora(request) => request.close_after(),
        }
    }

    /// The length of the request's body, or why it is ambiguous.
    pub(crate) fn length(&self) -> Result<BodyLength, &'static str> {
        each!(&self.wire, request => request.length())
    }

    /// True when the whole body was read, or there is none.
    pub(crate) fn is_body_done(&self) -> bool {
        each!(&self.wire, request => request.is_body_done())
    }

    /// True for a client that sends its body only after it was told to continue, and was not told yet (RFC 9110 section
    /// 10.1.1). HTTP/1.0 does not know that.
    pub(crate) fn waits_for_continue(&self) -> bool {
        let header = self.req_header();
        let mut expected = header.headers.get_all(EXPECT).iter().map(HeaderValue::as_bytes);
        header.version != Version::HTTP_10
            && expected.any(|expected| expected.eq_ignore_ascii_case(b"100-continue"))
            && match &self.wire {
                Wire::Http1(request) => request.is_unanswered(),
                Wire::Http2(request) => request.status().is_none(),
                Wire::Pingora(request) => request.is_unanswered(),
            }
    }

    /// The next piece of the body. `None`: it has ended. No byte is lost when this is not ready.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        each!(&mut self.wire, request => request.poll_body(cx))
    }

    /// The next piece of the body.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_body(cx)).await
    }

    /// Reads the rest of the body and drops it, for at most [`limits::LINGER`]. True when the body was read to its end:
    /// only then can the connection serve another request.
    pub(crate) async fn discard_body(&mut self) -> bool {
        let discard = async {
            while self.read_body().await?.is_some() {}
            Ok::<(), Box<Error>>(())
        };
        matches!(within(limits::LINGER, discard).await, Ok(Ok(())))
    }

    /// Ready when the client does something although it should wait for its answer.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Seen>> {
        each!(&mut self.wire, request => request.poll_idle(cx))
    }

    /// True when the client has closed its side of the connection, also while bytes of it are still unread, as far as that
    /// can be seen.
    pub(crate) fn is_read_closed(&self) -> bool {
        matches!(&self.wire, Wire::Http1(request) if request.connection().stream.is_read_closed())
    }

    /// Ready at `deadline`, which may change from call to call.
    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        each!(&mut self.wire, request => request.poll_alarm(cx, deadline))
    }

    /// Tells the client to send its body (RFC 9110 section 10.1.1). HTTP/2 as Pingora has it cannot send that: clients send
    /// the body after a while.
    pub(crate) async fn write_continue(&mut self) -> pingora::Result<()> {
        match &mut self.wire {
            Wire::Http1(request) => request.queue_continue(),
            Wire::Http2(_) => {}
            Wire::Pingora(request) => request.queue_continue()?,
        }
        self.flush().await
    }

    /// Queues an informational answer of the upstream. HTTP/2 as Pingora has it cannot send it.
    pub(crate) fn queue_informational(&mut self, head: ResponseHeader) {
        match &mut self.wire {
            Wire::Http1(request) => request.queue_informational(&head),
            Wire::Http2(_) => {}
            Wire::Pingora(request) => request.queue_informational(head),
        }
    }

    /// Queues the head of the answer.
    pub(crate) fn queue_head(&mut self, head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        each!(&mut self.wire, request => request.queue_head(head, follows))
    }

    /// Queues the head of an answer that turns the connection, or the stream, into a tunnel: 101, or 200 over HTTP/2.
    pub(crate) fn queue_switch(&mut self, mut head: Box<ResponseHeader>) -> pingora::Result<()> {
        match &mut self.wire {
            Wire::Http1(request) => request.queue_switch(&head),
            Wire::Http2(request) => {
                head.set_status(StatusCode::OK)?;
                request.queue_head(head, Follows::Body)?;
            }
            Wire::Pingora(request) => request.queue_switch(*head)?,
        }
        Ok(())
    }

    /// Queues a piece of the answer's body. `end`: it is the last one.
    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        match &mut self.wire {
            Wire::Http1(request) => request.queue(piece, end),
            Wire::Http2(request) => request.queue(piece, end),
            Wire::Pingora(request) => {
                request.queue(piece, end);
                Ok(())
            }
        }
    }

    /// Queues the end of the answer's body, with trailers. HTTP/1 gets none: few of its clients read them.
    pub(crate) fn queue_trailers(&mut self, trailers: HeaderMap) -> pingora::Result<()> {
        match &mut self.wire {
            Wire::Http2(request) => request.queue_trailers(trailers),
            Wire::Http1(_) | Wire::Pingora(_) => self.queue(Bytes::new(), true),
        }
    }

    /// Does the part of a flush that cannot be broken off: of requests that Pingora reads.
    pub(crate) async fn settle(&mut self) -> pingora::Result<()> {
        match &mut self.wire {
            Wire::Pingora(request) => request.settle().await,
            Wire::Http1(_) | Wire::Http2(_) => Ok(()),
        }
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        match &mut self.wire {
            Wire::Http1(request) => request.poll_flush(cx),
            Wire::Http2(request) => request.poll_flush(cx),
            Wire::Pingora(_) => Poll::Ready(Ok(())),
        }
    }

    /// When what is queued must have been written at the latest.
    pub(crate) fn flush_due(&self) -> Option<Instant> {
        let stalled = match &self.wire {
            Wire::Http1(request) => request.stalled_since(),
            Wire::Http2(request) => request.stalled_since(),
            Wire::Pingora(_) => None,
        };
        stalled.map(|since| since + self.write_timeout)
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The client does not read, or has left.
    pub(crate) async fn flush(&mut self) -> pingora::Result<()> {
        self.settle().await?;
        let limit = self.write_timeout;
        match within(limit, poll_fn(|cx| self.poll_flush(cx))).await {
            Ok(flushed) => flushed,
            Err(_) => Err(self.give_up()),
        }
    }

    /// The client does not read. Nothing is written any more.
    pub(crate) fn give_up(&mut self) -> Box<Error> {
        match &mut self.wire {
            Wire::Http1(request) => request.give_up(),
            Wire::Http2(request) => request.give_up(),
            Wire::Pingora(_) => {}
        }
        Error::explain(ErrorType::WriteTimedout, "the client does not read").into_down()
    }

    /// The answer cannot be finished. HTTP/1 shows that with the end of the connection.
    pub(crate) fn break_off(&mut self) {
        if let Wire::Http2(request) = &mut self.wire {
            request.give_up();
        }
    }

    /// The status of the answer, if its head was sent. A 1xx is not the answer yet, except for 101.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        each!(&self.wire, request => request.status())
    }

    /// True when the client may have seen a part of the answer.
    pub(crate) fn has_begun(&self) -> bool {
        match &self.wire {
            Wire::Http1(request) => request.has_begun(),
            Wire::Http2(_) | Wire::Pingora(_) => self.status().is_some(),
        }
    }

    /// How many bytes of the request's body were read.
    pub(crate) fn bytes_in(&self) -> u64 {
        each!(&self.wire, request => request.received())
    }

    /// How many bytes of the answer's body were written.
    pub(crate) fn bytes_out(&self) -> u64 {
        each!(&self.wire, request => request.sent())
    }
}
