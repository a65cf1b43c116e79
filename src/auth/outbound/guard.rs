//! Keeps the outbound client from connecting to addresses that are not allowed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use crate::config::Outbound;

/// Resolves names, and returns only addresses that are allowed. The client connects to these addresses without
/// resolving the name again, so it is no use to change the addresses of a name after the check.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Arc<Outbound>);

/// An address to which the edge may not connect.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("its address {0} is not in any network of `auth.outbound.allow`")]
    Outside(IpAddr),
    #[error(
        "its address {0} is link-local: if the server is really there, list the networks of all servers in \
         `auth.outbound.allow`"
    )]
    LinkLocal(IpAddr),
}

impl Guard {
    pub(crate) fn new(outbound: &Outbound) -> Self {
        Self(Arc::new(outbound.clone()))
    }

    /// The settings from which this guard was made.
    pub(crate) fn outbound(&self) -> &Outbound {
        &self.0
    }

    /// Checks the host of `url` if it is an address. Such a host is never resolved.
    pub(crate) fn check(&self, url: &reqwest::Url) -> Result<(), Refused> {
        match Outbound::literal(url) {
            Some(address) if !self.0.allows(address) => Err(self.refused(address)),
            _ => Ok(()),
        }
    }

    /// Keeps the allowed addresses of a name. It is an error if there are addresses, but none of them is allowed. An
    /// empty list stays empty.
    fn keep(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let (allowed, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| self.0.allows(found.ip()));
        match refused.first() {
            Some(refused) if allowed.is_empty() => Err(self.refused(refused.ip())),
            _ => Ok(allowed),
        }
    }

    fn refused(&self, address: IpAddr) -> Refused {
        if self.0.allow.is_some() { Refused::Outside(address) } else { Refused::LinkLocal(address) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(guard.keep(found)?.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_only_the_addresses_that_are_allowed() {
        let address = |text: &str| SocketAddr::new(text.parse().expect("an address"), 0);
        let outbound = Outbound { allow: Some(vec!["10.0.0.0/8".parse().expect("a network")]), named: Vec::new() };
        let guard = Guard::new(&outbound);
        let (good, bad, worse) = (address("10.1.1.1"), address("127.0.0.1"), address("::1"));
        assert_eq!(guard.keep(vec![bad, good, worse]), Ok(vec![good]));
        assert_eq!(guard.keep(vec![bad, worse]), Err(Refused::Outside(bad.ip())));
        assert_eq!(guard.keep(Vec::new()), Ok(Vec::new()));
        let link_local = address("169.254.169.254");
        let guard = Guard::new(&Outbound::default());
        assert_eq!(guard.keep(vec![link_local]), Err(Refused::LinkLocal(link_local.ip())));
        assert_eq!(guard.keep(vec![link_local, bad]), Ok(vec![bad]));
    }
}
