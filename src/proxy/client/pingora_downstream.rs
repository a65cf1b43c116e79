//! One HTTP/1 request that Pingora reads, and its answer: with `MCP_EDGE_TEST_PIPELINE`, tests compare this way with that of
//! the edge.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::transfer::{Follows, Seen};
use crate::http1::BodyLength;

/// A request, and what was answered.
pub(crate) struct PingoraDownstream<'a> {
    session: &'a mut Session,
    alarm: Option<Alarm>,
    /// What is still to be written. Pingora's writes cannot be broken off and resumed, so they happen in [`Self::settle`].
    queue: VecDeque<Queued>,
    is_body_done: bool,
}

enum Queued {
    Head(Box<ResponseHeader>, Follows),
    Piece(Bytes, bool),
}

impl<'a> PingoraDownstream<'a> {
    /// `write`: how long the client may not read. `keepalive`: how long the connection may wait for the next request.
    pub(crate) fn new(session: &'a mut Session, write: Duration, keepalive: Duration) -> Self {
        // `None`: the connection closes after this request, for which an HTTP/1.0 client may be waiting.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(keepalive.as_secs().max(1)));
        }
        // The exchange has its own limits on silence.
        session.set_read_timeout(None);
        session.set_write_timeout(Some(write));
        let is_body_done = session.is_body_empty();
        Self { session, alarm: None, queue: VecDeque::new(), is_body_done }
    }

    pub(crate) fn session(&self) -> &Session {
        self.session
    }

    pub(crate) fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    pub(crate) fn length(&self) -> Result<BodyLength, &'static str> {
        let header = self.head();
        BodyLength::of_request(header.version, &header.headers).ok_or("the length of the body is ambiguous")
    }

    pub(crate) fn close_after(&mut self) {
        self.session.set_keepalive(None);
    }

    pub(crate) fn is_body_done(&self) -> bool {
        self.is_body_done
    }

    pub(crate) fn received(&self) -> u64 {
        self.session.body_bytes_read() as u64
    }

    pub(crate) fn sent(&self) -> u64 {
        self.session.as_ref().body_bytes_sent() as u64
    }

    /// A 1xx is not the answer yet, except for 101.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        let status = self.session.response_written().map(|head| head.status);
        status.filter(|status| !status.is_informational() || *status == StatusCode::SWITCHING_PROTOCOLS)
    }

    pub(crate) fn is_unanswered(&self) -> bool {
        self.session.response_written().is_none() && self.queue.is_empty()
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        if self.is_body_done {
            return Poll::Ready(Ok(None));
        }
        let piece = ready!(pin!(self.session.read_request_body()).poll(cx)).map_err(|error| error.into_down())?;
        self.is_body_done = piece.is_none();
        Poll::Ready(Ok(piece))
    }

    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Seen>> {
        let read = ready!(pin!(self.session.read_body_or_idle(true)).poll(cx));
        Poll::Ready(match read {
            Ok(_) => Ok(Seen::Closed),
            Err(error) if *error.etype() == ErrorType::ConnectError => {
                // The byte that was read is lost, so the connection cannot serve the request that it belongs to.
                self.session.set_keepalive(None);
                Ok(Seen::Spoke)
            }
            Err(error) => Err(error.into_down()),
        })
    }

    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.alarm.get_or_insert_with(|| Alarm::new(deadline)).poll(cx, deadline)
    }

    pub(crate) fn queue_continue(&mut self) -> pingora::Result<()> {
        self.queue_informational(ResponseHeader::build(StatusCode::CONTINUE, None)?);
        Ok(())
    }

    pub(crate) fn queue_informational(&mut self, head: ResponseHeader) {
        self.queue.push_back(Queued::Head(Box::new(head), Follows::Body));
    }

    pub(crate) fn queue_head(&mut self, head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        if self.status().is_some() {
            return Err(Error::explain(ErrorType::InternalError, "the answer has already begun").into_down());
        }
        if !self.is_body_done {
            self.session.set_keepalive(None);
        }
        self.queue.clear();
        self.queue.push_back(Queued::Head(head, follows));
        Ok(())
    }

    pub(crate) fn queue_switch(&mut self, mut head: ResponseHeader) -> pingora::Result<()> {
        head.insert_header(CONNECTION, HeaderValue::from_static("Upgrade"))?;
        head.insert_header(UPGRADE, HeaderValue::from_static("websocket"))?;
        self.is_body_done = false;
        self.queue.push_back(Queued::Head(Box::new(head), Follows::Body));
        Ok(())
    }

    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) {
        self.queue.push_back(Queued::Piece(piece, end));
    }

    /// Writes what was queued.
    pub(crate) async fn settle(&mut self) -> pingora::Result<()> {
        while let Some(queued) = self.queue.pop_front() {
            let keepalive = self.session.get_keepalive();
            match queued {
                Queued::Head(head, follows) => {
                    let ends = follows == Follows::Nothing;
                    let goes_on = head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
                    self.session.write_response_header(head, ends).await.map_err(|error| error.into_down())?;
                    if goes_on {
                        // Pingora would close the connection after a 1xx.
                        self.session.set_keepalive(keepalive);
                    }
                }
                Queued::Piece(piece, end) => {
                    let written = self.session.write_response_body(Some(piece), end).await;
                    written.map_err(|error| error.into_down())?;
                }
            }
        }
        Ok(())
    }
}
