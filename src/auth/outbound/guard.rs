//! Keeps the outbound client from addresses that it may not connect to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use crate::config::Outbound;

/// Resolves names, and hands over only addresses that may be connected to. Nothing resolves the name again, so one that
/// changes its addresses in between gains nothing.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Arc<Outbound>);

/// An address that may not be connected to.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("its address {0} is in no network of `auth.outbound.allow`")]
    Outside(IpAddr),
    #[error(
        "its address {0} is link-local: if the server is really there, list the networks of all servers in `auth.outbound.allow`"
    )]
    LinkLocal(IpAddr),
}

impl Guard {
    pub(crate) fn new(outbound: &Outbound) -> Self {
        Self(Arc::new(outbound.clone()))
    }

    /// What it was made from.
    pub(crate) fn outbound(&self) -> &Outbound {
        &self.0
    }

    /// Checks a host that is an address: no name is resolved for it.
    pub(crate) fn check(&self, url: &reqwest::Url) -> Result<(), Refused> {
        match Outbound::literal(url) {
            Some(address) if !self.0.allows(address) => Err(self.refused(address)),
            _ => Ok(()),
        }
    }

    /// Those of the addresses of a name that may be connected to; none are no error of their own.
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
