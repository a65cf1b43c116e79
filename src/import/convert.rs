//! An nginx configuration and a scope file to one configuration of the edge.
//!
//! What cannot be carried over is told, and nothing becomes more open by it: a location that nginx answered itself, or
//! kept callers out of in a way that the edge has not, becomes a route that nobody may use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::draft::{Draft, Item};
use super::fields::{Fields, fields};
use super::gate::{Gates, closed_by};
use super::listen;
use super::nginx::Directive;
use super::note::Note;
use super::pool::{self, Pools, Target};
use super::rest;
use super::rules::rules;
use super::scopes::{ScopeFile, Server};
use super::site::{Kind, Location, Site, sites, size};
use crate::config::written::{
    Endpoint, HeaderChanges, Host, Position, RequiredAuth, Rewrite, Route, RouteAuth, ScopeName, Size, Upgrade,
};
use crate::config::{HostHeader, Limits, Protocol};
use crate::types::{Authority, Scope, canonical_path, excerpt};

/// A scope that nobody has, so that nobody may use a route.
pub(super) const CLOSED: &str = "closed-by-import";

/// A configuration of nginx.
#[derive(Clone, Copy)]
pub(super) struct Nginx<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) folder: &'a Path,
    pub(super) root: &'a [Directive],
}

/// A scope file.
#[derive(Clone, Copy)]
pub(super) struct Scopes<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) read: &'a ScopeFile,
}

/// What becomes of both.
pub(super) fn convert(nginx: Option<Nginx<'_>>, scopes: Option<Scopes<'_>>) -> Draft {
    let mut draft = Draft::default();
    if let Some(scopes) = scopes {
        draft.notes.extend(scopes.read.notes.iter().cloned());
    }
    let found = match nginx {
        Some(nginx) => of_nginx(nginx, scopes, &mut draft),
        None => BTreeSet::new(),
    };
    if let Some(scopes) = scopes {
        let named: BTreeMap<&str, Position> = scopes
            .read
            .grants
            .iter()
            .rev()
            .filter_map(|grant| match &grant.server {
                Server::Named(name) => Some((name.as_str(), grant.at)),
                Server::Any => None,
            })
            .collect();
        for (server, at) in named {
            if nginx.is_none() {
                of_server(server, at, scopes, &mut draft);
            } else if !found.contains(server) {
                let text = format!(
                    "no `location` leads to the server `{}`: what scopes open there is left out",
                    excerpt(server)
                );
                draft.note(scopes.file, at, text);
            }
        }
        for item in draft.providers.values_mut() {
            item.value.groups.clone_from(&scopes.read.groups);
        }
        if draft.providers.is_empty() && !scopes.read.groups.is_empty() {
            draft.notes.push(Note::of_output(
                "group_mappings belong to a provider, and there is none: no route asks for a caller",
            ));
        }
    }
    if draft.listeners.is_empty() {
        let mut item = Item::new(listen::blank(([127, 0, 0, 1], 8080).into()));
        item.notes.push(Note::of_output("where to listen is not known, or cannot be used as it is: write the address"));
        draft.listeners.push(item);
    }
    draft
}

/// A route for a server that only the scope file knows.
fn of_server(server: &str, at: Position, scopes: Scopes<'_>, draft: &mut Draft) {
    let path = format!("/{server}/");
    if !is_path(&path) {
        let text = format!("`{}` is no path: what scopes open there is left out", excerpt(server));
        return draft.note(scopes.file, at, text);
    }
    let text = "without an nginx configuration the authentication server is not known: write its URL";
    let provider = Gates::new(scopes.file).unknown((1, 1), text.to_owned(), draft);
    let name = Draft::name(server, |name| draft.upstreams.contains_key(name));
    // Names below `.invalid` never resolve (RFC 6761).
    let address = Some(format!("{name}.invalid:8000")).filter(|address| Authority::parse(address).is_ok());
    let address = address.unwrap_or_else(|| "server.invalid:8000".to_owned());
    let mut upstream = Item::new(pool::blank(vec![Endpoint { address, weight: 1 }]));
    upstream.notes.push(Note::of_output("without an nginx configuration the endpoints are not known: write them"));
    draft.upstreams.insert(name.clone(), upstream);
    let mut item = Item::new(blank(&path, &name, required(&provider, &[])));
    item.value.protocol = Protocol::Mcp;
    add_rules(server, scopes, true, &mut item);
    draft.routes.push(item);
}

