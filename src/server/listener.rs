//! Accepts connections and hands them to an application.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use log::{debug, warn};
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use prometheus::IntGauge;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::tls::TlsEndpoint;
use super::workers::Workers;
use crate::config::limits;
use crate::proxy::ClientStream;
use crate::upstream::{Wire, keep_alive};

/// An address that is bound and does not accept connections yet.
pub(super) struct BoundListener {
    /// One for each thread. The system spreads new connections over them.
    sockets: Vec<Socket>,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<TlsEndpoint>>,
}

/// The limits on the connections of a listener, and the gauge that counts them.
#[derive(Clone)]
pub(super) struct Bounds {
    pub(super) connections: Arc<Semaphore>,
    /// For each thread: what its idle connections listen to. The one that has waited for the longest time is told to make room.
    pub(super) room: Arc<[Arc<Notify>]>,
    /// A connection that has not sent anything makes room too.
    pub(super) silent_may_leave: bool,
    pub(super) header_timeout: Duration,
    pub(super) open: IntGauge,
}

impl BoundListener {
    /// Binds `address` for this many threads, without accepting connections yet. `[::]` also accepts IPv4, whatever the
    /// system's `bindv6only` says, because `mcp-edge check` assumes this.
    pub(super) fn bind(address: SocketAddr, tls: Option<Arc<TlsEndpoint>>, threads: usize) -> io::Result<Self> {
        // Without `SO_REUSEPORT`, so that an address that another process has is an error.
        let first = socket(address)?;
        first.bind(&address.into())?;
        let address = first.local_addr()?.as_socket().unwrap_or(address);
        let mut sockets = vec![first];
        if threads > 1 {
            sockets[0].set_reuse_port(true)?;
        }
        for _ in 1..threads {
            let next = socket(address)?;
            next.set_reuse_port(true)?;
            next.bind(&address.into())?;
            sockets.push(next);
        }
        for socket in &sockets {
            socket.listen(limits::LISTEN_QUEUE)?;
        }
        Ok(Self { sockets, address, tls })
    }

    /// Accepts connections on all threads of `workers` until `shutdown` turns true.
    pub(super) fn serve<A>(
        self,
        app: &Arc<A>,
        shutdown: &watch::Receiver<bool>,
        bounds: &Bounds,
        workers: &Arc<Workers>,
    ) -> Vec<JoinHandle<()>>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let Self { sockets, address, tls } = self;
        let accept = |(thread, socket)| {
            let acceptor = Acceptor {
                address,
                tls: tls.clone(),
                app: Arc::clone(app),
                shutdown: shutdown.clone(),
                bounds: bounds.clone(),
                workers: Arc::clone(workers),
                thread,
            };
            workers.spawn_on(thread, acceptor.run(socket))
        };
        sockets.into_iter().enumerate().map(accept).collect()
    }
}

/// A socket for a listener. Connections inherit its options.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Without this, `bind` could fail while connections of the previous process are still closing.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    keep_alive(&SockRef::from(&socket))?;
    Ok(socket)
}

/// Accepts the connections of one socket on one thread.
struct Acceptor<A> {
    address: SocketAddr,
    tls: Option<Arc<TlsEndpoint>>,
    app: Arc<A>,
    shutdown: watch::Receiver<bool>,
    bounds: Bounds,
    workers: Arc<Workers>,
    thread: usize,
}

