//! An nginx configuration and a scope file to one configuration of the edge.
//!
//! What cannot be carried over is told, and nothing becomes more open by it: a location that nginx answered itself, or
//! kept callers out of in a way that the edge has not, becomes a route that nobody may use.

pub(super) mod asked;
pub(super) mod candidate;
pub(super) mod fields;
pub(super) mod gate;
pub(super) mod hosts;
pub(super) mod judged;
pub(super) mod listen;
pub(super) mod pool;
pub(super) mod rest;
pub(super) mod routes;
pub(super) mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::draft::{Draft, Item};
use super::nginx::Directive;
use super::note::Note;
use super::scopes::rules::rules;
use super::scopes::{ScopeFile, Server};
use crate::config::text::Position;
use crate::config::written::{Endpoint, HeaderChanges, RequiredAuth, Rewrite, Route, RouteAuth, ScopeName, Upstream};
use crate::config::{HostHeader, Protocol};
use crate::types::{Authority, Scope, canonical_path, excerpt};
use gate::Gates;
use routes::of_nginx;

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
        let mut gates = Gates::new(scopes.file);
        for (server, at) in named {
            if nginx.is_none() {
                of_server(server, at, scopes, &mut gates, &mut draft);
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
fn of_server(server: &str, at: Position, scopes: Scopes<'_>, gates: &mut Gates<'_>, draft: &mut Draft) {
    let path = format!("/{server}/");
    if !is_path(&path) {
        let text = format!("`{}` is no path: what scopes open there is left out", excerpt(server));
        return draft.note(scopes.file, at, text);
    }
    let text = "without an nginx configuration the authentication server is not known: write its URL";
    let provider = gates.unknown((1, 1), text.to_owned(), draft);
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

/// Gives `item` the rules of `server`.
pub(super) fn add_rules(server: &str, scopes: Scopes<'_>, with_notes: bool, item: &mut Item<Route>) {
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

/// True when a route can have `path`.
pub(super) fn is_path(path: &str) -> bool {
    !path.contains(['*', '?', '#']) && canonical_path(path.as_bytes()).is_ok()
}

pub(super) fn required(provider: &str, scopes: &[ScopeName]) -> RouteAuth {
    RouteAuth::Required(RequiredAuth {
        providers: vec![provider.to_owned()],
        scopes: scopes.to_vec(),
        public_url: None,
        audiences: None,
        open_streams: Default::default(),
    })
}

/// Nobody may use `route` any more; all else stays.
pub(super) fn shut(route: &mut Route, provider: &str) {
    let scope: Option<Scope> = CLOSED.parse().ok();
    let scopes: Vec<ScopeName> = scope.map(ScopeName).into_iter().collect();
    route.auth = required(provider, &scopes);
}

/// Nobody may use `route` any more, and nothing else is said of it.
pub(super) fn close(route: &mut Route, provider: &str) {
    let (path, name, hosts) = (route.path.clone(), route.name.take(), std::mem::take(&mut route.hosts));
    *route = Route { hosts, name, ..blank(&path, &route.upstream, RouteAuth::None) };
    shut(route, provider);
}

/// An upstream that is nowhere: names below `.invalid` never resolve (RFC 6761).
pub(super) fn unknown_upstream() -> Upstream {
    pool::blank(vec![Endpoint { address: "server.invalid:8000".to_owned(), weight: 1 }])
}

/// A route with defaults.
pub(super) fn blank(path: &str, upstream: &str, auth: RouteAuth) -> Route {
    Route {
        credential: None,
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