/// The routes and listeners of a configuration of nginx. Returns the servers of the scope file that it leads to.
fn of_nginx(nginx: Nginx<'_>, scopes: Option<Scopes<'_>>, draft: &mut Draft) -> BTreeSet<String> {
    let sites = sites(nginx.root);
    rest::note(nginx.file, nginx.root, draft);
    let mut converter = Converter {
        nginx,
        scopes,
        pools: Pools::new(nginx.file, nginx.folder, nginx.root),
        gates: Gates::new(nginx.file),
        planned: Vec::new(),
        left: Vec::new(),
        servers: BTreeSet::new(),
    };
    let is_local = |site: &Site<'_>| {
        let binds = listen::binds(site);
        !binds.is_empty() && binds.iter().all(|bind| bind.address.ip().is_loopback())
    };
    let proxied = |site: &&Site<'_>| site.locations.iter().any(|location| !location.chain.own("proxy_pass").is_empty());
    let all_local = sites.iter().filter(proxied).all(is_local);
    let (used, unused): (Vec<&Site<'_>>, Vec<&Site<'_>>) =
        sites.iter().partition(|site| proxied(site) && (all_local || !is_local(site)));
    for site in unused {
        let text = match proxied(&site) {
            true => {
                "this server listens on loopback only, but here every listener serves every route of its hosts: its locations are left out"
            }
            false => {
                "this server passes nothing on, such as one that only redirects: it and its listeners are left out"
            }
        };
        draft.note(nginx.file, site.at, text);
    }
    let hosts: Vec<Vec<Host>> = used.iter().map(|site| site.hosts().0).collect();
    let differ = hosts.iter().any(|other| *other != hosts[0]);
    let ports: BTreeSet<_> = used
        .iter()
        .map(|site| listen::binds(site).iter().map(|bind| bind.address.port()).collect::<BTreeSet<_>>())
        .collect();
    if ports.len() > 1 {
        draft.notes.push(Note::of_output(
            "nginx served different locations on different ports; here every listener serves every route of its hosts",
        ));
    }
    for (index, site) in used.iter().enumerate() {
        let hosts = if differ { hosts[index].as_slice() } else { &[] };
        for location in &site.locations {
            converter.location(site, location, hosts, draft);
        }
    }
    converter.close_what_is_left(draft);
    converter.finish(draft);
    let sites: Vec<&Site<'_>> = used.into_iter().filter(|site| !site.locations.is_empty()).collect();
    listen::add(nginx.file, nginx.folder, &sites, draft);
    converter.servers
}

struct Converter<'a> {
    nginx: Nginx<'a>,
    scopes: Option<Scopes<'a>>,
    pools: Pools<'a>,
    gates: Gates<'a>,
    planned: Vec<Planned>,
    left: Vec<Left>,
    /// Servers of the scope file that a route leads to.
    servers: BTreeSet<String>,
}

/// A route with what it was.
struct Planned {
    item: Item<Route>,
    kind: Kind,
    at: Position,
}

/// A location that is no route.
struct Left {
    kind: Kind,
    path: String,
    hosts: Vec<Host>,
    at: Position,
    why: String,
}

impl Planned {
    /// How much is asked of callers.
    fn strictness(&self) -> usize {
        match &self.item.value.auth {
            RouteAuth::None => 0,
            RouteAuth::Required(required) => 1 + required.scopes.len(),
        }
    }

    /// The path without a slash at its end.
    fn prefix(&self) -> &str {
        self.item.value.path.trim_end_matches('/')
    }
}

