//! Checks section `listeners`.

use std::net::{IpAddr, SocketAddr};

use super::material::KeyPairFiles;
use super::resolver::Resolver;
use crate::config::checked::{Admin, Listener, ListenerTls};
use crate::config::read::place::Place;

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
                let tls = written.tls.as_ref().and_then(|tls| {
                    let place = place.key("tls");
                    let folder = self.folder(file);
                    if tls.client_optional && tls.client_ca.is_none() {
                        self.problems.add(
                            &place.key("client_optional"),
                            "has no effect without `client_ca`: add `client_ca`, or take this out",
                        );
                    }
                    let files = KeyPairFiles { certificate: &tls.certificate, key: &tls.key };
                    let identity = self.materials.key_pair(&folder, files, &place, &mut self.problems);
                    let client_ca = tls.client_ca.as_ref().map(|path| {
                        self.materials.authorities(&folder, path, &place.key("client_ca"), &mut self.problems)
                    });
                    Some(ListenerTls {
                        identity: identity?,
                        client_ca: match client_ca {
                            Some(None) => return None,
                            Some(Some(authorities)) => Some(authorities),
                            None => None,
                        },
                        client_optional: tls.client_optional,
                    })
                });
                listeners.push(Listener {
                    address,
                    hosts: written.hosts.iter().map(|host| host.0.clone()).collect(),
                    tls,
                    trusted_proxies: written.trusted_proxies.iter().map(|network| network.0).collect(),
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
}

/// True when the two addresses cannot both be bound: their ports are equal, and their IP addresses are equal or one is
/// a wildcard (`0.0.0.0` or `[::]`) that covers the other. `[::]` also covers IPv4, because listeners accept IPv4 on
/// it.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let (here, there) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (here == there || covers(here, there) || covers(there, here))
}