impl<A: ServerApp + Send + Sync + 'static> Acceptor<A> {
    async fn run(self, socket: Socket) {
        let mut shutdown = self.shutdown.clone();
        let listener = match TcpListener::from_std(socket.into()) {
            Ok(listener) => listener,
            Err(error) => return warn!("listener {}: {error}", self.address),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown.wait_for(|ending| *ending) => return,
                accepted = listener.accept() => accepted,
            };
            let served = match accepted {
                // Further connections wait in the system's queue until this one may be served.
                Ok((stream, peer)) => tokio::select! {
                    biased;
                    _ = shutdown.wait_for(|ending| *ending) => return,
                    served = self.serve(stream, peer) => served,
                },
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                // The usual reason is too many open files. A short pause gives connections time to close.
                warn!("listener {}: a connection cannot be accepted: {error}", self.address);
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }

    /// Serves a connection on this thread, or on another one that has much less to do.
    async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let place = self.place().await?;
        let other = self.workers.less_busy(self.thread);
        let connection = Connection {
            place,
            room: Arc::clone(&self.bounds.room[other.unwrap_or(self.thread)]),
            silent_may_leave: self.bounds.silent_may_leave,
            peer,
            local: self.address,
            accepted: Instant::now(),
            tls: self.tls.clone(),
            header_timeout: self.bounds.header_timeout,
        };
        let counted = Open::new(self.bounds.open.clone());
        let (app, shutdown) = (Arc::clone(&self.app), self.shutdown.clone());
        match other {
            None => self.workers.open_here(async move {
                connection.serve(stream, app, shutdown).await;
                drop(counted);
            }),
            Some(other) => {
                let stream = stream.into_std()?;
                self.workers.open_on(other, async move {
                    match TcpStream::from_std(stream) {
                        Ok(stream) => connection.serve(stream, app, shutdown).await,
                        Err(error) => debug!("connection of {peer}: {error}"),
                    }
                    drop(counted);
                });
            }
        }
        Ok(())
    }

    /// Waits until another connection may be open. Idle connections make room.
    async fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        let Bounds { connections, room, .. } = &self.bounds;
        if let Ok(permit) = Arc::clone(connections).try_acquire_owned() {
            return Ok(permit);
        }
        let mut waiting = pin!(Arc::clone(connections).acquire_owned());
        let mut thread = self.thread;
        loop {
            room[thread % room.len()].notify_one();
            if let Ok(permit) = tokio::time::timeout(limits::ROOM_PAUSE, waiting.as_mut()).await {
                // If nobody was idle, the wish is kept. It must not close a connection later, when there is room.
                for room in room.iter() {
                    let _ = pin!(room.notified()).poll(&mut Context::from_waker(Waker::noop()));
                }
                return permit.map_err(io::Error::other);
            }
            thread += 1;
        }
    }
}

/// A connection that was accepted.
struct Connection {
    room: Arc<Notify>,
    silent_may_leave: bool,
    place: OwnedSemaphorePermit,
    peer: SocketAddr,
    local: SocketAddr,
    accepted: Instant,
    tls: Option<Arc<TlsEndpoint>>,
    header_timeout: Duration,
}

impl Connection {
    async fn serve<A: ServerApp + Send + Sync + 'static>(
        self,
        stream: TcpStream,
        app: Arc<A>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let (peer, room, silent_may_leave) = (self.peer, Arc::clone(&self.room), self.silent_may_leave);
        let ready = tokio::select! {
            biased;
            // Boxed, so that its memory is free afterwards.
            ready = Box::pin(self.prepare(stream)) => ready,
            () = room.notified(), if silent_may_leave => return,
            // A client that has not sent anything yet must not delay the shutdown.
            _ = shutdown.wait_for(|ending| *ending) => return,
        };
        match ready {
            Ok(stream) => drop(app.process_new(stream, &shutdown).await),
            Err(reason) => debug!("connection of {peer}: {reason}"),
        }
    }

    /// Waits for the first bytes, does the TLS handshake, and makes the stream that has the deadline for request heads. Until
    /// the first byte, a connection takes little memory.
    async fn prepare(self, mut stream: TcpStream) -> Result<Stream, String> {
        let first = tokio::time::timeout_at(self.accepted + self.header_timeout, self.first(&mut stream)).await;
        let first = first.map_err(|_| "the client sent nothing".to_owned())?.map_err(|error| error.to_string())?;
        let wire = match &self.tls {
            None => Wire::Tcp(stream),
            Some(tls) => Wire::Pingora(Box::pin(self.handshake(tls, stream)).await?),
        };
        Ok(Box::new(ClientStream::new(
            wire,
            (self.peer, self.local),
            self.accepted,
            self.header_timeout,
            first,
            self.room,
            self.place,
        )))
    }

    /// What a client of a cleartext listener sends first. With TLS, nothing is taken out of the stream.
    async fn first(&self, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        if self.tls.is_some() {
            return stream.peek(&mut [0]).await.map(|_| Vec::new());
        }
        poll_fn(|cx| {
            // On the stack, so that a connection that waits has no buffer.
            let mut buffer = [MaybeUninit::uninit(); limits::READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().to_vec()))
        })
        .await
    }

    async fn handshake(&self, tls: &TlsEndpoint, stream: TcpStream) -> Result<Stream, String> {
        let handshake = tls.handshake(stream);
        let handshake = tokio::time::timeout_at(self.accepted + self.header_timeout, handshake).await;
        let handshake = handshake.map_err(|_| "the TLS handshake took too long".to_owned())?;
        Ok(Box::new(handshake.map_err(|error| format!("the TLS handshake failed: {error}"))?))
    }
}

