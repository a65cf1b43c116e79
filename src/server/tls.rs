//! TLS of listeners. A certificate can be replaced while connections are accepted.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::tls::server::handshake_with_callback;
use pingora::protocols::tls::{TlsRef, TlsStream};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;

use super::socket::Socket;
use crate::config::ListenerTls;
use crate::types::ClientCertificate;

/// The certificates of a listener.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    /// By DNS name, in lower case. `*.example.com` stands for one label.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(settings: &ListenerTls) -> Self {
        let names =
            settings.sni.iter().flat_map(|pair| pair.dns_names().into_iter().map(|name| (name, pair.0.clone())));
        Self { default: Arc::clone(&settings.identity.0), by_name: names.collect() }
    }

    /// The certificate for a client that asks for `name`: of the same name, else of the wildcard above it (RFC 9525 section
    /// 6.3), else the default.
    fn of(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.filter(|_| !self.by_name.is_empty()).and_then(|name| {
            let name = name.to_ascii_lowercase();
            let above = || name.split_once('.').and_then(|(_, above)| self.by_name.get(&format!("*.{above}")));
            self.by_name.get(&name).or_else(above)
        });
        found.unwrap_or(&self.default)
    }
}

/// Presents the certificates that were loaded last.
#[derive(Debug)]
struct Latest(ArcSwap<Certificates>);

impl ResolvesServerCert for Latest {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.load().of(hello.server_name())))
    }
}

/// TLS of one listener.
pub(super) struct TlsEndpoint {
    latest: Arc<Latest>,
    acceptor: Acceptor,
    asks_clients: bool,
}

/// Reads the certificate that a client has presented.
struct ReadCertificate;

#[async_trait]
impl TlsAccept for ReadCertificate {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(ClientCertificate::from_der(tls.peer_certificate_der()?)?))
    }
}

/// The cipher suites of rustls, in the edge's order. AES-128 comes first: its suites hash with SHA-256, for which processors have
/// instructions. The SHA-384 of AES-256 takes an eighth of a handshake.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite().as_str().is_some_and(|name| name.contains("AES_256")));
    provider
}

impl TlsEndpoint {
    /// Sets up TLS that offers HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// The authorities in `client_ca` cannot be used.
    pub(super) fn new(settings: &ListenerTls) -> Result<Self, String> {
        let latest = Arc::new(Latest(ArcSwap::from_pointee(Certificates::new(settings))));
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots
                        .add(authority.clone())
                        .map_err(|error| format!("an authority in `client_ca` cannot be used: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
                let verifier = if settings.client_optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::<Latest>::clone(&latest));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        // Connections are resumed with tickets, so that the edge keeps nothing of connections that have ended. Each listener
        // has its own keys: a ticket of one listener is worth nothing at another, which may ask for client certificates.
        // rustls replaces the key every six hours, and accepts a ticket for at most twelve (RFC 5077 section 5.5).
        config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        // rustls would send two. A client that opens several connections at once gets a ticket with each.
        config.send_tls13_tickets = 1;
        let acceptor = Acceptor::from_server_config(Arc::new(config));
        Ok(Self { latest, acceptor, asks_clients: settings.client_ca.is_some() })
    }

    /// From now on, presents these certificates to new connections.
    pub(super) fn show(&self, settings: &ListenerTls) {
        self.latest.0.store(Arc::new(Certificates::new(settings)));
    }

    /// Does the TLS handshake of a connection. If the listener has `client_ca`, the data of the client's certificate is
    /// kept with the connection. This also works when TLS is resumed, because rustls remembers the certificate.
    pub(super) async fn handshake(&self, stream: TcpStream) -> pingora::Result<TlsStream<Socket>> {
        let stream = Socket(stream);
        if self.asks_clients {
            handshake_with_callback(&self.acceptor, stream, &ReadCertificate).await
        } else {
            self.acceptor.tls_handshake(stream).await
        }
    }
}
