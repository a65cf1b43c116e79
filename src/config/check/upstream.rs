//! Checks section `upstreams`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::material::KeyPairFiles;
use super::resolver::{Resolver, upstreams_of};
use crate::config::checked::{Endpoint, Health, Probe, Upstream, UpstreamTls};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::units::SecretSource;
use crate::config::written::upstream::{
    Balance, Health as WrittenHealth, HttpProbe, Upstream as Written, UpstreamTls as WrittenTls,
};
use crate::config::{HostHeader, Protocol};
use crate::types::{Authority, HostPattern, Secret};

impl Resolver<'_> {
    pub(crate) fn upstreams(&mut self) -> BTreeMap<Arc<str>, Arc<Upstream>> {
        let mut upstreams = BTreeMap::new();
        self.named("upstreams", upstreams_of, |resolver, name, written, place| {
            let endpoints = resolver.endpoints(written, &place);
            resolver.balance(&written.balance, &place.key("balance"));
            for (key, span) in [
                ("connect", &written.timeouts.connect),
                ("response", &written.timeouts.response),
                ("idle", &written.timeouts.idle),
            ] {
                resolver.not_zero(&place.key("timeouts").key(key), span);
            }
            resolver.not_zero(&place.key("resolve"), &written.resolve);
            let health = written.health.as_ref().map(|health| resolver.health(health, &place.key("health")));
            let tls = written.tls.as_ref().map(|tls| resolver.upstream_tls(tls, &place.key("tls")));
            let upstream = Upstream {
                name: Arc::clone(&name),
                endpoints,
                balance: written.balance.clone(),
                health: match health {
                    Some(health) => Some(health?),
                    None => None,
                },
                timeouts: written.timeouts.clone(),
                tls: match tls {
                    Some(tls) => Some(tls?),
                    None => None,
                },
                http2: written.http2,
                probe_host: resolver.probe_host(&name),
                forwarded: written.forwarded,
                resolve: written.resolve.0,
            };
            upstreams.insert(name, Arc::new(upstream));
            Some(())
        });
        upstreams
    }

    /// The `Host` that requests of the first route to the upstream get, if it is always the same one.
    fn probe_host(&self, upstream: &str) -> Option<HeaderValue> {
        let mut routes = self.sources.iter().flat_map(|source| &source.file.routes);
        let route = routes.find(|route| route.upstream.as_deref() == Some(upstream))?;
        match (&route.host, route.hosts.as_slice()) {
            (Some(HostHeader::Rewrite(host)), _) => Some(host.0.clone()),
            (Some(HostHeader::Endpoint), _) => None,
            (None, _) if route.protocol == Protocol::Mcp => None,
            (Some(HostHeader::Preserve) | None, [only]) => match &only.0 {
                HostPattern::Exact(host) => HeaderValue::from_str(host).ok(),
                HostPattern::Wildcard(_) => None,
            },
            (Some(HostHeader::Preserve) | None, _) => None,
        }
    }

    fn endpoints(&mut self, written: &Written, place: &Place) -> Vec<Endpoint> {
        let place = place.key("endpoints");
        if written.endpoints.is_empty() {
            self.problems.add(&place, "is empty: write at least one `- address: HOST:PORT`");
        }
        if written.endpoints.len() > limits::ENDPOINTS_PER_UPSTREAM {
            self.problems.add(
                &place,
                format!(
                    "has more than {} entries: use fewer, or a name that resolves to many addresses",
                    limits::ENDPOINTS_PER_UPSTREAM
                ),
            );
        }
        let mut seen = BTreeSet::new();
        let mut endpoints = Vec::new();
        for (index, endpoint) in written.endpoints.iter().enumerate() {
            let place = place.item(index);
            let weight = u16::try_from(endpoint.weight).unwrap_or(u16::MAX);
            if !(1..=limits::WEIGHT).contains(&weight) {
                self.problems.add(
                    &place.key("weight"),
                    format!(
                        "{} is not a valid weight: write a number from 1 to {}, or take the endpoint out",
                        endpoint.weight,
                        limits::WEIGHT
                    ),
                );
            }
            match Authority::parse(&endpoint.address)
                .ok()
                .and_then(|authority| Some((authority.host().to_owned(), authority.port()?)))
            {
                Some((host, port)) if port != 0 && !is_broken_address(&host) => {
                    let host = host.trim_matches(['[', ']']).to_owned();
                    if !seen.insert((host.clone(), port)) {
                        self.problems.add(
                            &place.key("address"),
                            format!("`{}` is listed twice: keep one, with a `weight`", endpoint.address),
                        );
                    }
                    endpoints.push(Endpoint { host, port, weight });
                }
                _ => self.problems.add(
                    &place.key("address"),
                    format!(
                        "`{}` is not a valid endpoint address: write `HOST:PORT`, such as `10.0.0.7:8000` or \
                         `[::1]:8000`",
                        endpoint.address.escape_debug()
                    ),
                ),
            }
        }
        endpoints
    }

    fn balance(&mut self, balance: &Balance, place: &Place) {
        if let Balance::Hash(on) = balance {
            let sources =
                usize::from(on.header.is_some()) + usize::from(on.cookie.is_some()) + usize::from(on.client_address);
            if sources != 1 {
                self.problems.add(
                    &place.key("hash"),
                    "must hash exactly one thing: write `{header: NAME}`, `{cookie: NAME}` or `{client_address: true}`",
                );
            }
            // A cookie name is a token, as a field name is (RFC 6265 section 4.1.1).
            if let Some(name) = on.cookie.as_ref().filter(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
                self.problems.add(
                    &place.key("hash").key("cookie"),
                    format!("`{}` is not a valid cookie name: write one such as `session`", name.escape_debug()),
                );
            }
        }
    }

    fn health(&mut self, written: &WrittenHealth, place: &Place) -> Option<Health> {
        for (key, span) in [("interval", &written.interval), ("timeout", &written.timeout)] {
            self.not_zero(&place.key(key), span);
        }
        for (key, count) in [("healthy", written.healthy), ("unhealthy", written.unhealthy)] {
            if count == 0 {
                self.problems.add(&place.key(key), "is zero: write how many probes in a row it takes, such as `2`");
            }
        }
        let probe = match (&written.tcp, &written.http, &written.mcp) {
            (Some(_), None, None) => Some(Probe::Tcp),
            (None, Some(http), None) => self.http_probe(http, &place.key("http")),
            (None, None, Some(mcp)) => {
                let place = place.key("mcp");
                self.probe_path(&mcp.path, &place);
                let token = self.probe_token(mcp.token.as_ref(), &place)?;
                Some(Probe::Mcp { path: mcp.path.clone(), revision: mcp.revision, token })
            }
            _ => {
                self.problems.add(
                    place,
                    "a health check is of exactly one kind: write `tcp: {}`, `http: {...}` or `mcp: {...}`",
                );
                None
            }
        }?;
        Some(Health {
            probe,
            interval: written.interval.0,
            timeout: written.timeout.0,
            healthy: written.healthy,
            unhealthy: written.unhealthy,
        })
    }

    fn http_probe(&mut self, written: &HttpProbe, place: &Place) -> Option<Probe> {
        self.probe_path(&written.path, place);
        let status = match written.status.map(StatusCode::from_u16) {
            None => None,
            Some(Ok(status)) => Some(status),
            Some(Err(_)) => {
                let status = written.status.unwrap_or_default();
                self.problems
                    .add(&place.key("status"), format!("{status} is not a valid HTTP status: write one such as `204`"));
                None
            }
        };
        let mut headers = Vec::new();
        for (name, value) in &written.headers {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => headers.push((name, value.0.clone())),
                Err(_) => self.problems.add(
                    &place.key("headers").key(name),
                    format!("`{}` is not a valid header name: write one such as `X-Probe`", name.escape_debug()),
                ),
            }
        }
        let token = self.probe_token(written.token.as_ref(), place)?;
        Some(Probe::Http { method: written.method.0.clone(), path: written.path.clone(), status, headers, token })
    }

    fn probe_path(&mut self, path: &str, place: &Place) {
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.problems.add(
                &place.key("path"),
                format!("`{}` is not a valid path: write one such as `/mcp`", path.escape_debug()),
            );
        }
    }

    /// The token of a probe: `None` when the secret has an error, `Some(None)` when no token is written.
    fn probe_token(&mut self, source: Option<&SecretSource>, place: &Place) -> Option<Option<Secret>> {
        let Some(source) = source else { return Some(None) };
        let (folder, place) = (self.folder(place.file), place.key("token"));
        let token = self.materials.secret(&folder, source, &place, &mut self.problems)?;
        if !token.expose().iter().all(u8::is_ascii_graphic) {
            self.problems.add(&place, "has characters that a bearer token cannot have: put only the token there");
        }
        Some(Some(token))
    }

    fn upstream_tls(&mut self, written: &WrittenTls, place: &Place) -> Option<UpstreamTls> {
        if let Some(name) = &written.server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            self.problems.add(
                &place.key("server_name"),
                format!(
                    "`{}` is not a valid server name: write the name in the replicas' certificate",
                    name.escape_debug()
                ),
            );
        }
        let folder = self.folder(place.file);
        let ca = written
            .ca
            .as_ref()
            .map(|path| self.materials.authorities(&folder, path, &place.key("ca"), &mut self.problems));
        let identity = match (&written.certificate, &written.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let files = KeyPairFiles { certificate, key };
                Some(self.materials.key_pair(&folder, files, place, &mut self.problems))
            }
            _ => {
                self.problems.add(place, "`certificate` and `key` go together: write both or none");
                None
            }
        };
        Some(UpstreamTls {
            server_name: written.server_name.clone(),
            ca: match ca {
                Some(ca) => Some(ca?),
                None => None,
            },
            identity: match identity {
                Some(identity) => Some(identity?),
                None => None,
            },
        })
    }
}

/// True for a host whose last label is a number but which is not a valid IPv4 address, such as `10.0.0.256`.
fn is_broken_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<std::net::Ipv4Addr>().is_err()
}
