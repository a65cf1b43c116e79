//! The addresses to which authentication may send requests.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

/// Which addresses authentication may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// The only networks that are allowed; `None`: every address except link-local ones.
    pub allow: Option<Vec<IpNet>>,
    /// Link-local addresses that the operator has written into URLs. They are allowed when `allow` is `None`.
    pub named: Vec<IpAddr>,
}

impl Outbound {
    /// Whether a connection to `address` is allowed. An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is checked
    /// as the IPv4 address in it.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &self.allow {
            Some(networks) => networks.iter().any(|network| network.contains(&address)),
            None => !is_link_local(address) || self.named.contains(&address),
        }
    }

    /// The host of `url` when it is an IP address; `None` when it is a name.
    pub fn literal(url: &Url) -> Option<IpAddr> {
        url.host_str()?.trim_matches(['[', ']']).parse().ok()
    }
}

/// Whether `address` is link-local (RFC 3927 section 2.1, RFC 4291 section 2.5.6).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn with_a_list_only_its_networks_are_allowed() {
        let allow = ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"].map(|network| network.parse().expect("a network"));
        let outbound = Outbound { allow: Some(allow.to_vec()), named: vec![ip("169.254.1.1")] };
        for address in ["10.255.0.1", "fd00::1", "192.0.2.7", "::ffff:10.0.0.1"] {
            assert!(outbound.allows(ip(address)), "{address}");
        }
        for address in
            ["11.0.0.1", "192.0.2.8", "127.0.0.1", "::1", "::", "0.0.0.0", "169.254.1.1", "::ffff:127.0.0.1", "::a00:1"]
        {
            assert!(!outbound.allows(ip(address)), "{address}");
        }
    }

    #[test]
    fn without_a_list_only_link_local_addresses_that_are_not_in_a_url_are_refused() {
        let outbound = Outbound { allow: None, named: vec![ip("169.254.1.1")] };
        for address in ["127.0.0.1", "::1", "10.0.0.1", "8.8.8.8", "169.253.0.1", "169.254.1.1", "::ffff:169.254.1.1"] {
            assert!(outbound.allows(ip(address)), "{address}");
        }
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "febf::1", "169.254.1.2"] {
            assert!(!outbound.allows(ip(address)), "{address}");
        }
    }

    #[test]
    fn ip_addresses_in_urls_are_found() {
        for (url, address) in [
            ("http://127.0.0.1:80/x", Some("127.0.0.1")),
            ("http://[fe80::1]/x", Some("fe80::1")),
            ("http://0xa9fea9fe/", Some("169.254.169.254")),
            ("http://2852039166/", Some("169.254.169.254")),
            ("http://169.254.43518./", Some("169.254.169.254")),
            ("https://idp.example/", None),
            ("http://localhost/", None),
        ] {
            let literal = Outbound::literal(&url.parse().expect("a URL"));
            assert_eq!(literal, address.map(ip), "{url}");
        }
    }
}
