//! Converts `listen`, `server_name` and `ssl_*` to listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::restriction::leads_to_https;
use crate::config::written::{Cidr, Listener, ListenerTls, SniCertificate, TrustedField};
use crate::import::draft::blank::blank_listener;
use crate::import::draft::{Draft, Item};
use crate::import::nginx::site::{Chain, Listen, Site, listen};
use crate::types::excerpt;

/// The addresses where a server listens. Without `listen`, nginx uses port 80.
pub(crate) fn binds(site: &Site<'_>) -> Vec<Listen> {
    let lines = site.chain.own("listen");
    if lines.is_empty() && site.is_server {
        let address = SocketAddr::from(([0, 0, 0, 0], 80));
        return vec![Listen { address, ssl: false, proxy_protocol: false, only_ipv6: false }];
    }
    lines.into_iter().filter_map(listen).collect()
}

/// The addresses that nginx serves with TLS: if one `listen` has `ssl`, the address has TLS for all servers.
pub(crate) fn secured(sites: &[Site<'_>]) -> BTreeSet<SocketAddr> {
    let all = sites.iter().flat_map(|site| binds(site).into_iter().map(move |bind| (site, bind)));
    all.filter(|(site, bind)| bind.ssl || site.chain.value("ssl") == Some("on")).map(|(_, bind)| bind.address).collect()
}

/// The addresses where a server serves its locations: those from which it does not only redirect to HTTPS. `secured`
/// has the addresses with TLS.
pub(crate) fn serving(site: &Site<'_>, secured: &BTreeSet<SocketAddr>) -> Vec<Listen> {
    let chains = site.locations.iter().map(|location| &location.chain).chain([&site.chain]);
    let only_https = chains.flat_map(Chain::all).any(leads_to_https);
    binds(site).into_iter().filter(|bind| !only_https || secured.contains(&bind.address)).collect()
}

/// A listener that is not complete yet.
struct Found {
    item: Item<Listener>,
    /// True when one of its servers serves any host.
    any_host: bool,
    /// True when it cannot be used as it is, for example because a TLS port without a certificate would become a
    /// cleartext port.
    is_off: bool,
    /// True when one of its servers accepts only clients with a certificate.
    only_with_certificate: bool,
}

impl Found {
    fn new(address: SocketAddr) -> Self {
        Self { item: Item::new(blank_listener(address)), any_host: false, is_off: false, only_with_certificate: false }
    }
}

/// Adds the listeners of `sites` to `draft`. Each site has routes. `secured` has the addresses with TLS.
pub(crate) fn add(
    file: &Arc<str>,
    folder: &Path,
    sites: &[&Site<'_>],
    secured: &BTreeSet<SocketAddr>,
    draft: &mut Draft,
) {
    // `[::]` accepts IPv4 connections too, so `0.0.0.0` cannot be bound to the same port.
    let any_ipv6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let all = sites.iter().flat_map(|site| serving(site, secured)).map(|bind| bind.address);
    let both: BTreeSet<u16> = all.filter(|address| address.ip() == any_ipv6).map(|address| address.port()).collect();
    let mut found: BTreeMap<SocketAddr, Found> = BTreeMap::new();
    for site in sites {
        notes(file, site, secured, draft);
        let hosts = site.hosts().0;
        for mut bind in serving(site, secured) {
            let is_secured = secured.contains(&bind.address);
            let is_merged =
                bind.address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && both.contains(&bind.address.port());
            if is_merged {
                bind.address.set_ip(any_ipv6);
            }
            let listener = found.entry(bind.address).or_insert_with(|| Found::new(bind.address));
            if is_merged {
                listener.item.note_of_output(BOTH);
            }
            listener.any_host |= hosts.is_empty();
            for host in &hosts {
                if !listener.item.value.hosts.contains(host) {
                    listener.item.value.hosts.push(host.clone());
                }
            }
            proxies(file, site, &bind, &mut listener.item);
            if is_secured || secured.contains(&bind.address) {
                tls(file, folder, site, listener);
            }
            if bind.only_ipv6 {
                listener.item.note_of_output(ONLY_IPV6);
            }
        }
    }
    let only_with_certificate = found.values().any(|listener| listener.only_with_certificate);
    for Found { mut item, any_host, is_off, .. } in found.into_values() {
        if item.notes.iter().any(|note| note.text == BOTH) {
            item.notes.retain(|note| note.text != ONLY_IPV6);
        }
        if any_host {
            item.value.hosts.clear();
        } else if !item.value.hosts.is_empty() {
            item.note_of_output("requests for other hosts get 421. nginx answered them with its default server");
        }
        // Every listener serves every route, so clients could reach the routes without a certificate.
        let asks = item.value.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() && !tls.client_optional);
        if is_off {
            draft.listeners_off.push(item);
        } else if only_with_certificate && !asks {
            item.note_of_output("every listener serves every route, and another listener requires client certificates: this listener is left out because clients could use it without a certificate");
            draft.listeners_off.push(item);
        } else {
            draft.listeners.push(item);
        }
    }
}

/// The note for a listener that stands for two.
const BOTH: &str = "this address also accepts IPv4 connections, so the listener for the IPv4 address is left out";
/// The note for a listener that had only IPv6 clients.
const ONLY_IPV6: &str = "nginx accepted only IPv6 connections here, and the edge also accepts IPv4 connections";

/// Adds the notes about `listen` and `server_name` that have no listener.
fn notes(file: &Arc<str>, site: &Site<'_>, secured: &BTreeSet<SocketAddr>, draft: &mut Draft) {
    let kept = serving(site, secured);
    for line in site.chain.own("listen") {
        match listen(line) {
            None => {
                let shown = excerpt(line.arg(0));
                let text = format!("`listen {shown}` is left out: it is not a TCP address that the edge can bind");
                draft.note(file, line.at, text);
            }
            Some(bind) if !kept.contains(&bind) => {
                let shown = excerpt(line.arg(0));
                let text = format!("`listen {shown}` is left out: nginx only redirected from here to HTTPS");
                draft.note(file, line.at, text);
            }
            Some(_) => {}
        }
    }
    for (name, at) in site.hosts().1 {
        let shown = excerpt(name);
        let text = format!("`server_name {shown}` is neither a host nor a `*.` wildcard: write each host in `hosts`");
        draft.note(file, at, text);
    }
}

fn tls(file: &Arc<str>, folder: &Path, site: &Site<'_>, listener: &mut Found) {
    let item = &mut listener.item;
    let path = |name: &str| site.chain.value(name).map(|path| folder.join(path));
    let verify = site.chain.value("ssl_verify_client").unwrap_or("off");
    listener.only_with_certificate |= verify == "on";
    let client_ca = path("ssl_client_certificate").or_else(|| path("ssl_trusted_certificate"));
    if verify != "off" && client_ca.is_none() {
        listener.is_off = true;
        let text = "`ssl_client_certificate` is missing: write `client_ca: FILE` in `tls`";
        item.note(file, site.chain.one("ssl_verify_client").map_or(site.at, |line| line.at), text);
    }
    let (Some(certificate), Some(key)) = (path("ssl_certificate"), path("ssl_certificate_key")) else {
        listener.is_off = true;
        let text = "`ssl_certificate` or `ssl_certificate_key` is missing: write `tls: {certificate: FILE, key: FILE}`";
        return item.note(file, site.at, text);
    };
    if site.chain.effective("ssl_certificate").len() > 1 {
        item.note(
            file,
            site.at,
            "a listener has one certificate for a host: the last certificate of this server is used",
        );
    }
    let client_ca = client_ca.filter(|_| verify != "off");
    let client_optional = client_ca.is_some() && verify != "on";
    let tls = ListenerTls { certificate, key, sni: Vec::new(), client_ca, client_optional };
    let Some(other) = item.value.tls.as_mut() else {
        item.value.tls = Some(tls);
        return;
    };
    let further = SniCertificate { certificate: tls.certificate, key: tls.key };
    let is_first = (&other.certificate, &other.key) == (&further.certificate, &further.key);
    if !is_first && !other.sni.contains(&further) {
        other.sni.push(further);
    }
    // If one server requires client certificates, the listener must require them too.
    let only_one = other.client_ca.is_some() != tls.client_ca.is_some();
    let differs = other.client_ca.is_some() && tls.client_ca.is_some() && other.client_ca != tls.client_ca;
    if tls.client_ca.is_some() && (other.client_ca.is_none() || (other.client_optional && !tls.client_optional)) {
        (other.client_ca, other.client_optional) = (tls.client_ca, tls.client_optional);
    }
    if only_one {
        item.note_of_output("nginx verified client certificates for some hosts of this address, and the edge does so for all of its hosts");
    }
    if differs {
        item.note(
            file,
            site.at,
            "a listener verifies all client certificates with one `client_ca`: put the authorities of these servers into one file",
        );
    }
}

fn proxies(file: &Arc<str>, site: &Site<'_>, bind: &Listen, item: &mut Item<Listener>) {
    if bind.proxy_protocol {
        item.note(file, site.at, "the edge does not support the PROXY protocol: turn it off in the load balancer");
    }
    let is_forwarded =
        site.chain.value("real_ip_header").is_some_and(|name| name.eq_ignore_ascii_case("x-forwarded-for"));
    for line in site.chain.effective("set_real_ip_from") {
        match line.arg(0).parse::<Cidr>() {
            Ok(network) if is_forwarded && !item.value.trusted_proxies.contains(&network) => {
                item.value.trusted_proxies.push(network);
                // nginx uses no other field.
                item.value.trusted_fields = vec![TrustedField::XForwardedFor];
            }
            Ok(_) if is_forwarded => {}
            _ => item.note(
                file,
                line.at,
                "only `real_ip_header X-Forwarded-For` and networks in `set_real_ip_from` are supported: see `trusted_proxies`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    fn draft(text: &str) -> Draft {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        let mut draft = Draft::default();
        add(&"n".into(), Path::new("/etc/nginx"), &sites.iter().collect::<Vec<_>>(), &secured(&sites), &mut draft);
        draft
    }

    /// The listeners that are used, and the number of those that are left out.
    fn read(text: &str) -> (Vec<String>, usize) {
        let draft = draft(text);
        let describe = |item: &Item<Listener>| {
            let hosts: Vec<String> = item.value.hosts.iter().map(ToString::to_string).collect();
            let tls = item.value.tls.as_ref().map_or(String::new(), |tls| {
                format!(" {}{}", if tls.client_ca.is_some() { "mtls" } else { "tls" }, "+".repeat(tls.sni.len()))
            });
            format!("{} [{}]{tls}", item.value.address.0, hosts.join(" "))
        };
        (draft.listeners.iter().map(describe).collect(), draft.listeners_off.len())
    }

    fn notes_of(text: &str) -> Vec<String> {
        draft(text).listeners[0].notes.iter().map(|note| note.text.clone()).collect()
    }

    #[test]
    fn one_listener_for_each_address() {
        let text = "server { listen 80; listen [::]:80; server_name a; } server { listen 80; listen 127.0.0.1:81; server_name b; }";
        assert_eq!(read(text), (vec!["127.0.0.1:81 [b]".to_owned(), "[::]:80 [a b]".to_owned()], 0));
        assert_eq!(read("server { } server { server_name b; }"), (vec!["0.0.0.0:80 []".to_owned()], 0));
    }

    #[test]
    fn tls_never_becomes_cleartext() {
        assert_eq!(read("server { listen 443 ssl; }"), (Vec::new(), 1));
        let text = "server { listen 443 ssl; ssl_certificate a; ssl_certificate_key b; }";
        assert_eq!(read(text), (vec!["0.0.0.0:443 [] tls".to_owned()], 0));
    }

    #[test]
    fn listeners_without_client_certificates_are_left_out() {
        let ssl = "ssl_certificate a; ssl_certificate_key b;";
        let text = format!(
            "server {{ listen 443 ssl; {ssl} ssl_client_certificate c; ssl_verify_client on; }} server {{ listen 80; }}"
        );
        assert_eq!(read(&text), (vec!["0.0.0.0:443 [] mtls".to_owned()], 1));
    }

    #[test]
    fn settings_of_ipv4_stay_when_it_is_merged_into_ipv6() {
        let text = "server { listen 443 ssl; listen [::]:443 ssl; server_name a; ssl_certificate a; ssl_certificate_key b; } \
                    server { listen 443 ssl; server_name b; ssl_certificate d; ssl_certificate_key e; \
                    ssl_client_certificate c; ssl_verify_client on; }";
        assert_eq!(read(text), (vec!["[::]:443 [a b] mtls+".to_owned()], 0));
        let draft = draft(text);
        let tls = draft.listeners[0].value.tls.as_ref().expect("TLS");
        assert_eq!((tls.client_ca.as_deref(), tls.client_optional), (Some(Path::new("/etc/nginx/c")), false));
        assert_eq!(draft.listeners[0].notes.iter().filter(|note| note.text == BOTH).count(), 1);
        assert_eq!(read("server { listen [::]:443; listen 443 ssl; }"), (Vec::new(), 1), "no cleartext on a TLS port");
        let text = "server { listen [::]:80; listen 80 proxy_protocol; set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For; }";
        let draft = self::draft(text);
        assert_eq!((draft.listeners.len(), draft.listeners[0].value.trusted_proxies.len()), (1, 1));
        assert!(draft.listeners[0].notes.iter().any(|note| note.text.contains("PROXY")));
    }

    #[test]
    fn listeners_that_had_only_ipv6_have_a_note() {
        assert_eq!(notes_of("server { listen [::]:80; }"), [ONLY_IPV6]);
        assert_eq!(notes_of("server { listen [::]:80; listen 80; }"), [BOTH]);
        assert_eq!(notes_of("server { listen [::]:80 ipv6only=off; }"), Vec::<String>::new());
    }

    #[test]
    fn client_certificates_need_an_authority() {
        let ssl = "listen 443 ssl; ssl_certificate a; ssl_certificate_key b;";
        let of = |text: &str| read(&format!("server {{ {ssl} {text} }} server {{ listen 80; }}"));
        assert_eq!(of("ssl_verify_client on; ssl_trusted_certificate c;"), (vec!["0.0.0.0:443 [] mtls".to_owned()], 1));
        assert_eq!(of("ssl_verify_client on;"), (Vec::new(), 2), "no listener serves the routes without a certificate");
        assert_eq!(of("ssl_verify_client optional_no_ca;"), (vec!["0.0.0.0:80 []".to_owned()], 1));
        assert_eq!(of("ssl_verify_client off;").0.len(), 2);
    }

    #[test]
    fn addresses_that_only_redirect_to_https_are_left_out() {
        let ssl = "listen 443 ssl; ssl_certificate a; ssl_certificate_key b;";
        let redirect = "if ($scheme = http) { return 301 https://$host$request_uri; }";
        let text = format!("server {{ listen 80; {ssl} {redirect} }}");
        assert_eq!(read(&text), (vec!["0.0.0.0:443 [] tls".to_owned()], 0));
        let notes = draft(&text).notes;
        assert!(notes.iter().any(|note| note.text.contains("only redirected from here to HTTPS")), "{notes:?}");
        let text = format!("server {{ listen 80; {ssl} location /x {{ {redirect} }} }}");
        assert_eq!(read(&text), (vec!["0.0.0.0:443 [] tls".to_owned()], 0));
    }

    #[test]
    fn an_address_has_tls_for_all_its_servers() {
        let text = "server { listen 443 ssl; server_name a; ssl_certificate a; ssl_certificate_key b; } \
                    server { listen 443; server_name b; ssl_certificate a; ssl_certificate_key b; \
                    ssl_client_certificate c; ssl_verify_client on; }";
        assert_eq!(read(text), (vec!["0.0.0.0:443 [a b] mtls".to_owned()], 0));
    }
}
