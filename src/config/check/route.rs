//! Checks section `routes`.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;
use http::header::HOST;

use super::resolver::{Resolver, Sections, is_reserved, providers_of, upstreams_of};
use crate::config::checked::policy::RouteSessions;
use crate::config::checked::{Authentication, Destination, HeaderChange, Rewrite, Route, RouteAudiences};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::text::suggest;
use crate::config::written::route::{
    HeaderChanges, HostHeader, Protocol, RequiredAuth, Rewrite as WrittenRewrite, Route as Written, RouteAuth,
};
use crate::config::written::server::Identity;
use crate::config::written::upstream::Forwarded;
use crate::types::{TOLD_FIELDS, canonical_path};

impl Resolver<'_> {
    pub(crate) fn routes(&mut self, sections: Sections<'_>) -> Vec<Arc<Route>> {
        let mut routes = Vec::new();
        let mut names: HashMap<Arc<str>, String> = HashMap::new();
        let mut matches: HashMap<(Option<String>, String), String> = HashMap::new();
        for (file, source) in self.sources.iter().enumerate() {
            for (now, written) in source.file.routes.iter().enumerate() {
                let place = Place::new(file, "routes").item(source.left_out.number("routes", now));
                let Some(route) = self.route(written, &place, sections) else { continue };
                let label = format!("{}: {}", source.path.display(), place.path);
                let same_name = names.insert(Arc::clone(&route.name), label.clone());
                let mut overlaps = false;
                let any_host = route.hosts.is_empty().then_some(None);
                for host in any_host.into_iter().chain(route.hosts.iter().map(|host| Some(host.to_string()))) {
                    let on = host.as_deref().map_or("any host".to_owned(), |host| format!("host `{host}`"));
                    if let Some(other) = matches.insert((host, route.prefix.clone()), label.clone()) {
                        overlaps = true;
                        let message = if other == label {
                            format!("names {on} twice: keep one")
                        } else {
                            format!(
                                "overlaps {other}: both match `{}` on {on}; change the path or the hosts of one",
                                written.path
                            )
                        };
                        self.problems.add(&place.key(if other == label { "hosts" } else { "path" }), message);
                    }
                }
                // Routes that overlap have the same default name. The overlap has been reported, so the name is not
                // reported too.
                if let Some(other) = same_name.filter(|_| !overlaps || written.name.is_some()) {
                    let place = if written.name.is_some() { place.key("name") } else { place };
                    self.problems.add(
                        &place,
                        format!(
                            "the name `{}` is also the name of {other}: give one of them another `name`",
                            route.name
                        ),
                    );
                }
                routes.push(Arc::new(route));
            }
        }
        routes
    }

    fn route(&mut self, written: &Written, place: &Place, sections: Sections<'_>) -> Option<Route> {
        let Sections { limits, identity, .. } = sections;
        let prefix = self.route_path(&written.path, &place.key("path"));
        let name: Arc<str> = written.own_name().into();
        let longest = limits::ROUTE_NAME_BYTES;
        if written.name.is_none() && name.len() > longest {
            let message =
                format!("the path is too long to be the route's name: write a `name` of at most {longest} bytes");
            self.problems.add(place, message);
        }
        if written
            .name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > longest || name.chars().any(char::is_control))
        {
            self.problems.add(
                &place.key("name"),
                format!("is not a valid name: write 1 to {longest} bytes of printable characters"),
            );
        }
        let destination = self.destination(written, place);
        let rewrite = self.rewrite(&written.rewrite, &place.key("rewrite"));
        let auth = match &written.auth {
            RouteAuth::None => None,
            RouteAuth::Required(required) => {
                self.public_url(required, written, &place.key("auth"));
                Some(self.authentication(required, &place.key("auth")))
            }
        };
        self.of_mcp_only(written, place);
        let policy = self.policy(written, place);
        let cors = written.cors.as_ref().map(|cors| self.cors(cors, &place.key("cors")));
        if written.sse_keepalive.as_ref().is_some_and(|span| span.0 < limits::SSE_KEEPALIVE) {
            self.problems.add(&place.key("sse_keepalive"), "is less than 1s: write at least `1s`");
        }
        if !written.upgrade.is_empty() && written.carried() == Protocol::Mcp {
            self.problems
                .add(&place.key("upgrade"), "MCP has no WebSocket transport: take it out, or write `protocol: http`");
        }
        let upstream_name = written.upstream.as_deref().unwrap_or_default();
        let upstream = self.sources.iter().find_map(|source| source.file.upstreams.get(upstream_name));
        if !written.upgrade.is_empty() && upstream.is_some_and(|upstream| upstream.http2) {
            self.problems.add(
                &place.key("upgrade"),
                format!(
                    "WebSocket needs HTTP/1.1, but the upstream `{upstream_name}` has `http2: true`: take one of the two out"
                ),
            );
        }
        if let Some(HostHeader::Rewrite(host)) = &written.host
            && host.0.to_str().ok().and_then(|host| crate::types::Authority::parse(host).ok()).is_none()
        {
            self.problems.add(
                &place.key("host"),
                format!(
                    "`{}` is not a valid host: write a name such as `server.internal`",
                    host.0.to_str().unwrap_or_default()
                ),
            );
        }
        if let Some(idle) = &written.idle {
            self.not_zero(&place.key("idle"), idle);
        }
        let body_bytes = written.body_bytes.as_ref().unwrap_or(&limits.body_bytes);
        if written.carried() == Protocol::Mcp && body_bytes.0 > limits.held_bytes.0 {
            let held = &limits.held_bytes;
            self.problems.add(
                &place.key("body_bytes"),
                format!("is {body_bytes}, but all MCP bodies together may take `limits.held_bytes`, which is {held}: write at most `{held}`"),
            );
        }
        let credential = written
            .credential
            .as_ref()
            .map(|credential| self.credential(credential, written, &place.key("credential"), sections));
        let forwarded = upstream.map(|upstream| upstream.forwarded).unwrap_or_default();
        let request_headers =
            self.changes(&written.request_headers, &place.key("request_headers"), Some((identity, forwarded)));
        let response_headers = self.changes(&written.response_headers, &place.key("response_headers"), None);
        Some(Route {
            name,
            prefix: prefix?,
            hosts: written.hosts.iter().map(|host| host.0.clone()).collect(),
            destination: destination?,
            protocol: written.carried(),
            rewrite: rewrite?,
            auth,
            policy,
            sessions: written
                .sessions
                .as_ref()
                .map(|sessions| RouteSessions { resume: sessions.resume })
                .unwrap_or_default(),
            cors,
            sse_keepalive: written.sse_keepalive.as_ref().map(|silence| silence.0),
            cancel_on_disconnect: written.cancel_on_disconnect.unwrap_or_default(),
            refusals: written.refusals.unwrap_or_default(),
            forward_token: written.forward_token,
            credential: match credential {
                Some(credential) => Some(credential?),
                None => None,
            },
            websocket: !written.upgrade.is_empty(),
            host: written.host.clone().unwrap_or_else(|| HostHeader::default_of(written.carried())),
            request_headers,
            response_headers,
            body_bytes: body_bytes.0,
            idle: written.idle.as_ref().map(|idle| idle.0),
        })
    }

    /// Where the requests go: to an upstream, or to the servers of a gateway.
    fn destination(&mut self, written: &Written, place: &Place) -> Option<Destination> {
        match (&written.upstream, &written.gateway) {
            (Some(name), None) => {
                if !self.is_defined("upstreams", upstreams_of, name) {
                    let names = self.sources.iter().flat_map(|source| source.file.upstreams.keys()).map(String::as_str);
                    let known = suggest::instead(name, names);
                    let message = format!(
                        "there is no upstream `{name}`: define it under `upstreams`, or name another ({known})"
                    );
                    self.problems.add(&place.key("upstream"), message);
                }
                Some(Destination::Upstream(name.as_str().into()))
            }
            (None, Some(gateway)) => {
                self.not_of_gateways(written, place);
                let gateway = self.gateway(gateway, written, &place.key("gateway"));
                Some(Destination::Gateway(Arc::new(gateway)))
            }
            (Some(_), Some(_)) => {
                self.problems.add(place, "has both `upstream` and `gateway`: keep one of them");
                None
            }
            (None, None) => {
                let message =
                    "has neither `upstream` nor `gateway`: write `upstream: NAME`, or `gateway: {servers: [ROUTE]}`";
                self.problems.add(place, message);
                None
            }
        }
    }

    /// Checks the path of a route. Refuses wildcards, queries and fragments: a route matches only by a path prefix.
    fn route_path(&mut self, path: &str, place: &Place) -> Option<String> {
        if let Some((before, _)) = path.split_once('*') {
            let (path, before) = (path.escape_debug(), before.escape_debug());
            self.problems.add(
                place,
                format!(
                    "`{path}` has a wildcard, but a route matches everything below its path anyway: write `{before}`"
                ),
            );
            return None;
        }
        if let Some((before, _)) = path.split_once(['?', '#']) {
            let (path, before) = (path.escape_debug(), before.escape_debug());
            self.problems.add(
                place,
                format!("`{path}` has a query or a fragment, but a route matches only the path: write `{before}`"),
            );
            return None;
        }
        self.prefix(path, place)
    }

    /// The canonical form of `path`, without a trailing slash.
    pub(super) fn prefix(&mut self, path: &str, place: &Place) -> Option<String> {
        match canonical_path(path.as_bytes()) {
            Ok(canonical) => Some(canonical.trim_end_matches('/').to_owned()),
            Err(error) => {
                self.problems.add(place, format!("`{}` is not a valid path: {error}", path.escape_debug()));
                None
            }
        }
    }

    fn rewrite(&mut self, written: &WrittenRewrite, place: &Place) -> Option<Rewrite> {
        match (written.strip_prefix, &written.prefix) {
            (None | Some(true), None) => Some(Rewrite::Strip),
            (Some(false), None) => Some(Rewrite::Keep),
            (None, Some(prefix)) => self.prefix(prefix, &place.key("prefix")).map(Rewrite::Replace),
            (Some(_), Some(_)) => {
                self.problems.add(place, "`strip_prefix` and `prefix` exclude each other: write one of them");
                None
            }
        }
    }

    fn authentication(&mut self, written: &RequiredAuth, place: &Place) -> Authentication {
        if written.providers.is_empty() {
            self.problems.add(
                &place.key("providers"),
                "is empty, so no caller would be accepted: name a provider, or write `auth: none` for an open route",
            );
        }
        for (index, name) in written.providers.iter().enumerate() {
            if !self.is_defined("auth.providers", providers_of, name) {
                let names = self.sources.iter().filter_map(providers_of).flat_map(|providers| providers.keys());
                let known = suggest::instead(name, names.map(String::as_str));
                self.problems.add(
                    &place.key("providers").item(index),
                    format!(
                        "there is no provider `{name}`: define it under `auth.providers`, or name another ({known})"
                    ),
                );
            }
        }
        let audiences = self.route_audiences(written, place);
        self.distinct(&written.providers, &place.key("providers"));
        Authentication {
            audiences,
            open_streams: written.open_streams,
            providers: written.providers.iter().map(|name| name.as_str().into()).collect(),
            scopes: written.scopes.iter().map(|scope| scope.0.clone()).collect(),
            public_url: written.public_url.as_ref().map(|url| url.0.clone()),
        }
    }

    /// Reports a `public_url` whose host a client could choose.
    fn public_url(&mut self, auth: &RequiredAuth, route: &Written, place: &Place) {
        let of_any_host = auth.public_url.as_ref().is_some_and(|url| url.0.is_of_any_host());
        let mut listeners = self.sources.iter().flat_map(|source| &source.file.listeners);
        if of_any_host && route.hosts.is_empty() && listeners.any(|listener| listener.hosts.is_empty()) {
            let message = "takes the host from requests, so only hosts that are listed may be asked for: write `hosts` in \
                           the route, or in every listener";
            self.problems.add(&place.key("public_url"), message);
        }
    }

    /// Decides which audiences the route accepts. If a provider lists no audiences, the route must name them with
    /// `audiences` or `public_url`. The host of a request cannot replace them, because the client chooses the host.
    fn route_audiences(&mut self, written: &RequiredAuth, place: &Place) -> RouteAudiences {
        if let Some(audiences) = &written.audiences {
            self.audiences(Some(audiences), &place.key("audiences"));
            return RouteAudiences::Listed(audiences.clone());
        }
        let lists_none = |name: &str| {
            self.written_provider(name).is_some_and(|provider| {
                let jwt = provider.jwt.as_ref().is_some_and(|jwt| jwt.audiences.is_none());
                jwt || provider.introspection.as_ref().is_some_and(|introspection| introspection.audiences.is_none())
            })
        };
        let bound: Vec<&String> = written.providers.iter().filter(|name| lists_none(name)).collect();
        match (bound.first(), &written.public_url) {
            (None, _) => RouteAudiences::OfProviders,
            (Some(_), Some(url)) => {
                RouteAudiences::Own(url.0.clone(), bound.into_iter().map(|name| name.as_str().into()).collect())
            }
            (Some(name), None) => {
                let introspection = self.written_provider(name).and_then(|provider| provider.introspection.as_ref());
                let which = match introspection.is_some_and(|introspection| introspection.audience_optional) {
                    // Also there, a token for another server must not open this one.
                    true => "tokens that name their audience",
                    false => "tokens",
                };
                let message = format!(
                    "the provider `{name}` lists no audiences, so the route must say which {which} are for it: write \
                     `public_url` or `audiences` here, or `audiences` in the provider"
                );
                self.problems.add(place, message);
                RouteAudiences::OfProviders
            }
        }
    }

    /// Checks changes of header fields. `identity` is `Some` for changes of requests: a route cannot set the fields in
    /// which the edge tells the upstream who the caller is.
    fn changes(
        &mut self,
        written: &HeaderChanges,
        place: &Place,
        identity: Option<(&Identity, Forwarded)>,
    ) -> Vec<HeaderChange> {
        let mut changes = Vec::new();
        for (index, name) in written.remove.iter().enumerate() {
            self.changeable(&name.0, &place.key("remove").item(index), identity);
            changes.push(HeaderChange::Remove(name.0.clone()));
        }
        let mut seen = Vec::new();
        for (name, value) in &written.set {
            let place = place.key("set").key(name);
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => {
                    self.changeable(&name, &place, identity);
                    if seen.contains(&name) {
                        self.problems
                            .add(&place, format!("`{name}` is set twice, since case does not matter: keep one"));
                    }
                    seen.push(name.clone());
                    changes.push(HeaderChange::Set(name, value.0.clone()));
                }
                Err(_) => self.problems.add(
                    &place,
                    format!("`{}` is not a valid header name: write one such as `X-Team`", name.escape_debug()),
                ),
            }
        }
        changes
    }

    fn changeable(&mut self, name: &HeaderName, place: &Place, identity: Option<(&Identity, Forwarded)>) {
        if is_reserved(name) {
            self.problems.add(place, format!("`{name}` belongs to the connection: take it out"));
        }
        let Some((identity, forwarded)) = identity else { return };
        if *name == HOST {
            self.problems.add(place, "the upstream's host has its own setting: write `host: {rewrite: NAME}`");
        }
        let is_id = *name == "x-request-id";
        if TOLD_FIELDS.contains(&name.as_str()) && (is_id || forwarded == Forwarded::Full) {
            let hint = if is_id { "" } else { ", or write `forwarded: none` in the upstream" };
            self.problems
                .add(place, format!("the edge itself sets `{name}`, so this would have no effect: take it out{hint}"));
        }
        if identity.names().any(|of_identity| of_identity == name) {
            self.problems.add(
                place,
                format!("`{name}` tells the upstream who the caller is, and only the edge may set it: take it out"),
            );
        }
    }
}
