//! Checks section `listeners`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::material::KeyPairFiles;
use super::resolver::Resolver;
use crate::config::checked::key_pair::KeyPair;
use crate::config::checked::{Admin, Listener, ListenerTls};
use crate::config::read::place::Place;
use crate::config::written;

impl Resolver<'_> {
    pub(super) fn listeners(&mut self, admin: &Admin) -> Vec<Listener> {
        let mut listeners = Vec::new();
        let mut taken: Vec<(SocketAddr, String)> = Vec::new();
        if self.sources.iter().any(|source| source.file.admin.is_some()) {
            taken.push((admin.address, "`admin`".to_owned()));
        } else if !self.sources.iter().any(|source| source.left_out.touches("admin")) {
            taken.push((admin.address, "`admin`, which uses it by default".to_owned()));
        }
        for (file, source) in self.sources.iter().enumerate() {
            for (now, written) in source.file.listeners.iter().enumerate() {
                let place = Place::new(file, "listeners").item(source.left_out.number("listeners", now));
                let address = written.address.0;
                if let Some((other, who)) = taken.iter().find(|(other, _)| clash(*other, address)) {
                    self.problems.add(
                        &place.key("address"),
                        format!("`{address}` conflicts with `{other}` of {who}: choose another port"),
                    );
                }
                taken.push((address, format!("`{}`", place.path)));
                let tls = written.tls.as_ref().and_then(|tls| self.listener_tls(tls, file, &place.key("tls")));
                listeners.push(Listener {
                    address,
                    hosts: written.hosts.iter().map(|host| host.0.clone()).collect(),
                    tls,
                    trusted_proxies: written.trusted_proxies.iter().map(|network| network.0).collect(),
                    trusted_fields: written.trusted_fields.clone(),
                    underscores_in_headers: written.underscores_in_headers,
                    origins: written.origins.iter().map(|origin| origin.0.clone()).collect(),
                });
            }
        }
        let wrong = self.sources.iter().any(|source| source.left_out.touches("listeners"));
        if listeners.is_empty() && !wrong {
            self.problems.add(&Place::new(0, ""), "there is no listener: write `listeners: [{address: 0.0.0.0:8080}]`");
        }
        listeners
    }

    fn listener_tls(&mut self, written: &written::ListenerTls, file: usize, place: &Place) -> Option<ListenerTls> {
        let folder = self.folder(file);
        if written.client_optional && written.client_ca.is_none() {
            self.problems.add(
                &place.key("client_optional"),
                "has no effect without `client_ca`: add `client_ca`, or take this out",
            );
        }
        let files = KeyPairFiles { certificate: &written.certificate, key: &written.key };
        let identity = self.materials.key_pair(&folder, files, place, &mut self.problems);
        let sni = self.sni(&written.sni, &folder, &place.key("sni"));
        let client_ca = match &written.client_ca {
            None => Some(None),
            Some(path) => {
                let place = place.key("client_ca");
                self.materials.authorities(&folder, path, &place, &mut self.problems).map(Some)
            }
        };
        Some(ListenerTls {
            identity: identity?,
            sni: sni?,
            client_ca: client_ca?,
            client_optional: written.client_optional,
        })
    }

    /// The certificates of `tls.sni`. It must be clear which of them a client gets that asks for a name.
    fn sni(&mut self, written: &[written::SniCertificate], folder: &Path, place: &Place) -> Option<Vec<KeyPair>> {
        let mut owners: HashMap<String, usize> = HashMap::new();
        let mut pairs = Vec::new();
        for (index, written) in written.iter().enumerate() {
            let place = place.item(index);
            let files = KeyPairFiles { certificate: &written.certificate, key: &written.key };
            let pair = self.materials.key_pair(folder, files, &place, &mut self.problems);
            let names = pair.as_ref().map(KeyPair::dns_names);
            if names.as_ref().is_some_and(Vec::is_empty) {
                self.problems.add(
                    &place.key("certificate"),
                    "has no DNS name, so no client can ask for it: give a certificate with a DNS name in its subjectAltName",
                );
            }
            for name in names.into_iter().flatten() {
                if let Some(other) = owners.insert(name.clone(), index).filter(|other| *other != index) {
                    let message = format!(
                        "has the DNS name `{name}`, as the certificate of `sni[{other}]` has: keep one of them"
                    );
                    self.problems.add(&place.key("certificate"), message);
                }
            }
            pairs.push(pair);
        }
        pairs.into_iter().collect()
    }
}

/// True when the two addresses cannot both be bound: their ports are equal, and their IP addresses are equal or one is
/// a wildcard (`0.0.0.0` or `[::]`) that covers the other. `[::]` also covers IPv4, because listeners accept IPv4 on
/// it.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let (here, there) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (here == there || covers(here, there) || covers(there, here))
}
