//! One HTTP/1 request to a replica and its answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::UPGRADE;
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, OrErr};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::config::limits;
use crate::http1::{BodyLength, BodyReader, BodyWriter, Step, keeps_alive, parse_response};
use crate::proxy::fill::poll_fill;
use crate::proxy::outbox::Outbox;
use crate::upstream::Wire;

/// An exchange with a replica.
pub(crate) struct Http1Link {
    stream: Wire,
    input: BytesMut,
    outbox: Outbox,
    /// The method of the request.
    method: Method,
    /// The framing of the request's body.
    writer: BodyWriter,
    /// True when the request asks for a WebSocket.
    upgrades: bool,
    /// The body of the answer, once its head was read.
    body: Option<BodyReader>,
    /// True once something of the answer has come.
    has_seen: bool,
    /// True when the replica keeps the connection open.
    keepalive: bool,
    /// What the end of a tunnel still needs.
    closing: Closing,
}

/// The end of this side of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Wanted,
    Done,
}

impl Http1Link {
    /// On a connection that is not in use.
    pub(crate) fn new(stream: Wire) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            outbox: Outbox::default(),
            method: Method::GET,
            writer: BodyWriter::new(BodyLength::Exact(0)),
            upgrades: false,
            body: None,
            has_seen: false,
            keepalive: false,
            closing: Closing::No,
        }
    }

    /// Begins a request with `method` and a body of this length. `upgrades`: it asks for a WebSocket. Its head is to be
    /// written to the buffer.
    pub(crate) fn begin(&mut self, method: &Method, length: BodyLength, upgrades: bool) -> &mut BytesMut {
        self.method.clone_from(method);
        (self.writer, self.upgrades) = (BodyWriter::new(length), upgrades);
        self.outbox.head()
    }

    /// Queues a piece of the request's body. `end`: it is the last one.
    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        self.outbox.put(piece, end, &mut self.writer).or_err(ErrorType::WriteError, "writing a request")?;
        if end && self.upgrades {
            self.closing = Closing::Wanted;
        }
        Ok(())
    }

    /// Since when the replica does not read.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.outbox.stalled_since()
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        let flushed = ready!(self.outbox.poll_flush(cx, &mut self.stream));
        flushed.or_err(ErrorType::WriteError, "writing a request")?;
        if self.closing == Closing::Wanted {
            let closed = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.closing = Closing::Done;
            closed.or_err(ErrorType::WriteError, "ending a tunnel")?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the next head: of the answer, or of an informational answer before it.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Box<ResponseHeader>>> {
        loop {
            let parsed = parse_response(&mut self.input);
            match parsed.or_err(ErrorType::InvalidHTTPHeader, "reading an answer")? {
                Some(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(self.switch(head)),
                Some(head) if head.status.is_informational() => return Poll::Ready(Ok(head)),
                Some(head) => return Poll::Ready(self.begin_body(head)),
                None if self.input.len() > limits::ANSWER_HEAD_BYTES => {
                    let error = Error::explain(ErrorType::InvalidHTTPHeader, "the head of the answer is too large");
                    return Poll::Ready(Err(error));
                }
                None => {
                    if ready!(self.poll_fill(cx, limits::READ_BYTES))? == 0 {
                        let error = "the connection ended before the answer";
                        return Poll::Ready(Error::e_explain(ErrorType::ConnectionClosed, error));
                    }
                }
            }
        }
    }

    fn switch(&mut self, head: Box<ResponseHeader>) -> pingora::Result<Box<ResponseHeader>> {
        let protocol = head.headers.get(UPGRADE).map(|protocol| protocol.as_bytes()).unwrap_or_default();
        if !self.upgrades || !protocol.eq_ignore_ascii_case(b"websocket") {
            return Error::e_explain(
                ErrorType::InvalidHTTPHeader,
                "the answer switches to a protocol that was not wanted",
            );
        }
        (self.body, self.writer) =
            (Some(BodyReader::new(BodyLength::UntilClose)), BodyWriter::new(BodyLength::UntilClose));
        Ok(head)
    }

    fn begin_body(&mut self, head: Box<ResponseHeader>) -> pingora::Result<Box<ResponseHeader>> {
        let length = BodyLength::of_response(&self.method, head.status, head.version, &head.headers);
        let Some(length) = length else {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "the length of the answer is ambiguous");
        };
        // A message with both may be an attempt at smuggling (RFC 9112 section 6.1).
        let has_both = length == BodyLength::Chunked && head.headers.contains_key(http::header::CONTENT_LENGTH);
        self.keepalive = keeps_alive(head.version, &head.headers) && !has_both;
        self.upgrades = false;
        self.body = Some(BodyReader::new(length));
        Ok(head)
    }

    /// True once something of the answer has come.
    pub(crate) fn has_seen(&self) -> bool {
        self.has_seen
    }

    /// The next piece of the answer's body. `None`: it has ended.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
            match body.next(&mut self.input).or_err(ErrorType::InvalidHTTPHeader, "reading an answer")? {
                Step::Piece(piece) => return Poll::Ready(Ok(Some(piece))),
                Step::End => return Poll::Ready(Ok(None)),
                Step::Wait => {}
            }
            let room = usize::try_from(body.expected())
                .unwrap_or(usize::MAX)
                .clamp(limits::READ_BYTES, limits::READ_MORE_BYTES);
            if ready!(self.poll_fill(cx, room))? == 0
                && let Some(body) = &mut self.body
            {
                self.keepalive = false;
                body.closed().or_err(ErrorType::ConnectionClosed, "reading an answer")?;
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<pingora::Result<usize>> {
        let read = ready!(poll_fill(cx, &mut self.stream, &mut self.input, room));
        self.has_seen |= matches!(read, Ok(1..));
        Poll::Ready(read.or_err(ErrorType::ReadError, "reading an answer"))
    }

    /// The connection, if another request can be sent on it. The whole request must have been sent.
    pub(crate) fn into_idle(self) -> Option<Wire> {
        let is_whole = self.body.is_some_and(|body| body.is_done()) && self.input.is_empty() && self.outbox.is_empty();
        (self.keepalive && is_whole).then_some(self.stream)
    }

    /// Closes the connection in the middle of an exchange.
    pub(crate) async fn shutdown(&mut self) {
        // TLS sends a closing message. A peer that does not read could hold that up.
        let _ = tokio::time::timeout(limits::GOODBYE, self.stream.shutdown()).await;
    }
}
