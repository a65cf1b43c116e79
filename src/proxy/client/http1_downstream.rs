//! One HTTP/1 request of a client and its answer.

use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use http::header::{CONNECTION, DATE, UPGRADE};
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType, OrErr};
use tokio::time::Instant;

use super::http1_connection::Http1Connection;
use super::transfer::{Follows, Seen};
use crate::config::limits;
use crate::http1::{BodyLength, BodyReader, BodyWriter, RequestHead, Step, encode_field, encode_head};

/// How an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// The framing shows the client that something is missing.
    Broken,
    /// Only the way in which the connection ends can show it: with a reset.
    BrokenUnseen,
}

/// A request, and what was answered.
pub(crate) struct Http1Downstream<'c> {
    connection: &'c mut Http1Connection,
    head: RequestHead,
    body: BodyReader,
    /// How many bytes of the request's body were read.
    received: u64,
    keepalive: bool,
    /// True when 100 was sent.
    continued: bool,
    /// The status of the answer whose head was written.
    status: Option<StatusCode>,
    /// The status of the answer whose head is in the outbox.
    collected: Option<StatusCode>,
    writer: BodyWriter,
    /// How many bytes of the answer's body were put into the outbox, and how many were written.
    queued: u64,
    sent: u64,
    /// True when the end of the answer is in the outbox, or was written.
    ended: bool,
    /// True when the whole answer was written.
    answered: bool,
    /// True when the client does not read any more.
    lost: bool,
}

impl<'c> Http1Downstream<'c> {
    /// A request whose head was read from `connection`. A request that is refused because its length is ambiguous counts as
    /// one without a body.
    pub(crate) fn new(connection: &'c mut Http1Connection, head: RequestHead) -> Self {
        Self {
            connection,
            body: BodyReader::new(head.length.unwrap_or(BodyLength::Exact(0))),
            received: 0,
            keepalive: head.keeps_alive && head.length.is_ok(),
            continued: false,
            status: None,
            collected: None,
            writer: BodyWriter::new(BodyLength::Exact(0)),
            queued: 0,
            sent: 0,
            ended: false,
            answered: false,
            lost: false,
            head,
        }
    }

    pub(crate) fn head(&self) -> &RequestHeader {
        &self.head.header
    }

    /// Gives the head back: the next request of the connection may have the same.
    pub(crate) fn into_head(self) -> RequestHead {
        self.head
    }

    pub(crate) fn connection(&self) -> &Http1Connection {
        self.connection
    }

