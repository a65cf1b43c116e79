//! What the data path knows of the listener that a request came in on.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::Listener;
use crate::types::{HostPattern, OriginPattern};

/// A bound listener.
#[derive(Clone, Debug)]
pub struct ListenerContext {
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    hosts: Vec<HostPattern>,
    origins: Vec<OriginPattern>,
    trusted_proxies: Vec<IpNet>,
}

impl ListenerContext {
    /// `address` is what was bound: it differs from the configured one when that has port 0.
    pub fn new(settings: &Listener, address: SocketAddr) -> Self {
        Self {
            address,
            tls: settings.tls.is_some(),
            hosts: settings.hosts.clone(),
            origins: settings.origins.clone(),
            trusted_proxies: settings.trusted_proxies.clone(),
        }
    }

    /// True when a connection to the local address `local` was accepted here.
    pub fn accepted(&self, local: SocketAddr) -> bool {
        let (own, is_any) = (self.address, self.address.ip().is_unspecified());
        // A listener of one family may have the port of one of the other; `[::]` sees IPv4 as IPv6.
        own == local || (is_any && own.is_ipv4() == local.is_ipv4() && own.port() == local.port())
    }

    /// True when the listener answers to `host`.
    pub fn serves(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// The pages that may call, beside those of the listener's own origin.
    pub fn origins(&self) -> &[OriginPattern] {
        &self.origins
    }

    /// True when it says which hosts it answers to.
    pub fn names_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// True when only this machine can reach it and nothing says which hosts it answers to.
    pub fn is_on_loopback(&self) -> bool {
        self.hosts.is_empty() && self.address.ip().is_loopback()
    }

    /// True when `X-Forwarded-*` fields from this address are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_listener_are_for_its_own_connections() {
        let accepted = |listener: &str, local: &str| {
            let address: SocketAddr = listener.parse().expect("an address");
            let context = ListenerContext {
                address,
                tls: false,
                hosts: Vec::new(),
                origins: Vec::new(),
                trusted_proxies: Vec::new(),
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
