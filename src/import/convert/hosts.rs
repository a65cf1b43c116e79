//! Finds the nginx servers that answer for a host. The routes of a host get the requirements of the strictest of them.

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
    /// Empty: any host.
    pub(crate) hosts: Vec<Host>,
    /// Indexes into the list of servers.
    pub(crate) sites: BTreeSet<usize>,
    /// True when requests that match no route of these hosts would go to the routes of a less specific host.
    pub(crate) falls_through: bool,
}

/// Groups the hosts of the `used` servers, in their order. The other servers in `sites` count if they answer for some
/// of these hosts at the same address.
pub(crate) fn groups(sites: &[Site<'_>], used: &[usize]) -> Vec<Group> {
    let names: Vec<Vec<Host>> = sites.iter().map(|site| site.hosts().0).collect();
    let listeners = listeners(sites, used, &names);
    let mut patterns: Vec<Option<&Host>> = Vec::new();
    let add = |patterns: &mut Vec<Option<_>>, index: usize| {
        let hosts = names[index].iter().map(Some);
        let hosts: Vec<_> = if names[index].is_empty() { vec![None] } else { hosts.collect() };
        for host in hosts {
            if !patterns.contains(&host) {
                patterns.push(host);
            }
        }
    };
    used.iter().for_each(|index| add(&mut patterns, *index));
    let of_used = patterns.clone();
    let answers = |host: Option<&Host>| -> BTreeSet<usize> {
        listeners.iter().filter_map(|listener| listener.answers(&names, host)).collect()
    };
    // Without its own group, the host of a server that is left out would go to the routes of a less specific host.
    for index in listeners.iter().flat_map(|listener| &listener.sites) {
        let covered = |host: &&Host| of_used.iter().any(|pattern| is_less_specific(*pattern, Some(host)));
        if !used.contains(index) && names[*index].iter().any(|host| covered(&host)) {
            add(&mut patterns, *index);
        }
    }
    let differ = used.iter().any(|index| names[*index] != names[used[0]]) || patterns.len() > of_used.len();
    if !differ {
        let sites = patterns.iter().flat_map(|host| answers(*host)).collect();
        return vec![Group { hosts: Vec::new(), sites, falls_through: false }];
    }
    let mut groups: Vec<Group> = Vec::new();
    for host in &patterns {
        let falls_through = patterns.iter().any(|other| is_less_specific(*other, *host));
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

/// True when requests for `host` that match none of its routes go to the routes of `pattern`.
fn is_less_specific(pattern: Option<&Host>, host: Option<&Host>) -> bool {
    match (pattern, host) {
        (None, Some(_)) => true,
        (Some(pattern), Some(host)) => pattern != host && covers(pattern, host),
        (_, None) => false,
    }
}

/// True when `wildcard` is a wildcard and matches every host that `host` matches.
fn covers(wildcard: &Host, host: &Host) -> bool {
    let HostPattern::Wildcard(suffix) = &wildcard.0 else { return false };
    let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = &host.0;
    let is_same = matches!(&host.0, HostPattern::Wildcard(_)) && name == suffix;
    is_same || name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

/// How well the names of `site` match one of `hosts`: 0 for the same name, 1 for a wildcard, otherwise 2.
pub(crate) fn distance(site: &Site<'_>, hosts: &[Host]) -> usize {
    let names = site.hosts().0;
    let matched = |is: fn(&Host, &Host) -> bool| hosts.iter().any(|host| names.iter().any(|name| is(name, host)));
    match (matched(|name, host| name == host), matched(covers)) {
        (true, _) => 0,
        (_, true) => 1,
        _ => 2,
    }
}

/// The servers of one address, in their order.
struct Listener {
    sites: Vec<usize>,
    /// The server for hosts that no `server_name` matches. `None`: the edge answers 421.
    default: Option<usize>,
}

impl Listener {
    /// The server that answers for `host` at this address.
    fn answers(&self, names: &[Vec<Host>], host: Option<&Host>) -> Option<usize> {
        let named = host.and_then(|host| {
            let exactly = self.sites.iter().find(|index| names[**index].contains(host));
            let wildcards = self.sites.iter().flat_map(|index| names[*index].iter().map(move |name| (index, name)));
            let covering = wildcards.filter(|(_, name)| covers(name, host));
            // If two servers have the same name, nginx ignores the second server.
            let longest = || covering.min_by_key(|(_, name)| Reverse(name.to_string().len()));
            exactly.or_else(|| longest().map(|(index, _)| index))
        });
        named.copied().or(self.default)
    }
}

/// The addresses of the `used` servers.
fn listeners(sites: &[Site<'_>], used: &[usize], names: &[Vec<Host>]) -> Vec<Listener> {
    let addresses: Vec<BTreeSet<String>> = sites.iter().map(addresses).collect();
    let mut found: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for address in used.iter().flat_map(|index| &addresses[*index]) {
        let there = (0..sites.len()).filter(|index| addresses[*index].contains(address));
        found.insert(address, there.collect());
    }
    let is_any = |there: &[usize]| there.iter().any(|index| used.contains(index) && names[*index].is_empty());
    // An IPv4 and an IPv6 address may become one listener. It serves any host if one of the two addresses did.
    let any: BTreeSet<String> =
        found.iter().filter(|(_, there)| is_any(there)).map(|(address, _)| unspecified(address)).collect();
    let of = |(address, there): (&str, Vec<usize>)| {
        let marked = there.iter().copied().find(|index| is_default(&sites[*index], address));
        let default = marked.or(there.first().copied()).filter(|_| any.contains(&unspecified(address)));
        Listener { sites: there, default }
    };
    found.into_iter().map(of).collect()
}

/// The addresses of a server as text, including those that the edge cannot bind.
fn addresses(site: &Site<'_>) -> BTreeSet<String> {
    let other = site.chain.own("listen").into_iter().filter(|line| crate::import::nginx::site::listen(line).is_none());
    let other: Vec<String> = other.map(|line| line.arg(0).to_owned()).collect();
    let bound = listen::binds(site);
    // A file without a `server` block counts as one address with an empty text.
    let nowhere = (bound.is_empty() && other.is_empty()).then(String::new);
    bound.iter().map(|bind| bind.address.to_string()).chain(other).chain(nowhere).collect()
}

/// The same text for `0.0.0.0` and `[::]` with the same port. Other addresses stay unchanged.
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

    /// Each group as its hosts, its servers, and `!` when it falls through. Servers with locations are used.
    fn read(text: &str) -> Vec<String> {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        let used: Vec<usize> = (0..sites.len()).filter(|index| !sites[*index].locations.is_empty()).collect();
        let describe = |group: &Group| {
            let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
            format!("{} {:?}{}", hosts.join(","), group.sites, if group.falls_through { "!" } else { "" })
        };
        groups(&sites, &used).iter().map(describe).collect()
    }

    #[test]
    fn servers_of_the_same_hosts_are_one_group() {
        assert_eq!(read("server { location / {} }"), [" {0}"]);
        assert_eq!(read("location / {}"), [" {0}"]);
        let two =
            "server { listen 80; server_name a b; location / {} } server { listen 81; server_name a b; location / {} }";
        assert_eq!(read(two), [" {0, 1}"]);
        let same_port = "server { server_name a; location / {} } server { server_name a; location / {} }";
        assert_eq!(read(same_port), [" {0}"], "nginx ignores the second server");
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
        assert_eq!(
            read(text),
            ["a.x {0, 1}!", "*.x {1}"],
            "of two servers with the same name, nginx ignores the second"
        );
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
        assert_eq!(read(text), [" {0}"], "the listener serves its own hosts only");
        let text = "server { listen 81; location / {} } server { server_name a; return 444; }";
        assert_eq!(read(text), [" {0}"], "the server has another address");
    }
}
