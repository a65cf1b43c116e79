//! The byte stream of a connection, to a client or to a replica.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, OrErr};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::limits;

/// The byte stream of a connection. Cleartext is read from and written to the socket directly, because Pingora's stream
/// measures times and copies into buffers at every read.
#[derive(Debug)]
pub enum Wire {
    /// Cleartext.
    Tcp(TcpStream),
    /// TLS.
    Pingora(Stream),
}

impl Wire {
    /// Connects to `peer`, which is at `address`.
    ///
    /// # Errors
    /// The peer cannot be reached within its connection timeout, or the TLS handshake fails.
    pub async fn connect(
        transport: &TransportConnector,
        peer: &HttpPeer,
        address: SocketAddr,
    ) -> pingora::Result<Self> {
        if peer.tls() {
            // Boxed, because the future of a TLS handshake is large. Without the box, the future of each request would
            // have room for it until the end.
            return Box::pin(transport.new_stream(peer)).await.map(Self::Pingora);
        }
        let connecting = TcpStream::connect(address);
        let connected = match peer.options.connection_timeout {
            Some(limit) => match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => return Error::e_explain(ErrorType::ConnectTimedout, "the upstream does not answer"),
            },
            None => connecting.await,
        };
        let stream = connected.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "connecting to the upstream", error)
        })?;
        stream.set_nodelay(true).or_err(ErrorType::SocketError, "setting TCP_NODELAY")?;
        keep_alive(&SockRef::from(&stream)).or_err(ErrorType::SocketError, "setting the keep-alive of TCP")?;
        Ok(Self::Tcp(stream))
    }

    /// Whether the event loop of another thread can take over the connection.
    pub(super) fn can_move(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Moves the connection to the event loop of this thread. Returns `None` when the connection
    /// [cannot move](Self::can_move), or when its peer has closed it or written something.
    pub(super) fn moved_here(self) -> Option<Self> {
        let Self::Tcp(stream) = self else { return None };
        let stream = stream.into_std().ok()?;
        // `peek` asks the kernel, because the other event loop may not have noticed yet what the peer did.
        let peeked = stream.peek(&mut [0]);
        peeked
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            .then(|| TcpStream::from_std(stream).ok().map(Self::Tcp))
            .flatten()
    }
}

/// Lets TCP notice that the other side of a connection is gone.
///
/// # Errors
/// The system does not know one of the options.
pub fn keep_alive(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(limits::TCP_KEEPALIVE)
        .with_interval(limits::TCP_KEEPALIVE_INTERVAL)
        .with_retries(limits::TCP_KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limits::TCP_USER_TIMEOUT))
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Pingora(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Pingora(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // A `TcpStream` has no write buffer.
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Pingora(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Pingora(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Pingora(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Pingora(stream) => stream.is_write_vectored(),
        }
    }
}
