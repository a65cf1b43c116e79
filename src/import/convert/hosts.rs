//! Which servers of nginx answer for a host: the routes of a host ask what the strictest of them asked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::listen;
use crate::config::written::Host;
use crate::import::nginx::site::Site;
use crate::types::HostPattern;

/// Hosts that the same servers answer for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// None: any host.
    pub(crate) hosts: Vec<Host>,
    /// By their place in the list of servers.
    pub(crate) sites: BTreeSet<usize>,
    /// What no route takes here would go to the routes of less specific hosts.
    pub(crate) falls_through: bool,
}

/// The groups of the hosts of `used` servers, in their order. The others in `sites` count where they answer for some of
/// those hosts at the same address.
pub(crate) fn groups(sites: &[Site<'_>], used: &[usize]) -> Vec<Group> {
    let names: Vec<Vec<Host>> = sites.iter().map(|site| site.hosts().0).collect();
    let listeners = listeners(sites, used, &names);
    let mut scopes: Vec<Option<&Host>> = Vec::new();
    let add = |scopes: &mut Vec<Option<_>>, index: usize| {
        let hosts = names[index].iter().map(Some);
        let hosts: Vec<_> = if names[index].is_empty() { vec![None] } else { hosts.collect() };
        for host in hosts {
            if !scopes.contains(&host) {
                scopes.push(host);
            }
        }
    };
    used.iter().for_each(|index| add(&mut scopes, *index));
    let of_used = scopes.clone();
    let answers = |host: Option<&Host>| -> BTreeSet<usize> {
        listeners.iter().filter_map(|listener| listener.answers(&names, host)).collect()
    };
    // A server that is left out would hand its hosts to less specific ones.
    for index in listeners.iter().flat_map(|listener| &listener.sites) {
        let covered = |host: &&Host| of_used.iter().any(|scope| is_less_specific(*scope, Some(host)));
        if !used.contains(index) && names[*index].iter().any(|host| covered(&host)) {
            add(&mut scopes, *index);
        }
    }
    let differ = used.iter().any(|index| names[*index] != names[used[0]]) || scopes.len() > of_used.len();
    if !differ {
        let sites = scopes.iter().flat_map(|host| answers(*host)).collect();
        return vec![Group { hosts: Vec::new(), sites, falls_through: false }];
    }
    let mut groups: Vec<Group> = Vec::new();
    for host in &scopes {
        let falls_through = scopes.iter().any(|other| is_less_specific(*other, *host));
        let sites = answers(*host);
        let same = |group: &&mut Group| {
            let is_any = group.hosts.is_empty() || host.is_none();
            !is_any && group.sites == sites && group.falls_through == falls_through
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.hosts.extend(host.cloned()),
            None => groups.push(Group { hosts: host.cloned().into_iter().collect(), sites, falls_through }),
        }
    }
    groups
}

/// True when the routes of `scope` are asked for what the routes of `host` do not take.
fn is_less_specific(scope: Option<&Host>, host: Option<&Host>) -> bool {
    match (scope, host) {
        (None, Some(_)) => true,
        (Some(scope), Some(host)) => scope != host && covers(scope, host),
        (_, None) => false,
    }
}

/// True when every host of `host` is one of `wildcard`, which has to be one.
fn covers(wildcard: &Host, host: &Host) -> bool {
    let HostPattern::Wildcard(suffix) = &wildcard.0 else { return false };
    let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = &host.0;
    let is_same = matches!(&host.0, HostPattern::Wildcard(_)) && name == suffix;
    is_same || name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

/// An address with its servers, in their order.
struct Listener {
    sites: Vec<usize>,
    /// Who answers for hosts that no server names; `None`: the edge answers 421.
    default: Option<usize>,
}

impl Listener {
    /// Who answers for `host` here.
    fn answers(&self, names: &[Vec<Host>], host: Option<&Host>) -> Option<usize> {
        let named = host.and_then(|host| {
            let exactly = self.sites.iter().find(|index| names[**index].contains(host));
            let wildcards = self.sites.iter().flat_map(|index| names[*index].iter().map(move |name| (index, name)));
            let covering = wildcards.filter(|(_, name)| covers(name, host));
            // Of two servers for the same name, nginx ignores the second.
            let longest = || covering.min_by_key(|(_, name)| Reverse(name.to_string().len()));
            exactly.or_else(|| longest().map(|(index, _)| index))
        });
        named.copied().or(self.default)
    }
}

/// The addresses at which `used` servers answer.
fn listeners(sites: &[Site<'_>], used: &[usize], names: &[Vec<Host>]) -> Vec<Listener> {
    let addresses: Vec<BTreeSet<String>> = sites.iter().map(addresses).collect();
    let mut found: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for address in used.iter().flat_map(|index| &addresses[*index]) {
        let there = (0..sites.len()).filter(|index| addresses[*index].contains(address));
        found.insert(address, there.collect());
    }
    let is_any = |there: &[usize]| there.iter().any(|index| used.contains(index) && names[*index].is_empty());
    // Addresses of IPv4 and IPv6 may become one listener, which then takes any host if one of them did.
    let any: BTreeSet<String> =
        found.iter().filter(|(_, there)| is_any(there)).map(|(address, _)| unspecified(address)).collect();
    let of = |(address, there): (&str, Vec<usize>)| {
        let marked = there.iter().copied().find(|index| is_default(&sites[*index], address));
        let default = marked.or(there.first().copied()).filter(|_| any.contains(&unspecified(address)));
        Listener { sites: there, default }
    };
    found.into_iter().map(of).collect()
}

/// Where a server listens, as text: also what the edge cannot bind.
fn addresses(site: &Site<'_>) -> BTreeSet<String> {
    let other = site.chain.own("listen").into_iter().filter(|line| crate::import::nginx::site::listen(line).is_none());
    let other: Vec<String> = other.map(|line| line.arg(0).to_owned()).collect();
    let bound = listen::binds(site);
    // A file of locations alone is somewhere, too.
    let nowhere = (bound.is_empty() && other.is_empty()).then(String::new);
    bound.iter().map(|bind| bind.address.to_string()).chain(other).chain(nowhere).collect()
}

/// The same for an address of IPv4 and of IPv6 that take all.
fn unspecified(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => format!("*:{}", address.port()),
        _ => address.to_owned(),
    }
}

fn is_default(site: &Site<'_>, address: &str) -> bool {
    let lines = site.chain.own("listen");
    lines.into_iter().any(|line| {
        let here = crate::import::nginx::site::listen(line)
            .map_or(line.arg(0).to_owned(), |listen| listen.address.to_string());
        here == address && line.args.iter().any(|arg| arg == "default_server" || arg == "default")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    /// Each group as its hosts, its servers, and `!` when it falls through. Servers with `proxy_pass` are used.
    fn read(text: &str) -> Vec<String> {
        let root = nginx::parse(text).expect("legal");
        let sites = site::sites(&root);
        let used: Vec<usize> = (0..sites.len()).filter(|index| !sites[*index].locations.is_empty()).collect();
        let tell = |group: &Group| {
            let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
            format!("{} {:?}{}", hosts.join(","), group.sites, if group.falls_through { "!" } else { "" })
        };
        groups(&sites, &used).iter().map(tell).collect()
    }

    #[test]
    fn servers_of_the_same_hosts_are_one_group() {
        assert_eq!(read("server { location / {} }"), [" {0}"]);
        assert_eq!(read("location / {}"), [" {0}"]);
        let two =
            "server { listen 80; server_name a b; location / {} } server { listen 81; server_name a b; location / {} }";
        assert_eq!(read(two), [" {0, 1}"]);
        let same_port = "server { server_name a; location / {} } server { server_name a; location / {} }";
        assert_eq!(read(same_port), [" {0}"], "nginx ignores the second");
    }

    #[test]
    fn each_host_is_answered_by_its_own_servers() {
        let text = "server { server_name a b; location / {} } server { server_name c; location / {} }";
        assert_eq!(read(text), ["a,b {0}", "c {1}"]);
        let text = "server { server_name *.x; location / {} } server { server_name a.x; location / {} }";
        assert_eq!(read(text), ["*.x {0}", "a.x {1}!"]);
        let text =
            "server { listen 80; server_name *.x; location / {} } server { listen 81; server_name a.x; location / {} }";
        assert_eq!(read(text), ["*.x {0}", "a.x {0, 1}!"]);
        let text = "server { listen 80; server_name a.x; location / {} } server { listen 81; server_name *.x; location / {} } \
                    server { listen 81; server_name *.x; location / {} }";
        assert_eq!(read(text), ["a.x {0, 1}!", "*.x {1}"], "of two for the same name, nginx ignores the second");
        let text = "server { server_name a; location / {} } server { listen 80 default_server; location / {} }";
        assert_eq!(read(text), ["a {0}!", " {1}"]);
    }

    #[test]
    fn the_first_server_of_an_address_is_its_default() {
        let text = "server { server_name a; location / {} } server { location / {} }";
        assert_eq!(read(text), ["a {0}!", " {0}"]);
    }

    #[test]
    fn a_server_that_is_left_out_keeps_its_hosts() {
        let text = "server { location / {} } server { server_name a; return 444; }";
        assert_eq!(read(text), [" {0}", "a {1}!"]);
        let text = "server { server_name b; location / {} } server { server_name a; return 444; }";
        assert_eq!(read(text), [" {0}"], "the listener takes its own hosts alone");
        let text = "server { listen 81; location / {} } server { server_name a; return 444; }";
        assert_eq!(read(text), [" {0}"], "it is somewhere else");
    }
}
