//! Checks `auth.outbound`, and the URLs that authentication sends requests to.

use ipnet::IpNet;
use reqwest::Url;

use super::resolver::Resolver;
use crate::config::checked::outbound::Outbound;
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::read::source::Source;

impl Resolver<'_> {
    pub(crate) fn outbound(&mut self) -> Outbound {
        let section = |source: &Source| source.file.auth.as_ref().and_then(|auth| auth.outbound.clone());
        let written = self.only("auth.outbound", section).unwrap_or_default();
        let place = Place::new(self.file_of(|source| section(source).is_some()), "auth.outbound").key("allow");
        if written.allow.as_ref().is_some_and(Vec::is_empty) {
            let message = "is empty, so the edge could not connect to any server: write networks such as \
                           `[10.0.0.0/8]`, or take this out";
            self.problems.add(&place, message);
            return Outbound::default();
        }
        let allow: Option<Vec<IpNet>> =
            written.allow.map(|networks| networks.iter().map(|network| network.0).collect());
        if allow.as_ref().is_some_and(|networks| networks.len() > limits::OUTBOUND_NETWORKS) {
            let message =
                format!("has more than {} networks: write fewer and larger networks", limits::OUTBOUND_NETWORKS);
            self.problems.add(&place, message);
        }
        Outbound { allow, named: Vec::new() }
    }

    /// Checks a URL that authentication sends requests to. Only an IP address is checked here. The addresses of a host
    /// name are checked with every connection.
    pub(crate) fn reachable(&mut self, url: &Url, place: &Place) {
        let Some(address) = Outbound::literal(url).map(|address| address.to_canonical()) else { return };
        if self.outbound.allows(address) {
            return;
        }
        if self.outbound.allow.is_none() {
            self.outbound.named.push(address);
            return;
        }
        let message = format!(
            "`{address}` is not in any network of `auth.outbound.allow`: add a network there, or write another URL"
        );
        self.problems.add(place, message);
    }
}
