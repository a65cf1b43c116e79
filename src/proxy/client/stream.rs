//! The bytes of a client's connection, with a deadline for each whole request head. Pingora limits only the time between two
//! reads, so a client that sends a byte now and then could hold a connection for ever.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::alarm::Alarm;
use crate::upstream::Wire;

/// The first bytes of every HTTP/2 connection (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Between two requests.
const IDLE: u8 = 0;
/// A request head has begun, or is the first: the deadline for heads applies.
const HEAD: u8 = 1;
/// A request is being served.
const SERVING: u8 = 2;

/// A connection, cleartext or TLS.
pub struct ClientStream {
    inner: Wire,
    peer: SocketAddr,
    local: SocketAddr,
    /// Atomic, because Pingora's hooks see the connection by reference only.
    phase: AtomicU8,
    head_limit: Duration,
    /// How long the connection may wait for a request, where Pingora does not limit that itself.
    idle_limit: Option<Duration>,
    /// The deadline of a phase. Set when a read has to wait in that phase.
    due: Option<(u8, Instant)>,
    /// For the deadlines of heads, of idle connections and of requests that are being served: only one of them runs at a time.
    alarm: Alarm,
    /// Bytes that were read to see what kind of request comes, and that have to be read again.
    peeked: Vec<u8>,
    is_h2: bool,
    /// Tells an idle connection to make room for another one.
    room: Arc<Notify>,
    /// Its place among the connections that may be open.
    place: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl ClientStream {
    /// A connection from `peer` to `local` that was accepted at `accepted`. Its first request head must have come `limit` later.
    /// `first`: what was read of it. `room`: tells it to make room for another one, while it is idle. `place`: its place among the
    /// connections that may be open.
    pub fn new(
        inner: Wire,
        (peer, local): (SocketAddr, SocketAddr),
        accepted: Instant,
        limit: Duration,
        first: Vec<u8>,
        room: Arc<Notify>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let is_h2 = matches!(alpn(&inner), Some(ALPN::H2));
        Self {
            inner,
            peer,
            local,
            phase: AtomicU8::new(HEAD),
            head_limit: limit,
            idle_limit: None,
            due: Some((HEAD, accepted + limit)),
            alarm: Alarm::new(accepted + limit),
            peeked: first,
            is_h2,
            room,
            place: Some(place),
        }
    }

    /// The address of the client.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of the listener.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Ready at `deadline`, which may change from call to call. For the deadlines of a request that is being served.
    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.alarm.poll(cx, deadline)
    }

    /// Gives the connection's place to another one.
    pub(crate) fn makes_room(&mut self) {
        self.place = None;
    }

    /// Tells the connection to make room for another one, if it is idle.
    pub(crate) fn room(&self) -> &Arc<Notify> {
        &self.room
    }

    /// The head of a request on the connection of `session` is complete. (A stream of HTTP/2 has no access to its
    /// connection.)
    pub(crate) fn head_is_read(session: &ServerSession) {
        Self::set_phase(session, SERVING);
    }

    /// The request on the connection of `session` has ended.
    pub(crate) fn next_request(session: &ServerSession) {
        Self::set_phase(session, IDLE);
    }

    fn set_phase(session: &ServerSession, phase: u8) {
        if let Some(this) = session.stream().and_then(|stream| stream.as_any().downcast_ref::<Self>()) {
            this.phase.store(phase, Ordering::Relaxed);
        }
    }

    /// The head of a request is complete.
    pub(crate) fn begin_request(&mut self) {
        *self.phase.get_mut() = SERVING;
    }

    /// The request has ended. Another one may come within `limit`, or has `begun` to come.
    pub(crate) fn end_request(&mut self, limit: Duration, begun: bool) {
        *self.phase.get_mut() = if begun || !self.peeked.is_empty() { HEAD } else { IDLE };
        self.idle_limit = Some(limit);
        self.due = None;
    }

    /// True when a connection that begins with `bytes` speaks HTTP/2.
    pub(crate) fn begins_http2(bytes: &[u8]) -> bool {
        bytes.starts_with(H2_PREFACE)
    }

