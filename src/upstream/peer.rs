//! How connections to the replicas of an upstream are made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use pingora::protocols::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use crate::config;
use crate::config::limits;

/// Makes the peers of one upstream. The certificates of the upstream are converted only once.
#[derive(Debug)]
pub(super) struct PeerTemplate {
    options: PeerOptions,
    client: Option<Arc<CertKey>>,
    tls: Option<config::UpstreamTls>,
    group: u64,
}

impl PeerTemplate {
    pub(super) fn new(upstream: &config::Upstream) -> Self {
        let mut options = PeerOptions::new();
        let timeouts = &upstream.timeouts;
        options.connection_timeout = Some(timeouts.connect.0);
        options.total_connection_timeout = Some(timeouts.connect.0);
        options.idle_timeout = Some(timeouts.keepalive.0);
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: limits::TCP_KEEPALIVE,
            interval: limits::TCP_KEEPALIVE_INTERVAL,
            count: limits::TCP_KEEPALIVE_RETRIES as usize,
            user_timeout: limits::TCP_USER_TIMEOUT,
        });
        if upstream.http2 {
            options.set_http_version(2, 2);
            options.max_h2_streams = limits::UPSTREAM_H2_STREAMS;
            options.h2_ping_interval = Some(limits::UPSTREAM_H2_PING);
        }
        let tls = upstream.tls.clone();
        if let Some(authorities) = tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            let wrapped = authorities.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
            let authorities: Box<CaType> = wrapped.collect();
            options.ca = Some(authorities.into());
        }
        let client = tls.as_ref().and_then(|tls| tls.identity.as_ref()).map(|identity| {
            let chain = identity.0.cert.iter().map(|der| der.to_vec()).collect();
            Arc::new(CertKey::new(chain, identity.key_der().to_vec()))
        });
        let group = group(upstream);
        Self { options, client, tls, group }
    }

    /// The peer for one replica.
    pub(super) fn peer(&self, address: SocketAddr, host: &str) -> HttpPeer {
        // An empty name would switch off the verification of certificates in Pingora's rustls connector. With TLS, the
        // name is never empty: it is `server_name` or the endpoint's host.
        let name = self.tls.as_ref().map(|tls| tls.server_name.clone().unwrap_or_else(|| host.to_owned()));
        let mut peer = HttpPeer::new(address, name.is_some(), name.unwrap_or_default());
        peer.options = self.options.clone();
        peer.client_cert_key = self.client.clone();
        peer.group_key = self.group;
        peer
    }
}

/// The key that keeps the pooled connections of different upstreams apart. Pingora's pool does not compare certificate
/// authorities, whole client certificates and protocol versions when it hands out a connection, so this key covers
/// them.
fn group(upstream: &config::Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.http2.hash(&mut hasher);
    if let Some(tls) = &upstream.tls {
        tls.ca.hash(&mut hasher);
        tls.identity.as_ref().map(|identity| &identity.0.cert).hash(&mut hasher);
    }
    hasher.finish()
}
