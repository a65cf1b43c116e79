//! Converts an nginx location to a route, as if the route got only the requests of this location.

use std::collections::BTreeSet;

use super::fields::{Fields, fields};
use super::gate::Gates;
use super::pool::{Pools, Target};
use super::restriction::copies_body;
use super::rewritten::{Rewritten, redirects, rewritten};
use super::sources::{Nginx, Scopes, add_rules};
use crate::config::text::Position;
use crate::config::written::{Route, RouteAuth, Size, Upgrade};
use crate::config::{HostHeader, Limits, Protocol};
use crate::import::draft::blank::{blank_route, is_path, required};
use crate::import::draft::{Draft, Item};
use crate::import::nginx::place::encoded;
use crate::import::nginx::site::{Kind, Location, Site, size};
use crate::import::scopes::{ScopeFile, Server};
use crate::types::excerpt;

/// A route for a location.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) item: Item<Route>,
    /// Whether nginx sent the client's `Authorization` to the upstream. `None`: the location does not set this header.
    pub(crate) token: Option<bool>,
    /// The position and the reason when the route must be closed, although its access rules are known. The reason is a
    /// clause to follow "because".
    pub(crate) closed: Option<(Position, String)>,
}

/// Converts locations to routes, and makes the upstreams and providers that these routes need.
pub(crate) struct Converter<'a> {
    pub(crate) nginx: Nginx<'a>,
    pub(crate) scopes: Option<Scopes<'a>>,
    pub(crate) pools: Pools<'a>,
    pub(crate) gates: Gates<'a>,
    /// The servers of the scope file that have a route.
    pub(crate) servers: BTreeSet<String>,
}

