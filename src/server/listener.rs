//! Accepts connections and hands them to an application.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{SocketDigest, Stream};
use prometheus::IntGauge;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::tls::TlsEndpoint;
use super::workers::Workers;
use crate::config::limits;
use crate::proxy::ClientStream;
use crate::upstream::Wire;

/// A socket that is bound and does not accept connections yet.
pub(super) struct BoundListener {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<TlsEndpoint>>,
}

/// The limits on the connections of a listener, and the gauge that counts them.
#[derive(Clone)]
pub(super) struct Bounds {
    pub(super) connections: Arc<Semaphore>,
    pub(super) header_timeout: Duration,
    pub(super) open: IntGauge,
}

impl BoundListener {
    /// Binds `address`, without accepting connections yet. `[::]` also accepts IPv4, whatever the system's `bindv6only`
    /// says, because `mcp-edge check` assumes this.
    pub(super) fn bind(address: SocketAddr, tls: Option<Arc<TlsEndpoint>>) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if address.is_ipv6() {
            SockRef::from(&socket).set_only_v6(false)?;
        }
        // Without this, `bind` could fail while connections of the previous process are still closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(limits::LISTEN_QUEUE)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls })
    }

    /// Accepts connections until `shutdown` turns true. `workers` serve them.
    pub(super) async fn serve<A>(
        self,
        app: Arc<A>,
        mut shutdown: watch::Receiver<bool>,
        bounds: Bounds,
        workers: Arc<Workers>,
    ) where
        A: ServerApp + Send + Sync + 'static,
    {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown.wait_for(|ending| *ending) => return,
                accepted = self.accept(&bounds) => accepted,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    let (app, shutdown, bounds, tls) =
                        (Arc::clone(&app), shutdown.clone(), bounds.clone(), self.tls.clone());
                    let local = self.address;
                    workers.spawn(async move {
                        let _counted = (permit, Open::new(bounds.open));
                        let mut ending = shutdown.clone();
                        let ready = tokio::select! {
                            ready = prepare(stream, peer, local, tls.as_deref(), bounds.header_timeout) => ready,
                            // A client that has not sent anything yet must not delay the shutdown.
                            _ = ending.wait_for(|ending| *ending) => return,
                        };
                        match ready {
                            Ok(stream) => drop(app.process_new(stream, &shutdown).await),
                            Err(reason) => debug!("connection of {peer}: {reason}"),
                        }
                    });
                }
                Err(error) => {
                    // The usual reason is too many open files. A short pause gives connections time to close.
                    warn!("listener {}: a connection cannot be accepted: {error}", self.address);
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts a connection. It is not registered with an event loop yet, so that any worker thread can serve it.
    async fn accept(&self, bounds: &Bounds) -> io::Result<(std::net::TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&bounds.connections).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = self.socket.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream.into_std()?, peer, permit))
    }
}

/// Waits for the first byte, does the TLS handshake, and makes the stream that has the deadline for request heads.
async fn prepare(
    stream: std::net::TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    tls: Option<&TlsEndpoint>,
    header_timeout: Duration,
) -> Result<Stream, String> {
    let accepted = Instant::now();
    let stream = TcpStream::from_std(stream).map_err(|error| error.to_string())?;
    match tokio::time::timeout(header_timeout, stream.peek(&mut [0])).await {
        Ok(first) => drop(first.map_err(|error| error.to_string())?),
        Err(_) => return Err("the client sent nothing".to_owned()),
    }
    let local = stream.local_addr().unwrap_or(local);
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Both addresses are known. Without this, the digest would ask the kernel for them. The cells are new, so setting
    // them cannot fail.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let _ = digest.local_addr.set(Some(local.into()));
    let digest = Arc::new(digest);
    let wire = match tls {
        None => Wire::Tcp(stream),
        Some(tls) => {
            let stream = L4Stream::from(stream);
            let handshake = tokio::time::timeout_at(accepted + header_timeout, tls.handshake(stream));
            let handshake = handshake.await.map_err(|_| "the TLS handshake took too long".to_owned())?;
            Wire::Pingora(Box::new(handshake.map_err(|error| format!("the TLS handshake failed: {error}"))?))
        }
    };
    Ok(Box::new(ClientStream::new(wire, digest, accepted, header_timeout)))
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
        let usable = every.into_iter().filter(|ip| BoundListener::bind(SocketAddr::new(*ip, 0), None).is_ok());
        let usable: Vec<IpAddr> = usable.collect();
        assert!(usable.len() >= 3, "IPv4 is always available");
        for a in &usable {
            for b in &usable {
                // Another process may have taken the second address. Then the test tries another port.
                let agrees = (0..10).any(|_| {
                    let first = BoundListener::bind(SocketAddr::new(*a, 0), None).expect("any port will do");
                    let second = SocketAddr::new(*b, first.address.port());
                    is_accepted(folder.path(), first.address, second) == BoundListener::bind(second, None).is_ok()
                });
                assert!(agrees, "{a} beside {b}");
            }
        }
    }
}