impl Converter<'_> {
    fn location(&mut self, site: &Site<'_>, location: &Location<'_>, hosts: &[Host], draft: &mut Draft) {
        let shown = excerpt(&location.path);
        match location.kind {
            Kind::Named => {
                let text = "a `location @name` has no counterpart: what led to it is not carried over either";
                return draft.note(self.nginx.file, location.at, text);
            }
            Kind::Regex => {
                let text = format!(
                    "`location ~ {shown}` is a regular expression, and routes are prefixes: requests for it go to the route of the longest prefix, so write routes for what it did"
                );
                return draft.note(self.nginx.file, location.at, text);
            }
            Kind::Exact | Kind::Prefix => {}
        }
        if !is_path(&location.path) {
            let text = format!(
                "`location {shown}` is no path that a route can have: requests for it go to the route of the longest prefix"
            );
            return draft.note(self.nginx.file, location.at, text);
        }
        let pass = location.chain.own("proxy_pass");
        let left = match pass.first() {
            _ if !location.chain.own("internal").is_empty() => Err("it is internal to nginx".to_owned()),
            _ if site.is_asked(location) => Err("it is there for `auth_request`".to_owned()),
            Some(pass) => Target::parse(pass.arg(0)).map_err(str::to_owned),
            None => Err(unproxied(location)),
        };
        let target = match left {
            Ok(target) => target,
            Err(why) => {
                return self.left.push(Left {
                    kind: location.kind,
                    path: location.path.clone(),
                    hosts: hosts.to_vec(),
                    at: location.at,
                    why,
                });
            }
        };
        let Some(upstream) = self.pools.upstream(&target, &location.chain, &location.path, location.at, draft) else {
            let why = "its upstream has no server that could be carried over".to_owned();
            return self.left.push(Left {
                kind: location.kind,
                path: location.path.clone(),
                hosts: hosts.to_vec(),
                at: location.at,
                why,
            });
        };
        let fields = fields(&location.chain, &target, self.pools.has(&target.authority));
        let provider = self.gates.provider(site, &location.chain, draft);
        let mut item = Item::new(blank(&location.path, &upstream, RouteAuth::None));
        item.value.hosts = hosts.to_vec();
        self.rewrite(location, &target, &mut item, draft);
        self.auth(site, location, &target, &fields, provider, &mut item, draft);
        self.settings(location, fields, &mut item, draft);
        let authenticated = item.value.auth != RouteAuth::None;
        if let Some((at, why)) = closed_by(&location.chain, authenticated) {
            let provider = self.provider_of(&item.value, at, draft);
            item.note(self.nginx.file, at, format!("nginx kept callers out here, and {why}: nobody may use this route until you take out the scope `{CLOSED}`"));
            close(&mut item.value, &provider);
        }
        self.planned.push(Planned { item, kind: location.kind, at: location.at });
    }

    fn rewrite(&self, location: &Location<'_>, target: &Target, item: &mut Item<Route>, draft: &mut Draft) {
        let (at, file) = (location.at, self.nginx.file);
        match location.kind {
            Kind::Exact => {
                let text = "`location =` matched one path; here the paths below it are matched, too";
                draft.note(file, at, text);
            }
            _ if !location.path.ends_with('/') => {
                let text = "a `location` without a slash at its end also matched longer names, such as `/xy` for `/x`; here whole segments only";
                draft.note(file, at, text);
            }
            _ => {}
        }
        let Some(uri) = &target.uri else {
            item.value.rewrite.strip_prefix = Some(false);
            return;
        };
        let path = uri.split(['?', '#']).next().unwrap_or_default();
        if path.len() < uri.len() {
            item.note(file, at, "the query of `proxy_pass` is not sent");
        }
        if !is_path(path) {
            item.note(
                file,
                at,
                format!(
                    "`{}` of `proxy_pass` is no path that the edge would send: the prefix is taken off",
                    excerpt(path)
                ),
            );
            return;
        }
        // One of the two ends in a slash and the other does not: nginx puts the rest of the path right behind.
        if location.kind == Kind::Prefix && location.path.ends_with('/') != path.ends_with('/') {
            let rest = if path.ends_with('/') { "/rest" } else { "rest" };
            item.note(
                file,
                at,
                format!(
                    "nginx sent `{}{rest}` for `{}/rest`; here whole segments take the place of the prefix",
                    excerpt(path),
                    excerpt(location.path.trim_end_matches('/'))
                ),
            );
        }
        if path.trim_end_matches('/') == location.path.trim_end_matches('/') {
            item.value.rewrite.strip_prefix = Some(false);
        } else if path != "/" {
            item.value.rewrite.prefix = Some(path.to_owned());
        }
    }

    /// Who may use the route, and what it carries.
    #[expect(clippy::too_many_arguments, reason = "all that one decision hangs on")]
    fn auth(
        &mut self,
        site: &Site<'_>,
        location: &Location<'_>,
        target: &Target,
        fields: &Fields,
        provider: Option<String>,
        item: &mut Item<Route>,
        draft: &mut Draft,
    ) {
        let (at, file) = (location.at, self.nginx.file);
        let path = location.path.trim_matches('/');
        let named = self.scopes.and_then(|scopes| named_server(path, scopes.read));
        let streams = location.chain.value("proxy_buffering") == Some("off") && !(fields.upgrade && provider.is_none());
        let is_websocket = fields.upgrade && fields.is_websocket;
        let provider = match (&named, provider) {
            (Some(server), None) => {
                let text = format!(
                    "nginx let everybody use this, but the scope file has rules for `{}`: callers are asked for, by a server that has to be written",
                    excerpt(server)
                );
                let unknown = "no `auth_request` holds where the scope file has rules: write the URL of the authentication server";
                item.note(file, at, text);
                Some(self.gates.unknown(at, unknown.to_owned(), draft))
            }
            (_, provider) => provider,
        };
        if let Some(provider) = &provider {
            item.value.auth = required(provider, &[]);
        }
        let is_page = self.scopes.is_some_and(|scopes| is_page(site, target, scopes.read));
        let is_mcp = match (&named, &provider, self.scopes) {
            (Some(_), ..) => true,
            _ if path.is_empty() => false,
            (None, Some(_), Some(scopes)) => {
                let any = scopes.read.grants.iter().any(|grant| grant.server == Server::Any);
                let is_page = is_page || is_websocket && !any;
                if is_page {
                    let text = "no scope names this, and it looks like no MCP server: every caller that the provider knows may use it. For an MCP server write `protocol: mcp`, and its rules";
                    item.note(file, at, text);
                }
                !is_page
            }
            _ => streams && !is_websocket,
        };
        if fields.upgrade && !is_mcp {
            item.value.upgrade.push(Upgrade::Websocket);
        } else if is_websocket {
            item.note(file, at, "MCP has no WebSocket transport: for WebSocket write `protocol: http` and `upgrade: [websocket]`, and take out the rules");
        }
        if !is_mcp {
            return;
        }
        item.value.protocol = Protocol::Mcp;
        match (named, self.scopes, &provider) {
            (Some(server), Some(scopes), _) => {
                let is_first = self.servers.insert(server.to_owned());
                add_rules(server, scopes, is_first, item);
            }
            (None, Some(scopes), Some(_)) => {
                add_rules(path.split('/').next().unwrap_or_default(), scopes, true, item);
            }
            _ => item.note(
                file,
                at,
                "this is taken for an MCP server, since it is not buffered: else write `protocol: http`",
            ),
        }
    }

    fn settings(&self, location: &Location<'_>, fields: Fields, item: &mut Item<Route>, draft: &mut Draft) {
        let file = self.nginx.file;
        let route = &mut item.value;
        let is_open = route.auth == RouteAuth::None;
        route.forward_token = fields.token.unwrap_or(is_open);
        if fields.token.is_none() && !is_open {
            let text = "nginx sent the client's Authorization on, as it does unless told not to; where the server behind wants it, write `forward_token: true`";
            draft.note(file, location.at, text);
        }
        (route.host, route.request_headers, route.response_headers) = (fields.host, fields.request, fields.response);
        for (at, text) in fields.notes {
            draft.note(file, at, text);
        }
        if let Some(line) = location.chain.one("client_max_body_size") {
            let most = Limits::default().held_bytes.0;
            match size(line.arg(0)) {
                Some(bytes) if item.value.protocol == Protocol::Mcp && bytes > most => {
                    item.value.body_bytes = Some(Size(most));
                    item.note(file, line.at, "MCP bodies are held until they are judged, so 256MiB is the most");
                }
                Some(bytes) => item.value.body_bytes = Some(Size(bytes)),
                None => item.note(
                    file,
                    line.at,
                    "every body has a bound here: that of `limits.body_bytes` holds, unless you write `body_bytes`",
                ),
            }
        }
        if location.chain.own("rewrite").iter().any(|line| !line.args.is_empty()) {
            item.note(
                file,
                location.at,
                "`rewrite` changed the path here, and regular expressions cannot: see `rewrite` of routes",
            );
        }
    }

    /// Where a route of the edge would now take what nginx kept to itself, nobody gets through.
    fn close_what_is_left(&mut self, draft: &mut Draft) {
        for left in std::mem::take(&mut self.left) {
            let prefix = left.path.trim_end_matches('/');
            let shown = excerpt(&left.path);
            let of_hosts = self.planned.iter().filter(|planned| planned.item.value.hosts == left.hosts);
            let routes: Vec<&Planned> = of_hosts.filter(|planned| covers(planned.prefix(), prefix)).collect();
            let covering = routes.iter().copied().max_by_key(|planned| planned.prefix().len());
            // A route for the same paths may stay, unless it was not for those below and this is.
            let same = |planned: &&Planned| {
                let all_below = planned.kind == Kind::Prefix
                    && (planned.item.value.path.ends_with('/') || !left.path.ends_with('/'));
                planned.prefix() == prefix && (all_below || left.kind == Kind::Exact)
            };
            let covering = covering.filter(|planned| !same(planned));
            let Some(covering) = covering.map(|planned| planned.item.value.clone()) else {
                let goes_on = routes.iter().any(|planned| planned.prefix() == prefix);
                let rest = if goes_on { ": requests for it go on to the route of the same path" } else { "" };
                draft.note(self.nginx.file, left.at, format!("`location {shown}` is left out: {}{rest}", left.why));
                continue;
            };
            let provider = self.provider_of(&covering, left.at, draft);
            let mut item = Item::new(blank(&left.path, &covering.upstream, RouteAuth::None));
            item.value.hosts.clone_from(&left.hosts);
            item.note(
                self.nginx.file,
                left.at,
                format!(
                    "{}: nobody gets through here, since requests would go on to `{}` else",
                    left.why,
                    excerpt(&covering.path)
                ),
            );
            close(&mut item.value, &provider);
            self.planned.push(Planned { item, kind: Kind::Prefix, at: left.at });
        }
    }

    /// A provider for a route that is closed: its own, or any.
    fn provider_of(&mut self, route: &Route, at: Position, draft: &mut Draft) -> String {
        match &route.auth {
            RouteAuth::Required(required) if !required.providers.is_empty() => required.providers[0].clone(),
            _ => match draft.providers.keys().next() {
                Some(name) => name.clone(),
                None => {
                    let text = "a closed route wants a provider, and there is none: write the URL of the authentication server";
                    self.gates.unknown(at, text.to_owned(), draft)
                }
            },
        }
    }

    /// Of several locations for the same requests, the strictest stays.
    fn finish(&mut self, draft: &mut Draft) {
        let mut kept: BTreeMap<(Vec<String>, String), Planned> = BTreeMap::new();
        let mut order: Vec<(Vec<String>, String)> = Vec::new();
        for planned in std::mem::take(&mut self.planned) {
            let hosts = planned.item.value.hosts.iter().map(ToString::to_string).collect();
            let key = (hosts, planned.prefix().to_owned());
            let Some(other) = kept.get(&key) else {
                order.push(key.clone());
                kept.insert(key, planned);
                continue;
            };
            let rank = |planned: &Planned| {
                (planned.strictness(), planned.kind == Kind::Prefix, planned.item.value.path.ends_with('/'))
            };
            let (stays, goes) = if rank(&planned) > rank(other) { (&planned, other) } else { (other, &planned) };
            if stays.item.value != goes.item.value {
                let text = format!(
                    "`location {}` is for the same requests as that in line {}, which stays",
                    excerpt(&goes.item.value.path),
                    stays.at.0
                );
                draft.note(self.nginx.file, goes.at, text);
            }
            if rank(&planned) > rank(other) {
                let kind = if other.kind == Kind::Prefix { other.kind } else { planned.kind };
                kept.insert(key, Planned { kind, ..planned });
            }
        }
        kept.retain(|_, planned| {
            let stays = planned.kind != Kind::Exact || !planned.prefix().is_empty();
            if !stays {
                draft.note(self.nginx.file, planned.at, "`location = /` would be a route for all paths: left out");
            }
            stays
        });
        let routes: Vec<Planned> = order.iter().filter_map(|key| kept.remove(key)).collect();
        let is_around = |planned: &&Planned| {
            let same_hosts = routes.iter().filter(|other| other.item.value.hosts == planned.item.value.hosts);
            let around = same_hosts
                .filter(|other| covers(other.prefix(), planned.prefix()) && other.prefix() != planned.prefix());
            let around = around.max_by_key(|other| other.prefix().len());
            planned.kind == Kind::Exact && around.is_some_and(|other| other.strictness() > planned.strictness())
        };
        let (out, stay): (Vec<&Planned>, Vec<&Planned>) = routes.iter().partition(|planned| is_around(planned));
        for planned in out {
            let path = excerpt(&planned.item.value.path);
            let text = format!(
                "`location = {path}` asked less of callers than the location around it; as a route it would open all paths below it, too: left out"
            );
            draft.note(self.nginx.file, planned.at, text);
        }
        draft.routes.extend(stay.into_iter().map(|planned| planned.item.clone()));
    }
}