impl Converter<'_> {
    /// The route for `location`, which must not be a regular expression. `is_auth_target`: an `auth_request` leads to
    /// the location.
    ///
    /// # Errors
    /// The reason why the location cannot become a route, as a clause to follow "because".
    pub(crate) fn candidate(
        &mut self,
        site: &Site<'_>,
        location: &Location<'_>,
        is_auth_target: bool,
        draft: &mut Draft,
    ) -> Result<Candidate, String> {
        let pass = location.chain.own("proxy_pass");
        if ["return", "try_files"].iter().any(|name| !location.chain.own(name).is_empty()) {
            return Err(unproxied(location));
        }
        if location.chain.all().any(|line| line.name == "internal") {
            return Err("the location is `internal`".to_owned());
        }
        if is_auth_target {
            return Err("the location is the target of `auth_request`".to_owned());
        }
        let target = Target::parse(pass.first().ok_or_else(|| unproxied(location))?.arg(0))?;
        let upstream = self.pools.upstream(&target, &location.chain, &location.path, location.at, draft);
        let upstream = upstream.ok_or("its upstream has no server that can be imported")?;
        let fields = fields(&location.chain, &target, self.pools.has(&target.authority));
        let token = fields.token;
        let provider = self.gates.provider(site, &location.chain, draft);
        let mut item = Item::new(blank_route(&encoded(&location.path), &upstream, RouteAuth::None));
        let mut closed = self.rewrite(location, &target, &mut item, draft);
        self.auth(site, location, &target, &fields, provider, &mut item, draft);
        self.settings(location, fields, &mut item, draft);
        if let Some(line) = location.chain.all().find(|line| copies_body(line))
            && item.value.auth != RouteAuth::None
            && item.value.protocol != Protocol::Mcp
        {
            let why = "nginx let the authentication server decide about each tool, and a route without `protocol: mcp` has no rules for tools";
            closed.get_or_insert((line.at, why.to_owned()));
        }
        Ok(Candidate { item, token, closed })
    }

    /// Sets the rewrite of the route. Returns the position and the reason when the edge cannot send the same paths.
    fn rewrite(
        &self,
        location: &Location<'_>,
        target: &Target,
        item: &mut Item<Route>,
        draft: &mut Draft,
    ) -> Option<(Position, String)> {
        let (at, file) = (location.at, self.nginx.file);
        if location.kind == Kind::Prefix && !location.path.ends_with('/') {
            let text = "a `location` without a final slash also matched longer names, such as `/xy` for `/x`. A route matches whole path segments only";
            draft.note(file, at, text);
        }
        match rewritten(location) {
            Rewritten::Unchanged => {}
            Rewritten::Stripped => return None,
            Rewritten::Other(at, why) => return Some((at, why.to_owned())),
        }
        let Some(uri) = &target.uri else {
            item.value.rewrite.strip_prefix = Some(false);
            return None;
        };
        let at_pass = location.chain.own("proxy_pass").first().map_or(at, |line| line.at);
        let path = uri.split(['?', '#']).next().unwrap_or_default();
        if path.len() < uri.len() {
            return Some((
                at_pass,
                "nginx sent the query string of `proxy_pass`, and the edge sends that of the client".to_owned(),
            ));
        }
        if !is_path(path) {
            return Some((at_pass, format!("the edge cannot send the path `{}` of `proxy_pass`", excerpt(path))));
        }
        // If only one of the two ends in a slash, nginx appends the rest of the path directly to the new prefix.
        if location.kind == Kind::Prefix && location.path.ends_with('/') != path.ends_with('/') {
            let rest = if path.ends_with('/') { "/rest" } else { "rest" };
            item.note(
                file,
                at,
                format!(
                    "nginx sent `{}{rest}` for `{}/rest`. The edge replaces whole path segments only",
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
        None
    }

    /// Sets who may use the route, and its protocol.
    #[expect(clippy::too_many_arguments, reason = "one decision depends on all of them")]
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
                    "nginx let everybody use this location, but the scope file has rules for server `{}`: the route requires authentication by a provider whose URL you must write",
                    excerpt(server)
                );
                let unknown = "the scope file has rules for a location without `auth_request`: write the URL of the authentication server";
                item.note(file, at, text);
                Some(self.gates.unknown(at, unknown.to_owned(), draft))
            }
            (_, provider) => provider,
        };
        if let Some(provider) = &provider {
            item.value.auth = required(provider, &[]);
        }
        let is_registry = self.scopes.is_some_and(|scopes| is_registry(site, target, scopes.read));
        let is_mcp = match (&named, &provider, self.scopes) {
            (Some(_), ..) => true,
            _ if path.is_empty() => false,
            (None, Some(_), Some(scopes)) => {
                let any = scopes.read.grants.iter().any(|grant| grant.server == Server::Any);
                let copies = location.chain.all().any(copies_body);
                let is_page = !copies && (is_registry || is_websocket && !any);
                if is_page {
                    let text = "no scope names this location, and it does not look like an MCP server: every authenticated caller may use the route. If it is an MCP server, write `protocol: mcp` and its rules";
                    item.note(file, at, text);
                }
                !is_page
            }
            _ => streams && !is_websocket,
        };
        if fields.upgrade && !is_mcp {
            item.value.upgrade.push(Upgrade::Websocket);
        } else if is_websocket {
            item.note(file, at, "MCP has no WebSocket transport: if the route is for WebSocket, write `protocol: http` and `upgrade: [websocket]`, and remove the rules");
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
                "the location is imported as an MCP server because of `proxy_buffering off`: if it is not one, write `protocol: http`",
            ),
        }
    }

    fn settings(&self, location: &Location<'_>, fields: Fields, item: &mut Item<Route>, draft: &mut Draft) {
        let file = self.nginx.file;
        let route = &mut item.value;
        let is_open = route.auth == RouteAuth::None;
        route.forward_token = fields.token.unwrap_or(is_open);
        if fields.token.is_none() && !is_open {
            let text = "nginx forwarded the client's Authorization header by default, and the edge does not: if the upstream needs it, write `forward_token: true`";
            draft.note(file, location.at, text);
        }
        (route.request_headers, route.response_headers) = (fields.request, fields.response);
        route.host = fields.host.filter(|host| *host != HostHeader::default_of(route.protocol));
        for (at, text) in fields.notes {
            draft.note(file, at, text);
        }
        if let Some(line) = location.chain.one("client_max_body_size") {
            let most = Limits::default().held_bytes.0;
            match size(line.arg(0)) {
                Some(bytes) if item.value.protocol == Protocol::Mcp && bytes > most => {
                    item.value.body_bytes = Some(Size(most));
                    item.note(file, line.at, "the edge buffers a whole MCP message before it decides, so `body_bytes` is 256MiB, the maximum");
                }
                Some(bytes) => item.value.body_bytes = Some(Size(bytes)),
                None => item.note(
                    file,
                    line.at,
                    "the edge limits the size of every body: `limits.body_bytes` applies unless you write `body_bytes`",
                ),
            }
        }
        for line in location.chain.own("rewrite").into_iter().filter(|line| redirects(line)) {
            item.note(file, line.at, "`rewrite` redirected some requests, and the edge sends them to the upstream");
        }
    }
}

/// True when `target` is the registry's own web server: it also serves an open `location /`, and none of its locations
/// is a server of the scope file.
fn is_registry(site: &Site<'_>, target: &Target, scopes: &ScopeFile) -> bool {
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

/// The server of the scope file whose name is `path` or a parent of it. The longest such name counts.
fn named_server<'p>(path: &'p str, scopes: &ScopeFile) -> Option<&'p str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.rev().map(|end| &path[..end]).find(|server| scopes.names(server))
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
        Some(name) => format!("the location has `{name}`, and the edge only forwards requests to HTTP upstreams"),
        None => "the location has no `proxy_pass`".to_owned(),
    }
}