/// Counts one open connection, until it is dropped.
struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::net::IpAddr;

    /// Whether `mcp-edge check` accepts a configuration with both listeners.
    fn is_accepted(folder: &std::path::Path, a: SocketAddr, b: SocketAddr) -> bool {
        let path = folder.join("edge.yaml");
        std::fs::write(&path, format!("listeners: [{{address: '{a}'}}, {{address: '{b}'}}]"))
            .expect("the folder is writable");
        Config::load(&path).is_ok()
    }

    #[tokio::test]
    async fn check_accepts_two_addresses_exactly_when_the_system_can_bind_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let every =
            ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "::ffff:127.0.0.1"].map(|ip| ip.parse::<IpAddr>());
        let every = every.map(|ip| ip.expect("an address"));
        let usable = every.into_iter().filter(|ip| BoundListener::bind(SocketAddr::new(*ip, 0), None, 2).is_ok());
        let usable: Vec<IpAddr> = usable.collect();
        assert!(usable.len() >= 3, "IPv4 is always available");
        for a in &usable {
            for b in &usable {
                // Another process may have taken the second address. Then the test tries another port.
                let agrees = (0..10).any(|_| {
                    let first = BoundListener::bind(SocketAddr::new(*a, 0), None, 2).expect("any port will do");
                    let second = SocketAddr::new(*b, first.address.port());
                    is_accepted(folder.path(), first.address, second) == BoundListener::bind(second, None, 2).is_ok()
                });
                assert!(agrees, "{a} beside {b}");
            }
        }
    }

    #[tokio::test]
    async fn connections_inherit_the_options_of_their_listener() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = BoundListener::bind(any, None, 1).expect("any port will do");
        let _client = std::net::TcpStream::connect(bound.address).expect("it listens");
        // The handshake is over when `connect` returns.
        let (accepted, _) = bound.sockets[0].accept().expect("a connection");
        assert!(accepted.tcp_nodelay().expect("an option") && accepted.keepalive().expect("an option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option"), limits::TCP_KEEPALIVE);
        assert_eq!(accepted.tcp_user_timeout().expect("an option"), Some(limits::TCP_USER_TIMEOUT));
    }

    #[tokio::test]
    async fn many_connections_may_wait_to_be_accepted() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = BoundListener::bind(any, None, 1).expect("any port will do");
        // More than the 128 of the standard library. A connection for which there is no room is never made here, where nobody
        // accepts.
        let limit = std::time::Duration::from_secs(10);
        let waiting = (0..300).map(|_| std::net::TcpStream::connect_timeout(&bound.address, limit));
        let waiting: Vec<_> = waiting.collect::<Result<_, _>>().expect("there is room in the queue");
        assert_eq!(waiting.len(), 300);
    }

    #[test]
    fn an_address_that_is_in_use_is_an_error_also_for_several_threads() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = BoundListener::bind(any, None, 3).expect("any port will do");
        assert_eq!(bound.sockets.len(), 3);
        assert!(BoundListener::bind(bound.address, None, 3).is_err());
    }
}