/// True when what is behind `target` also serves everybody else's pages at `location /`, and no server of the scope file:
/// the registry itself.
fn is_page(site: &Site<'_>, target: &Target, scopes: &ScopeFile) -> bool {
    let same = |other: &&Location<'_>| {
        let pass = other.chain.own("proxy_pass");
        pass.first().and_then(|pass| Target::parse(pass.arg(0)).ok()).is_some_and(|it| it.authority == target.authority)
    };
    let mut serves_pages = false;
    for other in site.locations.iter().filter(same) {
        if named_server(other.path.trim_matches('/'), scopes).is_some() {
            return false;
        }
        let is_open = other.chain.value("auth_request").is_none_or(|uri| uri == "off");
        serves_pages |= other.kind == Kind::Prefix && other.path == "/" && is_open;
    }
    serves_pages
}

/// The server of the scope file that serves `path`: the longest that is named.
fn named_server<'p>(path: &'p str, scopes: &ScopeFile) -> Option<&'p str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.rev().map(|end| &path[..end]).find(|server| scopes.names(server))
}

fn add_rules(server: &str, scopes: Scopes<'_>, with_notes: bool, item: &mut Item<Route>) {
    let rules = rules(scopes.file, scopes.read, server);
    if !rules.opens {
        let text = format!("no scope opens anything on `{}`: nobody may do anything", excerpt(server));
        item.notes.push(Note::of_output(text));
    }
    if with_notes {
        item.notes.extend(rules.notes);
    }
    (item.value.methods, item.value.tools) = (Some(rules.methods), Some(rules.tools));
}

