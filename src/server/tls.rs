//! TLS of listeners. A certificate can be replaced while connections are accepted.

use std::any::Any;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::server::handshake_with_callback;
use pingora::protocols::tls::{TlsRef, TlsStream};
use rustls::RootCertStore;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::config::ListenerTls;
use crate::types::ClientCertificate;

/// Presents the certificate that was loaded last.
#[derive(Debug)]
struct Latest(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Latest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
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

impl TlsEndpoint {
    /// Sets up TLS that offers HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// The authorities in `client_ca` cannot be used.
    pub(super) fn new(settings: &ListenerTls) -> Result<Self, String> {
        let latest = Arc::new(Latest(ArcSwap::new(Arc::clone(&settings.identity.0))));
        let builder = ServerConfig::builder();
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
        let acceptor = Acceptor::from_server_config(Arc::new(config));
        Ok(Self { latest, acceptor, asks_clients: settings.client_ca.is_some() })
    }

    /// From now on, presents this certificate to new connections.
    pub(super) fn show(&self, settings: &ListenerTls) {
        self.latest.0.store(Arc::clone(&settings.identity.0));
    }

    /// Does the TLS handshake of a connection. If the listener has `client_ca`, the data of the client's certificate is
    /// kept with the connection. This also works when TLS is resumed, because rustls remembers the certificate.
    pub(super) async fn handshake(&self, stream: L4Stream) -> pingora::Result<TlsStream<L4Stream>> {
        if self.asks_clients {
            handshake_with_callback(&self.acceptor, stream, &ReadCertificate).await
        } else {
            self.acceptor.tls_handshake(stream).await
        }
    }
}