    /// True when a connection that begins with `bytes` speaks HTTP/2, or may do so as far as they tell.
    pub(crate) fn may_begin_http2(bytes: &[u8]) -> bool {
        bytes.starts_with(H2_PREFACE) || H2_PREFACE.starts_with(bytes)
    }

    /// Puts `bytes` back, to be read again.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        *self.phase.get_mut() = HEAD;
        self.peeked.splice(..0, bytes.iter().copied());
    }

    /// Makes a cleartext connection end with a reset. A clean end would tell the client that the answer is whole.
    pub(crate) fn reset(&self) {
        if let Wire::Tcp(stream) = &self.inner {
            // If this fails, the connection ends cleanly.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// True when the client has closed its side of a cleartext connection, also while bytes of it are still unread.
    pub(crate) fn is_read_closed(&self) -> bool {
        let Wire::Tcp(stream) = &self.inner else { return false };
        let ready = pin!(stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// True when the deadline of the phase is over.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let phase = *self.phase.get_mut();
        let limit = match phase {
            HEAD => Some(self.head_limit),
            IDLE => self.idle_limit,
            _ => None,
        };
        let Some(limit) = limit else { return false };
        let due = match self.due {
            Some((of, due)) if of == phase => due,
            _ => Instant::now() + limit,
        };
        self.due = Some((phase, due));
        self.alarm.poll(cx, due).is_ready()
    }

    /// Bytes have come in.
    fn has_read(&mut self, bytes: &[u8]) {
        if self.is_h2 || bytes.starts_with(H2_PREFACE) {
            // HTTP/2 has limits of its own; its heads do not wait for the connection.
            *self.phase.get_mut() = SERVING;
        } else if *self.phase.get_mut() == IDLE {
            *self.phase.get_mut() = HEAD;
            self.due = None;
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.peeked.is_empty() {
            let length = this.peeked.len().min(buf.remaining());
            buf.put_slice(&this.peeked[..length]);
            this.peeked.drain(..length);
            if this.peeked.is_empty() {
                this.peeked = Vec::new();
            }
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
            Poll::Pending if this.is_overdue(cx) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request head took too long")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[async_trait]
impl Peek for ClientStream {
    /// Fills `buf` with the connection's first bytes, which can be read again. It stops as soon as they cannot be the beginning
    /// of HTTP/2 any more: a request of HTTP/1 may be shorter than what Pingora wants to see.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let mut first = [0; H2_PREFACE.len()];
        let mut length = 0;
        while length < first.len().min(buf.len()) && H2_PREFACE.starts_with(&first[..length]) {
            match self.read(&mut first[length..]).await? {
                0 => break,
                read => length += read,
            }
        }
        self.peeked.splice(..0, first[..length].iter().copied());
        self.has_read(&first[..length]);
        let shown = length.min(buf.len());
        buf[..shown].copy_from_slice(&first[..shown]);
        Ok(true)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        match &mut self.inner {
            Wire::Tcp(stream) => drop(stream.shutdown().await),
            Wire::Pingora(stream) => Shutdown::shutdown(&mut **stream).await,
        }
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        match &self.inner {
            Wire::Tcp(stream) => stream.as_raw_fd(),
            Wire::Pingora(stream) => stream.id(),
        }
    }
}

impl Ssl for ClientStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        match &self.inner {
            Wire::Tcp(_) => None,
            Wire::Pingora(stream) => stream.get_ssl_digest(),
        }
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        alpn(&self.inner)
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        match &self.inner {
            Wire::Tcp(_) => Vec::new(),
            Wire::Pingora(stream) => stream.get_timing_digest(),
        }
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        let digest = SocketDigest::from_raw_fd(self.id());
        // Without the addresses, the digest would ask the kernel for them. Its cells are new, so setting them cannot fail.
        let _ = digest.peer_addr.set(Some(self.peer.into()));
        let _ = digest.local_addr.set(Some(self.local.into()));
        Some(Arc::new(digest))
    }
}

fn alpn(wire: &Wire) -> Option<ALPN> {
    match wire {
        Wire::Tcp(_) => None,
        Wire::Pingora(stream) => stream.selected_alpn_proto(),
    }
}
