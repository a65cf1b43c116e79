//! The locations of an nginx configuration to routes, and what else its servers say.

use std::collections::{BTreeMap, BTreeSet};

use super::convert::{CLOSED, Nginx, Scopes, add_rules, blank, close, is_path, required};
use super::draft::{Draft, Item};
use super::fields::{Fields, fields};
use super::gate::{Gates, closed_by};
use super::listen;
use super::note::Note;
use super::pool::{Pools, Target};
use super::rest;
use super::scopes::{ScopeFile, Server};
use super::site::{Kind, Location, Site, sites, size};
use crate::config::written::{Host, Position, Route, RouteAuth, Size, Upgrade};
use crate::config::{Limits, Protocol};
use crate::types::excerpt;

/// The routes and listeners of a configuration of nginx. Returns the servers of the scope file that it leads to.
pub(super) fn of_nginx(nginx: Nginx<'_>, scopes: Option<Scopes<'_>>, draft: &mut Draft) -> BTreeSet<String> {
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
            // One of them was for the paths below, too, so the one that stays is.
            let kind = if other.kind == Kind::Prefix { other.kind } else { planned.kind };
            if rank(&planned) > rank(other) {
                kept.insert(key, Planned { kind, ..planned });
            } else if let Some(other) = kept.get_mut(&key) {
                other.kind = kind;
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
            // What nginx matched exactly is around nothing: the paths below it went elsewhere.
            let around = same_hosts.filter(|other| other.kind != Kind::Exact);
            let around =
                around.filter(|other| covers(other.prefix(), planned.prefix()) && other.prefix() != planned.prefix());
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

/// True when a route for `prefix` also takes `path`; both without a slash at the end.
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