    pub(crate) fn length(&self) -> Result<BodyLength, &'static str> {
        self.head.length
    }

    /// The client has left, and its request goes on: its connection does not count any more.
    pub(crate) fn makes_room(&mut self) {
        self.connection.stream.makes_room();
    }

    /// The connection closes after this answer.
    pub(crate) fn close_after(&mut self) {
        self.keepalive = false;
    }

    pub(crate) fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// True when the client may have seen a part of the answer.
    pub(crate) fn has_begun(&self) -> bool {
        self.status.is_some() || (self.collected.is_some() && self.connection.outbox.is_partial())
    }

    /// True when nothing was written, not even 100.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.status.is_none() && self.collected.is_none() && !self.continued
    }

    /// The next piece of the request's body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        loop {
            let step = self.body.next(&mut self.connection.input);
            match step.or_err(ErrorType::InvalidHTTPHeader, "reading a body").map_err(|error| error.into_down())? {
                Step::Piece(piece) => {
                    self.received += piece.len() as u64;
                    return Poll::Ready(Ok(Some(piece)));
                }
                Step::End => return Poll::Ready(Ok(None)),
                Step::Wait => {}
            }
            let room = usize::try_from(self.body.expected())
                .unwrap_or(usize::MAX)
                .clamp(limits::READ_BYTES, limits::READ_MORE_BYTES);
            let read = ready!(self.connection.poll_fill(cx, room));
            if read.or_err(ErrorType::ReadError, "reading a body").map_err(|error| error.into_down())? == 0 {
                let ended = self.body.closed();
                ended.or_err(ErrorType::ConnectionClosed, "reading a body").map_err(|error| error.into_down())?;
            }
        }
    }

    /// Ready when the client does something although it should wait for its answer. What comes of the next request is kept.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Seen>> {
        while self.connection.input.len() < limits::READ_AHEAD_BYTES {
            let read = ready!(self.connection.poll_fill(cx, limits::READ_BYTES));
            match read.or_err(ErrorType::ReadError, "the client is gone").map_err(|error| error.into_down()) {
                Ok(1..) => {}
                Ok(0) => {
                    // Requests that were read already are still answered.
                    self.keepalive &= !self.connection.input.is_empty();
                    return Poll::Ready(Ok(Seen::Closed));
                }
                Err(error) => {
                    self.keepalive = false;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(Seen::Full))
    }

    /// Ready at `deadline`, which may change from call to call.
    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.connection.stream.poll_alarm(cx, deadline)
    }

    /// Tells the client to send its body.
    pub(crate) fn queue_continue(&mut self) {
        self.continued = true;
        self.connection.outbox.head().put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Passes on an informational answer (RFC 9110 section 15.2). HTTP/1.0 does not know these.
    pub(crate) fn queue_informational(&mut self, head: &ResponseHeader) {
        if self.head.header.version == Version::HTTP_10 {
            return;
        }
        self.continued |= head.status == StatusCode::CONTINUE;
        let output = self.connection.outbox.head();
        encode_head(head, output);
        output.put_slice(b"\r\n");
    }

    /// Puts the head of the answer into the outbox. What it says about the connection is decided here.
    pub(crate) fn queue_head(&mut self, mut head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        if self.has_begun() {
            return Err(Error::explain(ErrorType::InternalError, "the answer has already begun").into_down());
        }
        if self.collected.is_some() {
            // An answer that cannot be finished is replaced while the client has seen nothing of it.
            self.connection.outbox.clear();
        }
        let length = BodyLength::of_response(&self.head.header.method, head.status, Version::HTTP_11, &head.headers);
        let length = match follows {
            Follows::Nothing => BodyLength::Exact(0),
            _ => length.unwrap_or(BodyLength::UntilClose),
        };
        self.writer = BodyWriter::new(length);
        // The rest of an unread body would be taken for the next request.
        self.keepalive &= self.writer.is_delimited() && self.body.is_done() && !self.connection.is_stopping();
        head.remove_header(&CONNECTION);
        self.collected = Some(head.status);
        self.ended = follows == Follows::Nothing;
        let output = self.connection.outbox.head();
        encode_head(&head, output);
        if !head.headers.contains_key(DATE) {
            encode_field(&DATE, get_cached_date().as_bytes(), output);
        }
        match (self.keepalive, self.head.header.version) {
            (false, _) => encode_field(&CONNECTION, b"close", output),
            (true, Version::HTTP_10) => encode_field(&CONNECTION, b"keep-alive", output),
            (true, _) => {}
        }
        output.put_slice(b"\r\n");
        Ok(())
    }

    /// Puts the head of a 101 into the outbox. From then on, both sides send bytes until they close.
    pub(crate) fn queue_switch(&mut self, head: &ResponseHeader) {
        self.keepalive = false;
        self.collected = Some(head.status);
        (self.body, self.writer) = (BodyReader::new(BodyLength::UntilClose), BodyWriter::new(BodyLength::UntilClose));
        let output = self.connection.outbox.head();
        encode_head(head, output);
        encode_field(&CONNECTION, b"Upgrade", output);
        encode_field(&UPGRADE, b"websocket", output);
        output.put_slice(b"\r\n");
    }

    /// Puts a piece of the answer's body into the outbox. `end`: it is the last one.
    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        let put = self.connection.outbox.put(piece, end, &mut self.writer);
        // An error: fewer bytes were written than the head has announced.
        self.queued += put.or_err(ErrorType::WriteError, "ending an answer").map_err(|error| error.into_down())? as u64;
        self.ended |= end;
        Ok(())
    }

    /// Since when the client does not read.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.connection.outbox.stalled_since()
    }

    /// Writes what is in the outbox.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        if self.lost {
            let error = Error::explain(ErrorType::WriteError, "the client does not read any more");
            return Poll::Ready(Err(error.into_down()));
        }
        let written = ready!(self.connection.poll_flush(cx));
        self.lost = written.is_err();
        written.or_err(ErrorType::WriteError, "writing an answer").map_err(|error| error.into_down())?;
        self.status = self.collected.take().or(self.status);
        (self.sent, self.answered) = (self.queued, self.ended);
        Poll::Ready(Ok(()))
    }

    /// The client did not read in time.
    pub(crate) fn give_up(&mut self) {
        self.lost = true;
        self.connection.outbox.clear();
    }

    /// How the answer has ended.
    pub(crate) fn end(&self) -> End {
        match self.status {
            _ if self.answered => End::Whole,
            Some(_) if !self.writer.is_delimited() => End::BrokenUnseen,
            _ => End::Broken,
        }
    }

    /// True when the connection can serve another request.
    pub(crate) fn can_go_on(&self) -> bool {
        self.keepalive && self.answered && self.body.is_done()
    }
}
