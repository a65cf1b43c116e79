//! What the data path knows of the listener that a request came in on.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Listener, TrustedField};
use crate::types::{HostPattern, OriginPattern};

/// A bound listener.
#[derive(Clone, Debug)]
pub struct ListenerContext {
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// True for a TLS listener.
    pub tls: bool,
    hosts: Vec<HostPattern>,
    origins: Vec<OriginPattern>,
    trusted_proxies: Vec<IpNet>,
    trusted_fields: Vec<TrustedField>,
    underscores_in_headers: bool,
}

impl ListenerContext {
    /// `address`: the bound address. It differs from the configured one when that has port 0.
    pub fn new(settings: &Listener, address: SocketAddr) -> Self {
        Self {
            address,
            tls: settings.tls.is_some(),
            hosts: settings.hosts.clone(),
            origins: settings.origins.clone(),
            trusted_proxies: settings.trusted_proxies.clone(),
            trusted_fields: settings.trusted_fields.clone(),
            underscores_in_headers: settings.underscores_in_headers,
        }
    }

    /// True when a connection to the local address `local` was accepted here.
    pub fn accepted(&self, local: SocketAddr) -> bool {
        let (own, is_any) = (self.address, self.address.ip().is_unspecified());
        // An IPv4 and an IPv6 listener may have the same port. A listener on `[::]` gets IPv4 addresses in the form of IPv6.
        own == local || (is_any && own.is_ipv4() == local.is_ipv4() && own.port() == local.port())
    }

    /// True when the listener serves `host`.
    pub fn serves(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// The origins of web pages that may call. Empty: only the listener's own origin.
    pub fn origins(&self) -> &[OriginPattern] {
        &self.origins
    }

    /// True when the configuration lists the hosts of the listener.
    pub fn names_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// True when only this machine can reach the listener and its hosts are not listed.
    pub fn is_on_loopback(&self) -> bool {
        self.hosts.is_empty() && self.address.ip().is_loopback()
    }

    /// The fields in which trusted proxies are believed.
    pub(crate) fn trusted_fields(&self) -> &[TrustedField] {
        &self.trusted_fields
    }

    /// True when upstreams get fields whose names have underscores.
    pub(crate) fn keeps_underscores(&self) -> bool {
        self.underscores_in_headers
    }

    /// True when this is the address of a trusted proxy.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_belongs_to_the_listener_that_accepted_it() {
        let accepted = |listener: &str, local: &str| {
            let address: SocketAddr = listener.parse().expect("an address");
            let context = ListenerContext {
                address,
                tls: false,
                hosts: Vec::new(),
                origins: Vec::new(),
                trusted_proxies: Vec::new(),
                trusted_fields: Vec::new(),
                underscores_in_headers: false,
            };
            context.accepted(local.parse().expect("an address"))
        };
        for (listener, local, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::1]:80", "[::1]:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "[::ffff:127.0.0.1]:80", true),
            ("[::]:80", "[::1]:81", false),
        ] {
            assert_eq!(accepted(listener, local), expected, "{listener} {local}");
        }
    }
}
