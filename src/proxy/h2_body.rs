//! A body on its way over HTTP/2, to a client or to an upstream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use pingora::{ErrorType, OrErr};
use tokio::time::Instant;

/// One piece at a time waits here until the other side has room for it (RFC 9113 section 5.2).
#[derive(Debug)]
pub(super) struct H2Body {
    stream: SendStream<Bytes>,
    piece: Bytes,
    end: End,
    sent: u64,
    /// Since when the other side takes nothing more.
    stalled: Option<Instant>,
}

/// How the body ends.
#[derive(Debug)]
enum End {
    /// More pieces follow.
    Open,
    /// With the piece that waits.
    WithPiece,
    /// With these, after the piece that waits.
    Trailers(HeaderMap),
    /// It has ended.
    Over,
}

impl H2Body {
    /// `has_ended`: the head was the end of the stream.
    pub(super) fn new(stream: SendStream<Bytes>, has_ended: bool) -> Self {
        let end = if has_ended { End::Over } else { End::Open };
        Self { stream, piece: Bytes::new(), end, sent: 0, stalled: None }
    }

    /// Takes a piece. Large pieces before must have been flushed: a piece that still waits is joined with this one. `end`: it is the
    /// last one.
    pub(super) fn queue(&mut self, piece: Bytes, end: bool) {
        if self.piece.is_empty() {
            self.piece = piece;
        } else if !piece.is_empty() {
            self.piece = [std::mem::take(&mut self.piece), piece].concat().into();
        }
        if end {
            self.end = End::WithPiece;
        }
    }

    /// Ends the body with trailers.
    pub(super) fn queue_trailers(&mut self, trailers: HeaderMap) {
        self.end = End::Trailers(trailers);
    }

    /// How many bytes were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// True when the end of the body was sent.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.end, End::Over)
    }

    /// Since when the other side takes nothing more.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled
    }

    /// Sends what was taken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while !self.piece.is_empty() {
            self.stream.reserve_capacity(self.piece.len());
            if self.stream.capacity() == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(capacity)) => drop(capacity?),
                    Poll::Ready(None) => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
                    Poll::Pending => {
                        self.stalled.get_or_insert_with(Instant::now);
                        return Poll::Pending;
                    }
                }
                continue;
            }
            self.stalled = None;
            let length = self.stream.capacity().min(self.piece.len());
            let piece = self.piece.split_to(length);
            let ends = self.piece.is_empty() && matches!(self.end, End::WithPiece);
            self.stream.send_data(piece, ends)?;
            self.sent += length as u64;
            if ends {
                self.end = End::Over;
            }
        }
        // The memory of the piece is free for the next one.
        self.piece = Bytes::new();
        match std::mem::replace(&mut self.end, End::Over) {
            End::Open => self.end = End::Open,
            End::Over => {}
            End::WithPiece => self.stream.send_data(Bytes::new(), true)?,
            End::Trailers(trailers) => self.stream.send_trailers(trailers)?,
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the other side resets the stream.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Reason>> {
        let reset = ready!(self.stream.poll_reset(cx));
        Poll::Ready(reset.or_err(ErrorType::H2Error, "waiting for the other side"))
    }

    /// Resets the stream.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}
