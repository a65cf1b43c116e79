//! Bytes on their way to a connection. Whoever puts some in has to flush them before the next large piece, so that a side
//! that does not read holds up the other side, and nothing piles up.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::config::limits;
use crate::http1::{BadBody, BodyWriter};

/// What one side of an exchange is still to be sent over HTTP/1.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What is written first: heads, framing and small pieces of bodies.
    first: BytesMut,
    /// A large piece of a body, which is not copied.
    piece: Bytes,
    /// The framing behind the piece.
    last: &'static [u8],
    /// True when some of it was written, but not all.
    partial: bool,
    /// True when everything was written, and TLS may still hold some of it.
    is_unflushed: bool,
    /// Since when the other side takes nothing more.
    stalled: Option<Instant>,
}

impl Outbox {
    /// True when everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.piece.is_empty() && self.last.is_empty()
    }

    /// True when some of it was written, but not all.
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Where a head is written.
    pub(super) fn head(&mut self) -> &mut BytesMut {
        self.join();
        &mut self.first
    }

    /// Drops what was not written.
    pub(super) fn clear(&mut self) {
        self.first.clear();
        (self.piece, self.last, self.partial, self.stalled) = (Bytes::new(), &[], false, None);
    }

    /// Puts a piece of a body in, with its framing. `end`: it is the last one. Gives how many bytes of the piece belong to the
    /// body: none beyond its announced length.
    ///
    /// # Errors
    /// The body ends before its announced length. Only the end of the connection can tell that to the other side.
    pub(super) fn put(&mut self, mut piece: Bytes, end: bool, framing: &mut BodyWriter) -> Result<usize, BadBody> {
        self.join();
        let (length, last) = framing.frame(piece.len(), end, &mut self.first)?;
        if length <= limits::COPIED_PIECE_BYTES {
            self.first.put_slice(&piece[..length]);
            self.first.put_slice(last);
        } else {
            piece.truncate(length);
            (self.piece, self.last) = (piece, last);
        }
        Ok(length)
    }

    /// Since when the other side takes nothing more.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled
    }

    /// Writes everything.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        if self.is_empty() && !self.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = self.poll_write(cx, stream);
        match flushed {
            Poll::Pending => drop(self.stalled.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => self.stalled = None,
        }
        flushed
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(stream);
        while !self.is_empty() {
            let written = if self.piece.is_empty() && self.last.is_empty() {
                ready!(stream.as_mut().poll_write(cx, &self.first))?
            } else {
                let parts = [IoSlice::new(&self.first), IoSlice::new(&self.piece), IoSlice::new(self.last)];
                ready!(stream.as_mut().poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            (self.partial, self.is_unflushed, self.stalled) = (true, true, None);
            self.advance(written);
        }
        if self.first.capacity() > limits::KEPT_OUTPUT_BYTES {
            self.first = BytesMut::new();
        }
        self.first.clear();
        self.partial = false;
        ready!(stream.poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let first = written.min(self.first.len());
        self.first.advance(first);
        let piece = (written - first).min(self.piece.len());
        self.piece.advance(piece);
        self.last = &self.last[written - first - piece..];
        if self.piece.is_empty() {
            // The memory of a large piece is free for the next one.
            self.piece = Bytes::new();
        }
    }

    /// Copies everything that is left into `first`.
    fn join(&mut self) {
        if !self.piece.is_empty() || !self.last.is_empty() {
            self.first.put_slice(&self.piece);
            self.first.put_slice(self.last);
            (self.piece, self.last) = (Bytes::new(), &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes everything at once, and holds it until it is flushed the second time, as TLS does while its socket is full.
    #[derive(Default)]
    struct Holding {
        held: usize,
        sent: usize,
        flushes: usize,
    }

    impl AsyncWrite for Holding {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.held += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes % 2 == 1 {
                return Poll::Pending;
            }
            self.sent += std::mem::take(&mut self.held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_tls_holds_back_is_not_written_yet() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut outbox, mut stream) = (Outbox::default(), Holding::default());
        for number in 1..=3 {
            outbox.head().put_slice(b"0123456789");
            assert!(outbox.poll_flush(&mut cx, &mut stream).is_pending());
            assert!(outbox.stalled_since().is_some());
            assert!(matches!(outbox.poll_flush(&mut cx, &mut stream), Poll::Ready(Ok(()))));
            assert_eq!((stream.sent, outbox.stalled_since()), (10 * number, None));
        }
    }
}
