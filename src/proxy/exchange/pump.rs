//! Both directions of an exchange at the same time: the request on its way to the upstream, the answer on its way to the
//! client. One event after the other comes out.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use tokio::time::Instant;

use super::link::{Link, was_not_processed};
use super::upload::Upload;
use crate::config::limits;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::transfer::Seen;
use crate::proxy::client::watch::ClientWatch;
use crate::proxy::context::rejection::Stop;

/// The two sides of an exchange.
pub(crate) struct Pump<'x, 'd> {
    pub(crate) downstream: &'x mut Downstream<'d>,
    pub(crate) link: &'x mut Link,
    pub(crate) upload: &'x mut Upload,
    pub(crate) client: &'x mut ClientWatch,
}

/// What the exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A head from the upstream.
    Head,
    /// A piece of the answer's body, once the piece before was written.
    Body,
    /// That everything queued for the client was written.
    Written,
}

/// What has happened.
pub(crate) enum Event {
    Head(Box<ResponseHeader>),
    Piece(Bytes),
    /// The answer's body has ended.
    End,
    /// Everything queued for the client was written, or nobody reads it.
    Written,
    /// The deadline is over.
    Late,
    /// The client has left, which cancels its request.
    Left,
    /// The client has left, and its request goes on.
    Abandoned,
    /// The caller's credential has ended, or the session has moved.
    CredentialEnded,
}

/// The limits of one wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) deadline: Instant,
    /// How long a client that has closed its side of the connection may still get an answer; `None`: as long as it can be
    /// written to.
    pub(crate) patience: Option<Duration>,
}

impl Pump<'_, '_> {
    /// Waits for the next event.
    ///
    /// # Errors
    /// One of the sides has failed.
    pub(crate) async fn next(
        &mut self,
        wanted: Wanted,
        within: Limits,
        mut credential_end: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Event, Stop> {
        self.downstream.settle().await.or_else(|error| self.client.is_lost(error))?;
        poll_fn(|cx| match self.poll(cx, wanted, within) {
            Ok(Poll::Pending) if credential_end.as_mut().poll(cx).is_ready() => Poll::Ready(Ok(Event::CredentialEnded)),
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(event)) => Poll::Ready(Ok(event)),
            Err(stop) => Poll::Ready(Err(stop)),
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>, wanted: Wanted, within: Limits) -> Result<Poll<Event>, Stop> {
        let is_written = self.poll_write(cx)?;
        self.upload.advance(cx, self.downstream, self.link)?;
        match wanted {
            // An upstream that sends informational answers without end is not read faster than the client reads them.
            Wanted::Head if is_written => {
                if let Poll::Ready(head) = self.link.poll_head(cx) {
                    // A server may refuse a request before it has read all of it. If it does not answer then, the first
                    // error is the one that tells why, unless the server itself says that it has not processed the request.
                    let head = head.map_err(|error| {
                        let refusal = if was_not_processed(&error) { None } else { self.upload.take_refusal() };
                        refusal.unwrap_or(error).into_up()
                    })?;
                    return Ok(Poll::Ready(Event::Head(head)));
                }
            }
            Wanted::Body if is_written => {
                if let Poll::Ready(piece) = self.link.poll_body(cx) {
                    let piece = piece.map_err(|error| error.into_up())?;
                    return Ok(Poll::Ready(piece.map_or(Event::End, Event::Piece)));
                }
            }
            Wanted::Written if is_written => return Ok(Poll::Ready(Event::Written)),
            Wanted::Head | Wanted::Body | Wanted::Written => {}
        }
        while self.upload.is_read()
            && self.client.listens()
            && let Poll::Ready(seen) = self.downstream.poll_idle(cx)
        {
            self.client.saw(seen, within.patience)?;
        }
        if self.client.is_full() && self.downstream.is_read_closed() {
            self.client.saw(Ok(Seen::Closed), within.patience)?;
        }
        if self.client.takes_leave() {
            return Ok(Poll::Ready(Event::Abandoned));
        }
        self.poll_time(cx, wanted, within)
    }

    /// Writes what is queued for the client. False: it is not all written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        if self.client.is_gone() {
            return Ok(true);
        }
        match self.downstream.poll_flush(cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => {
                self.client.is_lost(error)?;
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    fn poll_time(&mut self, cx: &mut Context<'_>, wanted: Wanted, within: Limits) -> Result<Poll<Event>, Stop> {
        let (flush, leaves) = (self.downstream.flush_due(), self.client.leaves_at());
        let flush = flush.filter(|_| !self.client.is_gone());
        let looks = self.client.is_full().then(|| Instant::now() + limits::DISCONNECT_CHECK);
        let due = [flush, leaves, looks].into_iter().flatten().fold(within.deadline, Instant::min);
        if self.downstream.poll_alarm(cx, due).is_pending() {
            return Ok(Poll::Pending);
        }
        if leaves == Some(due) {
            return Ok(Poll::Ready(Event::Left));
        }
        if flush != Some(due) {
            return Ok(Poll::Ready(Event::Late));
        }
        let error = self.downstream.give_up();
        self.client.is_lost(error)?;
        // The client does not hold up the upstream any more.
        self.poll(cx, wanted, within)
    }
}
