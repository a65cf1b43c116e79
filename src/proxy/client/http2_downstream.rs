//! One HTTP/2 request of a client and its answer. Pingora accepts the stream; what is exchanged on it is read and written
//! here.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::Reason;
use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::{Error, ErrorType, OrErr};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::transfer::{Follows, Seen};
use crate::http1::BodyLength;
use crate::proxy::h2_body::H2Body;

/// A request, and what was answered.
pub(crate) struct Http2Downstream<'a> {
    session: &'a mut HttpSession,
    length: Result<BodyLength, &'static str>,
    is_body_done: bool,
    received: u64,
    status: Option<StatusCode>,
    /// There once the head of an answer with a body was sent.
    body: Option<H2Body>,
    /// True when the whole answer was sent.
    answered: bool,
    alarm: Option<Alarm>,
}

impl<'a> Http2Downstream<'a> {
    pub(crate) fn new(session: &'a mut HttpSession) -> Self {
        join_cookies(session.req_header_mut());
        let header = session.req_header();
        let length = BodyLength::of_request(header.version, &header.headers);
        let declares = header.headers.contains_key(CONTENT_LENGTH);
        // Pingora takes a stream with `Content-Length: 0` for one without a body, whether it has ended or not.
        let is_empty = length == Some(BodyLength::Exact(0)) && declares;
        let mut context = Context::from_waker(Waker::noop());
        let is_body_done = match is_empty {
            true => matches!(pin!(session.read_body_bytes()).poll(&mut context), Poll::Ready(Ok(None))),
            false => session.is_body_done(),
        };
        let length = match length {
            // The end of the stream is the end of the body.
            Some(_) if !declares && !is_body_done => Ok(BodyLength::Chunked),
            Some(length) => Ok(length),
            None => Err("the length of the body is ambiguous: send one Content-Length or none"),
        };
        Self { session, length, is_body_done, received: 0, status: None, body: None, answered: false, alarm: None }
    }

    pub(crate) fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.session.digest()
    }

    pub(crate) fn length(&self) -> Result<BodyLength, &'static str> {
        self.length
    }

    /// The protocol that an extended CONNECT asks for (RFC 8441 section 4).
    pub(crate) fn asks_for(&self) -> Option<&str> {
        self.head().extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str)
    }

    pub(crate) fn is_body_done(&self) -> bool {
        self.is_body_done
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn sent(&self) -> u64 {
        self.body.as_ref().map_or(0, H2Body::sent)
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// The next piece of the request's body. A trailer is not read: nobody gets it.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        if self.is_body_done {
            return Poll::Ready(Ok(None));
        }
        let piece = ready!(pin!(self.session.read_body_bytes()).poll(cx)).map_err(|error| error.into_down())?;
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        self.is_body_done = piece.is_none() || self.session.is_body_done();
        Poll::Ready(Ok(piece))
    }

    /// Ready when the client resets its stream.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Seen>> {
        let reset = match &mut self.body {
            Some(body) => ready!(body.poll_reset(cx)),
            None => ready!(Pin::new(&mut self.session.idle()).poll(cx)),
        };
        Poll::Ready(reset.map(|_| Seen::Reset).map_err(|error| error.into_down()))
    }

    /// Ready at `deadline`, which may change from call to call.
    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.alarm.get_or_insert_with(|| Alarm::new(deadline)).poll(cx, deadline)
    }

    /// Sends the head of the answer.
    pub(crate) fn queue_head(&mut self, head: Box<ResponseHeader>, follows: Follows) -> pingora::Result<()> {
        if self.status.is_some() {
            return Err(Error::explain(ErrorType::InternalError, "the answer has already begun").into_down());
        }
        let status = head.status;
        let ends = follows == Follows::Nothing;
        self.session.write_response_header(head, ends).map_err(|error| error.into_down())?;
        (self.status, self.answered) = (Some(status), ends);
        if !ends {
            self.body = self.session.take_response_body_writer().map(|stream| H2Body::new(stream, false));
        }
        Ok(())
    }

    /// Takes a piece of the answer's body. `end`: it is the last one.
    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) -> pingora::Result<()> {
        self.body()?.queue(piece, end);
        Ok(())
    }

    /// Ends the answer with trailers.
    pub(crate) fn queue_trailers(&mut self, trailers: HeaderMap) -> pingora::Result<()> {
        self.body()?.queue_trailers(trailers);
        Ok(())
    }

    fn body(&mut self) -> pingora::Result<&mut H2Body> {
        let no_body = || Error::explain(ErrorType::InternalError, "the answer has no body").into_down();
        self.body.as_mut().ok_or_else(no_body)
    }

    /// Since when the client does not read.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.body.as_ref().and_then(H2Body::stalled_since)
    }

    /// Sends what was taken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let sent = ready!(body.poll_flush(cx));
        sent.or_err(ErrorType::WriteError, "writing an answer").map_err(|error| error.into_down())?;
        self.answered |= body.has_ended();
        Poll::Ready(Ok(()))
    }

    /// Resets the stream, unless the answer is whole.
    pub(crate) fn give_up(&mut self) {
        if let Some(body) = self.body.as_mut().filter(|_| !self.answered) {
            body.reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// HTTP/2 may split the one `Cookie` field into several (RFC 9113 section 8.2.3).
fn join_cookies(header: &mut RequestHeader) {
    let mut crumbs = header.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let joined = [first, second].into_iter().chain(crumbs).collect::<Vec<_>>().join(&b"; "[..]);
    // What was joined is a field value, as the crumbs were.
    let _ = HeaderValue::from_bytes(&joined).map(|cookie| header.insert_header(COOKIE, cookie));
}
