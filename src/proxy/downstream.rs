//! A client's connection, with a deadline for each whole request head. Pingora limits only the time between two reads,
//! so a client that sends a byte now and then would hold a connection for ever.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Between two requests: Pingora's keep-alive timeout holds.
const IDLE: u8 = 0;
/// A request head is awaited or incomplete: the deadline holds.
const HEAD: u8 = 1;
/// A request is being served.
const SERVING: u8 = 2;

/// How much is copied to be written at once, in bytes.
const TOGETHER: usize = 16 << 10;

/// Wraps a connection, cleartext or TLS.
pub struct Downstream {
    inner: Stream,
    /// Shared with the hooks, which see the connection by reference only.
    phase: AtomicU8,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Read to tell HTTP/2 from HTTP/1, not yet passed on.
    peeked: Vec<u8>,
    is_h2: bool,
    out: Outgoing,
}

/// What waits to be written together with what follows it.
#[derive(Default)]
struct Outgoing {
    /// Set by those who know that more follows at once.
    corked: AtomicBool,
    bytes: Vec<u8>,
    /// How many of `bytes` were written.
    written: usize,
    /// How many bytes of an unfinished `poll_write` are in `bytes` already.
    accepted: usize,
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Downstream {
    /// A connection that was accepted at `accepted`; from then on its first request head is due within `limit`.
    pub fn new(inner: Stream, accepted: Instant, limit: Duration) -> Self {
        let is_h2 = matches!(inner.selected_alpn_proto(), Some(ALPN::H2));
        Self {
            inner,
            phase: AtomicU8::new(HEAD),
            limit,
            deadline: Box::pin(tokio::time::sleep_until(accepted + limit)),
            peeked: Vec::new(),
            is_h2,
            out: Outgoing::default(),
        }
    }

    /// Holds the head of an answer back until the first piece of its body is written, which is at hand: the client gets
    /// one packet instead of two. Ends with [`uncork`](Self::uncork).
    pub(super) fn cork(session: &ServerSession) {
        Self::set_corked(session, true);
    }

    /// What is written from here on goes out, with what was held back.
    pub(super) fn uncork(session: &ServerSession) {
        Self::set_corked(session, false);
    }

    fn set_corked(session: &ServerSession, corked: bool) {
        if let Some(this) = session.stream().and_then(|stream| stream.as_any().downcast_ref::<Self>()) {
            this.out.corked.store(corked, Ordering::Relaxed);
        }
    }

    /// The head of a request on `session`'s connection is complete. HTTP/2 streams know no connection.
    pub(super) fn head_is_read(session: &ServerSession) {
        Self::set_phase(session, SERVING);
    }

    /// The request on `session`'s connection has ended.
    pub(super) fn next_request(session: &ServerSession) {
        Self::set_phase(session, IDLE);
    }

    fn set_phase(session: &ServerSession, phase: u8) {
        if let Some(this) = session.stream().and_then(|stream| stream.as_any().downcast_ref::<Self>()) {
            this.phase.store(phase, Ordering::Relaxed);
        }
    }

    /// Bytes have come in.
    fn has_read(&mut self, bytes: &[u8]) {
        if self.is_h2 || bytes.starts_with(H2_PREFACE) {
            // From here on the limits of HTTP/2 hold: its heads have no connection of their own to wait for.
            *self.phase.get_mut() = SERVING;
        } else if *self.phase.get_mut() == IDLE {
            *self.phase.get_mut() = HEAD;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
    }
}

impl Outgoing {
    /// Takes up to `room` bytes of `bufs`.
    fn accept(&mut self, bufs: &[io::IoSlice<'_>], room: usize) {
        for buf in bufs {
            let taken = buf.len().min(room - self.accepted);
            self.bytes.extend_from_slice(&buf[..taken]);
            self.accepted += taken;
        }
    }
}

impl Downstream {
    /// Writes what was held back.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.written < self.out.bytes.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out.bytes[self.out.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.out.written += written,
            }
        }
        self.out.written = 0;
        self.out.bytes.clear();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.peeked.is_empty() {
            let length = this.peeked.len().min(buf.remaining());
            buf.put_slice(&this.peeked[..length]);
            this.peeked.drain(..length);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    this.has_read(&buf.filled()[before..]);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if *this.phase.get_mut() == HEAD && this.deadline.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request head took too long")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[async_trait]
impl Peek for Downstream {
    /// Fills `buf` with the connection's first bytes, which stay to be read. It does not wait for all of them once they
    /// cannot be HTTP/2's any more: an HTTP/1 request may be shorter.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let mut first = [0; H2_PREFACE.len()];
        let mut length = 0;
        while length < first.len().min(buf.len()) && H2_PREFACE.starts_with(&first[..length]) {
            match self.read(&mut first[length..]).await? {
                0 => break,
                read => length += read,
            }
        }
        self.peeked = first[..length].to_vec();
        self.has_read(&first[..length]);
        let shown = length.min(buf.len());
        buf[..shown].copy_from_slice(&first[..shown]);
        Ok(true)
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if *self.out.corked.get_mut() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let corked = *this.out.corked.get_mut();
        if this.out.bytes.is_empty() && !corked {
            return match bufs {
                [only] => Pin::new(&mut this.inner).poll_write(cx, only),
                bufs => Pin::new(&mut this.inner).poll_write_vectored(cx, bufs),
            };
        }
        if this.out.accepted == 0 {
            let room = TOGETHER.saturating_sub(this.out.bytes.len());
            if room == 0 {
                ready!(this.poll_drain(cx))?;
            }
            this.out.accept(bufs, room.max(1));
        }
        if !corked || this.out.bytes.len() >= TOGETHER {
            ready!(this.poll_drain(cx))?;
        }
        Poll::Ready(Ok(std::mem::take(&mut this.out.accepted)))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Downstream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for Downstream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Downstream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Downstream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Downstream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Downstream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn connected() -> (Downstream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("it listens");
        let (accepted, _) = listener.accept().await.expect("a client");
        let inner = Box::new(L4Stream::from(accepted));
        (Downstream::new(inner, Instant::now(), Duration::from_secs(10)), client)
    }

    #[tokio::test]
    async fn a_head_that_is_held_back_goes_out_with_what_follows() {
        let (mut server, mut client) = connected().await;
        server.out.corked.store(true, Ordering::Relaxed);
        server.write_all(b"head ").await.expect("the client is there");
        server.flush().await.expect("the client is there");
        assert_eq!(server.out.bytes, b"head ", "it waits");
        server.out.corked.store(false, Ordering::Relaxed);
        server.write_all(b"body").await.expect("the client is there");
        assert!(server.out.bytes.is_empty(), "nothing waits any more");
        let mut read = [0; 100];
        let length = client.read(&mut read).await.expect("it was sent");
        assert_eq!(&read[..length], b"head body");
    }

    #[tokio::test]
    async fn every_byte_goes_out_once_and_in_order() {
        let (mut server, mut client) = connected().await;
        let sizes = [1, 5, TOGETHER - 1, TOGETHER, TOGETHER + 1, 3 * TOGETHER + 7, 0, 2, 1 << 20];
        let all: Vec<u8> = (0..2 * sizes.iter().sum::<usize>()).map(|index| (index % 251) as u8).collect();
        let sent = all.clone();
        let writer = tokio::spawn(async move {
            let mut rest = &sent[..];
            for corked in [true, false] {
                for size in sizes {
                    server.out.corked.store(corked, Ordering::Relaxed);
                    let (piece, later) = rest.split_at(size);
                    server.write_all(piece).await.expect("the client is there");
                    server.out.corked.store(false, Ordering::Relaxed);
                    rest = later;
                }
            }
            server.flush().await.expect("the client is there");
            AsyncWriteExt::shutdown(&mut server).await.expect("the client is there");
        });
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.expect("all of it");
        writer.await.expect("no panic");
        assert!(read == all, "{} of {} bytes", read.len(), all.len());
    }
}
