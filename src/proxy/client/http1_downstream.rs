//! One HTTP/1 request of a client and its answer, on a connection that the edge reads and writes itself.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::header::{CONNECTION, DATE};
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::tls::SslDigest;
use pingora::{Error, ErrorType, OrErr};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::http1_connection::Http1Connection;
use super::transfer::{Follows, Idle};
use crate::config::limits;
use crate::http1::{BodyLength, BodyReader, BodyWriter, RequestHead, Step, encode_field, encode_head};
use crate::proxy::fill::fill;

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
    /// True when the request has no body at all.
    bodiless: bool,
    received: usize,
    keepalive: bool,
    write_timeout: Duration,
    /// True when 100 was sent.
    continued: bool,
    /// The status of the answer whose head was sent.
    status: Option<StatusCode>,
    /// The status of the answer whose head still waits to be written.
    collected: Option<StatusCode>,
    writer: BodyWriter,
    sent: usize,
    /// True when the whole answer was sent.
    answered: bool,
    /// True when the client does not read any more.
    lost: bool,
}

impl<'c> Http1Downstream<'c> {
    /// A request whose head was read from `connection`. A request that is refused because its length is ambiguous counts as
    /// one without a body.
    pub(crate) fn new(connection: &'c mut Http1Connection, head: RequestHead) -> Self {
        let length = head.length.unwrap_or(BodyLength::Exact(0));
        Self {
            connection,
            body: BodyReader::new(length),
            bodiless: length == BodyLength::Exact(0),
            received: 0,
            keepalive: head.keeps_alive,
            write_timeout: Duration::MAX,
            continued: false,
            status: None,
            collected: None,
            writer: BodyWriter::new(BodyLength::Exact(0)),
            sent: 0,
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

    pub(crate) fn tls(&self) -> Option<&SslDigest> {
        self.connection.tls.as_deref()
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.connection.peer
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.connection.local
    }

    pub(crate) fn set_write_timeout(&mut self, limit: Duration) {
        self.write_timeout = limit;
    }

    /// The connection closes after this answer.
    pub(crate) fn close_after(&mut self) {
        self.keepalive = false;
    }

    pub(crate) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    pub(crate) fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    pub(crate) fn received(&self) -> usize {
        self.received
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// True when nothing was written, not even 100.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.status.is_none() && !self.continued
    }

    /// The next piece of the request's body. The future may be dropped while it waits: no byte is lost.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        loop {
            let step = self.body.next(&mut self.connection.input);
            match step.or_err(ErrorType::InvalidHTTPHeader, "reading a body").map_err(|error| error.into_down())? {
                Step::Piece(piece) => {
                    self.received += piece.len();
                    return Ok(Some(piece));
                }
                Step::End => return Ok(None),
                Step::Wait => {}
            }
            let room = usize::try_from(self.body.expected())
                .unwrap_or(usize::MAX)
                .clamp(limits::READ_BYTES, limits::READ_MORE_BYTES);
            let read = self.connection.fill(room).await;
            if read.or_err(ErrorType::ReadError, "reading a body").map_err(|error| error.into_down())? == 0 {
                let ended = self.body.closed();
                ended.or_err(ErrorType::ConnectionClosed, "reading a body").map_err(|error| error.into_down())?;
            }
        }
    }

    /// Reads the body to its end and drops it.
    pub(crate) async fn discard_body(&mut self) -> pingora::Result<()> {
        while self.read_body().await?.is_some() {}
        Ok(())
    }

    /// Waits until `deadline`. If it `listens`, it also returns when the client has left. What comes of the next request is
    /// kept; when there is no more room for it, a disconnect cannot be noticed any more.
    pub(crate) async fn idle(&mut self, deadline: Instant, listens: bool) -> pingora::Result<Idle> {
        let Http1Connection { stream, input, alarm, .. } = &mut *self.connection;
        let leaves = async {
            while input.len() < limits::READ_AHEAD_BYTES {
                if fill(&mut **stream, input, limits::READ_BYTES).await? == 0 {
                    return Ok(Idle::Left);
                }
            }
            Ok(Idle::Full)
        };
        let alarm = alarm.get_or_insert_with(|| Alarm::new(deadline));
        let seen: std::io::Result<Idle> = tokio::select! {
            biased;
            left = leaves, if listens => left,
            () = alarm.wait_until(deadline) => Ok(Idle::Late),
        };
        self.keepalive &= matches!(seen, Ok(Idle::Late | Idle::Full));
        seen.or_err(ErrorType::ReadError, "the client is gone").map_err(|error| error.into_down())
    }

    /// Tells the client to send its body.
    pub(crate) async fn write_continue(&mut self) -> pingora::Result<()> {
        self.continued = true;
        self.flush(b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    /// Writes the head of the answer. The head waits for a piece of the body that follows at once.
    pub(crate) async fn write_head(&mut self, mut head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        if self.status.is_some() {
            return Err(Error::explain(ErrorType::InternalError, "the answer has already begun").into_down());
        }
        let bodiless = follows == Follows::Nothing;
        let length = BodyLength::of_response(&self.head.header.method, head.status, Version::HTTP_11, &head.headers);
        self.writer =
            BodyWriter::new(if bodiless { BodyLength::Exact(0) } else { length.unwrap_or(BodyLength::UntilClose) });
        // The rest of an unread body would be taken for the next request.
        self.keepalive &= self.writer.is_delimited() && self.body.is_done();
        let output = &mut self.connection.output;
        // A head that still waited there is replaced.
        output.clear();
        head.remove_header(&CONNECTION);
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
        self.collected = Some(head.status);
        match follows {
            Follows::AtOnce => Ok(()),
            Follows::Later => self.flush(&[]).await,
            Follows::Nothing => {
                self.flush(&[]).await?;
                self.answered = true;
                Ok(())
            }
        }
    }

    /// Writes what was collected, and `piece` after it.
    async fn flush(&mut self, piece: &[u8]) -> pingora::Result<()> {
        if self.lost {
            return Err(Error::explain(ErrorType::WriteError, "the client does not read any more").into_down());
        }
        self.lost = true;
        self.connection.flush(piece, self.write_timeout).await?;
        self.lost = false;
        self.status = self.collected.take().or(self.status);
        Ok(())
    }

    /// Writes a piece of the answer's body. `end`: it is the last one.
    pub(crate) async fn write_body(&mut self, piece: &[u8], end: bool) -> pingora::Result<()> {
        let length = self.writer.begin_piece(piece.len(), &mut self.connection.output);
        let piece = &piece[..length];
        if length <= limits::COPIED_PIECE_BYTES {
            self.connection.output.put_slice(piece);
        } else {
            self.flush(piece).await?;
        }
        let output = &mut self.connection.output;
        self.writer.end_piece(length, output);
        if end {
            // An error: fewer bytes were written than the head has announced. Only closing the connection can tell the client.
            let ended = self.writer.end(output);
            ended.or_err(ErrorType::WriteError, "ending an answer").map_err(|error| error.into_down())?;
        }
        if !self.connection.output.is_empty() {
            self.flush(&[]).await?;
        }
        self.sent += length;
        self.answered |= end;
        Ok(())
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
