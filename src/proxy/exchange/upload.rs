//! The body of a request on its way to the upstream.

use std::task::{Context, Poll};

use bytes::Bytes;
use pingora::Error;
use tokio::time::Instant;

use super::link::Link;
use crate::config::limits;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::call::{Outgoing, OutgoingBody};
use crate::proxy::context::rejection::{Rejection, Stop};

/// Passes the body on, one piece at a time: an upstream that does not read holds its client up.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The largest body that the route allows, in bytes.
    limit: u64,
    /// What was sent so far, in case that it has to be sent again.
    kept: Vec<Bytes>,
    /// How many bytes these are.
    kept_bytes: usize,
    /// False once more was sent than is kept.
    is_repeatable: bool,
    /// True when nothing more comes from the client.
    is_read: bool,
    /// When the client has sent something last.
    last: Instant,
    /// When the whole request was sent.
    sent_at: Option<Instant>,
    /// Why the upstream does not take the rest of the request, and since when.
    refused: Option<(Box<Error>, Instant)>,
}

impl Upload {
    /// For a request of which nothing was sent yet. `limit`: the largest body that the route allows, in bytes.
    pub(crate) fn new(outgoing: &Outgoing, downstream: &Downstream<'_>, limit: u64) -> Self {
        let (kept, is_read) = match &outgoing.body {
            OutgoingBody::Held(body) => (vec![body.bytes.clone()], true),
            // What a client sends for a WebSocket has to wait until there is one.
            OutgoingBody::Streamed => (Vec::new(), outgoing.upgrades || downstream.is_body_done()),
        };
        let kept_bytes = 0;
        Self {
            limit,
            kept,
            kept_bytes,
            is_repeatable: true,
            is_read,
            last: Instant::now(),
            sent_at: None,
            refused: None,
        }
    }

    /// What a new attempt begins with: everything that was sent before, or what is at hand. True: that is the whole body.
    ///
    /// # Errors
    /// The client has left, or its body is malformed or too large.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut Downstream<'_>,
    ) -> Result<(Bytes, bool), Stop> {
        (self.sent_at, self.refused) = (None, None);
        if self.kept.is_empty()
            && !self.is_read
            && let Poll::Ready(piece) = self.poll_client(cx, downstream)?
        {
            self.keep(&piece);
        }
        let first = match &self.kept[..] {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => several.concat().into(),
        };
        Ok((first, self.is_read))
    }

    /// Passes on what is at hand and what there is room for.
    ///
    /// # Errors
    /// The client has left, or its body is malformed or too large.
    pub(crate) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut Downstream<'_>,
        link: &mut Link,
    ) -> Result<(), Stop> {
        loop {
            if self.refused.is_none() && self.sent_at.is_none() {
                match link.poll_flush(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(())) if self.is_read => self.sent_at = Some(Instant::now()),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => self.refused = Some((error, Instant::now())),
                }
            }
            if self.is_read {
                return Ok(());
            }
            // What a refused request still has to say is read and dropped: many clients read no answer before they have said
            // all of it.
            let Poll::Ready(piece) = self.poll_client(cx, downstream)? else { return Ok(()) };
            // It is kept all the same, in case that the whole request is sent again.
            self.keep(&piece);
            if self.refused.is_none()
                && let Err(error) = link.queue(piece, self.is_read)
            {
                self.refused = Some((error, Instant::now()));
            }
        }
    }

    /// The next piece from the client; an empty one at the end.
    fn poll_client(&mut self, cx: &mut Context<'_>, downstream: &mut Downstream<'_>) -> Result<Poll<Bytes>, Stop> {
        let Poll::Ready(piece) = downstream.poll_body(cx) else { return Ok(Poll::Pending) };
        let piece = piece?;
        self.last = Instant::now();
        self.is_read = piece.is_none() || downstream.is_body_done();
        if downstream.bytes_in() > self.limit {
            return Err(Rejection::too_large(self.limit).into());
        }
        Ok(Poll::Ready(piece.unwrap_or_default()))
    }

    fn keep(&mut self, piece: &Bytes) {
        self.kept_bytes += piece.len();
        if !self.is_repeatable || self.kept_bytes > limits::SMALL_BODY_BYTES {
            self.is_repeatable = false;
            self.kept = Vec::new();
        } else if !piece.is_empty() {
            self.kept.push(piece.clone());
        }
    }

    /// The answer has come: the request is not sent again.
    pub(crate) fn is_answered(&mut self) {
        self.is_repeatable = false;
        self.kept = Vec::new();
    }

    /// From now on the body has no end but that of the connection.
    pub(crate) fn becomes_tunnel(&mut self) {
        (self.is_read, self.sent_at, self.limit) = (false, None, u64::MAX);
    }

    /// True when the whole body can be sent once more.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// True when nothing more comes from the client.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    /// When the client has sent something last.
    pub(crate) fn last(&self) -> Instant {
        self.last
    }

    /// When the whole request was sent.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.sent_at
    }

    /// Since when the upstream does not take the rest of the request.
    pub(crate) fn refused_at(&self) -> Option<Instant> {
        self.refused.as_ref().map(|(_, at)| *at)
    }

    /// Why the upstream does not take the rest of the request.
    pub(crate) fn take_refusal(&mut self) -> Option<Box<Error>> {
        self.refused.take().map(|(error, _)| error)
    }
}
