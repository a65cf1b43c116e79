//! Converts `listen`, `server_name` and `ssl_*` to listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::config::written::{Cidr, Listener, ListenerTls, SniCertificate, TrustedField};
use crate::import::draft::blank::blank_listener;
use crate::import::draft::{Draft, Item};
use crate::import::nginx::site::{Listen, Site, listen};
use crate::import::note::Note;
use crate::types::excerpt;

/// The addresses where a server listens. Without `listen`, nginx uses port 80.
pub(crate) fn binds(site: &Site<'_>) -> Vec<Listen> {
    let lines = site.chain.own("listen");
    if lines.is_empty() && site.is_server {
        return vec![Listen { address: SocketAddr::from(([0, 0, 0, 0], 80)), ssl: false, proxy_protocol: false }];
    }
    lines.into_iter().filter_map(listen).collect()
}

/// Adds the listeners of `sites` to `draft`. Each site has routes.
pub(crate) fn add(file: &Arc<str>, folder: &Path, sites: &[&Site<'_>], draft: &mut Draft) {
    let mut found: BTreeMap<SocketAddr, (Item<Listener>, bool)> = BTreeMap::new();
    let mut off: Vec<Item<Listener>> = Vec::new();
    for site in sites {
        for line in site.chain.own("listen").into_iter().filter(|line| listen(line).is_none()) {
            draft.note(
                file,
                line.at,
                format!(
                    "`listen {}` is left out: it is not a TCP address that the edge can bind",
                    excerpt(line.arg(0))
                ),
            );
        }
        let (hosts, other) = site.hosts();
        for (name, at) in other {
            draft.note(
                file,
                at,
                format!(
                    "`server_name {}` is neither a host nor a `*.` wildcard: write each host in `hosts`",
                    excerpt(name)
                ),
            );
        }
        for bind in binds(site) {
            let (item, any_host) =
                found.entry(bind.address).or_insert_with(|| (Item::new(blank_listener(bind.address)), false));
            *any_host |= hosts.is_empty();
            for host in &hosts {
                if !item.value.hosts.contains(host) {
                    item.value.hosts.push(host.clone());
                }
            }
            proxies(file, site, &bind, item);
            if bind.ssl || site.chain.value("ssl") == Some("on") {
                tls(file, folder, site, item);
            }
        }
    }
    // `[::]` accepts IPv4 connections too, so `0.0.0.0` cannot be bound to the same port.
    let both: Vec<SocketAddr> =
        found.keys().filter(|address| address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)).copied().collect();
    for six in both {
        if let Some((four, any)) = found.remove(&SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), six.port()))
            && let Some((item, any_host)) = found.get_mut(&six)
        {
            *any_host |= any;
            let new: Vec<_> =
                four.value.hosts.iter().filter(|host| !item.value.hosts.contains(host)).cloned().collect();
            item.value.hosts.extend(new);
            item.value.tls = item.value.tls.take().or(four.value.tls);
            item.notes.push(Note::of_output(
                "this address also accepts IPv4 connections, so the listener for the IPv4 address is left out",
            ));
        }
    }
    for (mut item, any_host) in found.into_values() {
        if any_host {
            item.value.hosts.clear();
        } else if !item.value.hosts.is_empty() {
            item.notes
                .push(Note::of_output("requests for other hosts get 421. nginx answered them with its default server"));
        }
        // A TLS port without a certificate must not become a cleartext port.
        if item.notes.iter().any(|note| note.text.starts_with(NO_CERTIFICATE)) {
            off.push(item);
        } else {
            draft.listeners.push(item);
        }
    }
    draft.listeners_off.append(&mut off);
    only_with_certificate(draft);
}

/// The beginning of the note for a TLS listener without a certificate.
const NO_CERTIFICATE: &str = "`ssl_certificate` or `ssl_certificate_key` is missing";

fn tls(file: &Arc<str>, folder: &Path, site: &Site<'_>, item: &mut Item<Listener>) {
    let path = |name: &str| site.chain.value(name).map(|path| folder.join(path));
    let (Some(certificate), Some(key)) = (path("ssl_certificate"), path("ssl_certificate_key")) else {
        return item.note(file, site.at, format!("{NO_CERTIFICATE}: write `tls: {{certificate: FILE, key: FILE}}`"));
    };
    if site.chain.effective("ssl_certificate").len() > 1 {
        item.note(
            file,
            site.at,
            "a listener has one certificate for a host: the last certificate of this server is used",
        );
    }
    let verify = site.chain.value("ssl_verify_client").unwrap_or("off");
    let client_ca = path("ssl_client_certificate").filter(|_| verify != "off");
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
    let differs = other.client_ca.is_some() && tls.client_ca.is_some() && other.client_ca != tls.client_ca;
    if tls.client_ca.is_some() && (other.client_ca.is_none() || (other.client_optional && !tls.client_optional)) {
        (other.client_ca, other.client_optional) = (tls.client_ca, tls.client_optional);
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

/// Every listener serves every route. If one listener requires client certificates, the other listeners are taken out,
/// because clients could reach the routes through them without a certificate.
fn only_with_certificate(draft: &mut Draft) {
    let requires = |item: &Item<Listener>| {
        item.value.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() && !tls.client_optional)
    };
    if !draft.listeners.iter().any(requires) {
        return;
    }
    let (with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut draft.listeners).into_iter().partition(requires);
    draft.listeners = with;
    for mut item in without {
        item.notes.push(Note::of_output("every listener serves every route, and another listener requires client certificates: this listener is left out because clients could use it without a certificate"));
        draft.listeners_off.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    fn read(text: &str) -> (Vec<String>, usize) {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        let mut draft = Draft::default();
        add(&"n".into(), Path::new("/etc/nginx"), &sites.iter().collect::<Vec<_>>(), &mut draft);
        let describe = |item: &Item<Listener>| {
            let hosts: Vec<String> = item.value.hosts.iter().map(ToString::to_string).collect();
            let tls = item.value.tls.as_ref().map_or("", |tls| if tls.client_ca.is_some() { " mtls" } else { " tls" });
            format!("{} [{}]{tls}", item.value.address.0, hosts.join(" "))
        };
        (draft.listeners.iter().map(describe).collect(), draft.listeners_off.len())
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
}
