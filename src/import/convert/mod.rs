//! Converts an nginx configuration and a scope file to one configuration of the edge.
//!
//! Everything that cannot be converted gets a note, and the result is never more open than nginx. A location that nginx
//! answered itself, or protected in a way that the edge does not support, becomes a route that rejects all requests.

mod answered_fields;
mod candidate;
mod converted_site;
mod fields;
pub(super) mod gate;
mod hosts;
mod listen;
mod pool;
mod request_field;
mod requirement;
mod rest;
mod restriction;
mod rewritten;
mod routes;
mod secret;
pub(super) mod sources;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use self::gate::Gates;
use self::routes::of_nginx;
use self::sources::{Nginx, Scopes, add_rules};
use super::draft::blank::{blank_route, blank_upstream, is_path, required};
use super::draft::{Draft, Item};
use super::note::Note;
use super::scopes::Server;
use crate::config::Protocol;
use crate::config::text::Position;
use crate::config::written::Endpoint;
use crate::types::{Authority, excerpt};

/// Converts both sources to one draft.
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
        let mut gates = Gates::new(scopes.file, &[], true);
        for (server, at) in named {
            if nginx.is_none() {
                of_server(server, at, scopes, &mut gates, &mut draft);
            } else if !found.contains(server) {
                let text = format!(
                    "no `location` leads to the server `{}`: the scope rules for it are left out",
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
                "`group_mappings` are left out: they belong to a provider, and no route requires authentication",
            ));
        }
    }
    if draft.listeners.is_empty() {
        draft.add_placeholder("the address to listen on is not known or cannot be used: write it");
    }
    draft
}

/// Adds a route for `server` when there is no nginx configuration.
fn of_server(server: &str, at: Position, scopes: Scopes<'_>, gates: &mut Gates<'_>, draft: &mut Draft) {
    let path = format!("/{server}/");
    if !is_path(&path) {
        let text =
            format!("the server name `{}` is not a valid path: the scope rules for it are left out", excerpt(server));
        return draft.note(scopes.file, at, text);
    }
    let text = "without an nginx configuration the authentication server is not known: write its URL";
    let provider = gates.unknown((1, 1), text.to_owned(), draft);
    let name = Draft::name(server, |name| draft.upstreams.contains_key(name));
    // Names below `.invalid` never resolve (RFC 6761).
    let address = Some(format!("{name}.invalid:8000")).filter(|address| Authority::parse(address).is_ok());
    let address = address.unwrap_or_else(|| "server.invalid:8000".to_owned());
    let mut upstream = Item::new(blank_upstream(vec![Endpoint { address, weight: 1 }]));
    upstream.notes.push(Note::of_output("without an nginx configuration the endpoints are not known: write them"));
    draft.upstreams.insert(name.clone(), upstream);
    let mut item = Item::new(blank_route(&path, &name, required(&provider, &[])));
    item.value.protocol = Protocol::Mcp;
    add_rules(server, scopes, true, &mut item);
    draft.routes.push(item);
}