/// True when a route for `prefix` also takes `path`; both without a slash at the end.
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// True when a route can have `path`.
fn is_path(path: &str) -> bool {
    !path.contains(['*', '?', '#']) && canonical_path(path.as_bytes()).is_ok()
}

fn unproxied(location: &Location<'_>) -> String {
    let names = [
        "return",
        "deny",
        "root",
        "alias",
        "try_files",
        "fastcgi_pass",
        "uwsgi_pass",
        "grpc_pass",
        "content_by_lua_block",
        "content_by_lua_file",
        "stub_status",
    ];
    match names.iter().find(|name| !location.chain.own(name).is_empty()) {
        Some(name) => format!("it has `{name}`, and the edge only passes on to HTTP upstreams"),
        None => "it has no `proxy_pass`".to_owned(),
    }
}

fn required(provider: &str, scopes: &[ScopeName]) -> RouteAuth {
    RouteAuth::Required(RequiredAuth {
        providers: vec![provider.to_owned()],
        scopes: scopes.to_vec(),
        public_url: None,
    })
}

/// Nobody may use `route` any more.
pub(super) fn close(route: &mut Route, provider: &str) {
    let scope: Option<Scope> = CLOSED.parse().ok();
    let (path, hosts) = (route.path.clone(), std::mem::take(&mut route.hosts));
    let scopes: Vec<ScopeName> = scope.map(ScopeName).into_iter().collect();
    *route = Route { hosts, ..blank(&path, &route.upstream, required(provider, &scopes)) };
}

/// A route with defaults.
pub(super) fn blank(path: &str, upstream: &str, auth: RouteAuth) -> Route {
    Route {
        path: path.to_owned(),
        hosts: Vec::new(),
        name: None,
        upstream: upstream.to_owned(),
        protocol: Protocol::default(),
        rewrite: Rewrite::default(),
        auth,
        forward_token: false,
        methods: None,
        tools: None,
        prompts: None,
        resources: None,
        sessions: None,
        sse_keepalive: None,
        cancel_on_disconnect: None,
        cors: None,
        upgrade: Vec::new(),
        host: HostHeader::default(),
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        body_bytes: None,
        idle: None,
    }
}
