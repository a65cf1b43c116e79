//! Checks `gateway` of a route.

use std::collections::HashMap;
use std::sync::Arc;

use super::resolver::Resolver;
use crate::config::checked::gateway::{Gateway, GatewayServer, ToolSelection};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::text::suggest;
use crate::config::units::Name;
use crate::config::written::gateway::{Gateway as Written, GatewayServer as WrittenServer, ServerSettings};
use crate::config::written::route::{HeaderChanges, Protocol, Rewrite, Route, RouteAuth};

/// True for text that may stand in the name of a tool everywhere: MCP 2025-11-25, "Tool Names", without what APIs of models
/// refuse.
fn is_name_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

impl Resolver<'_> {
    /// Reports keys that mean nothing on a gateway, because they are about one upstream.
    pub(crate) fn not_of_gateways(&mut self, written: &Route, place: &Place) {
        let keys = [
            ("rewrite", written.rewrite != Rewrite::default()),
            ("forward_token", written.forward_token),
            ("credential", written.credential.is_some()),
            ("methods", written.methods.is_some()),
            ("tools", written.tools.is_some()),
            ("prompts", written.prompts.is_some()),
            ("resources", written.resources.is_some()),
            ("sessions", written.sessions.is_some()),
            ("upgrade", !written.upgrade.is_empty()),
            ("host", written.host.is_some()),
            ("idle", written.idle.is_some()),
            ("cancel_on_disconnect", written.cancel_on_disconnect.is_some()),
            ("request_headers", written.request_headers != HeaderChanges::default()),
        ];
        for (key, _) in keys.iter().filter(|(_, is_written)| *is_written) {
            let message =
                "a gateway does what the routes of its servers say: write this in their routes, and take it out here";
            self.problems.add(&place.key(key), message);
        }
    }

    /// Checks `gateway` of `route`.
    pub(crate) fn gateway(&mut self, written: &Written, route: &Route, place: &Place) -> Gateway {
        let servers_place = place.key("servers");
        if written.servers.is_empty() {
            self.problems.add(&servers_place, "is empty: name at least one route that has an upstream");
        }
        if written.servers.len() > limits::GATEWAY_SERVERS {
            let message =
                format!("has more than {} servers: divide them over several gateways", limits::GATEWAY_SERVERS);
            self.problems.add(&servers_place, message);
        }
        let separator = &written.separator;
        if separator.len() > 4 || !is_name_text(separator) {
            let message = format!(
                "`{}` is not a valid separator: use at most 4 of letters, digits, `_`, `-` and `.`",
                separator.escape_debug()
            );
            self.problems.add(&place.key("separator"), message);
        }
        let mut servers: Vec<Arc<GatewayServer>> = Vec::new();
        for (index, server) in written.servers.iter().enumerate() {
            let place = servers_place.item(index);
            if let Some(server) = self.gateway_server(server, separator, route, &place) {
                self.differs(&server, &servers, &place);
                servers.push(Arc::new(server));
            }
        }
        self.given_names_differ(&servers, &servers_place);
        Gateway {
            servers,
            discovery: written.discovery,
            always_listed: written.always_listed.iter().map(|name| name.0.clone()).collect(),
            when_server_down: written.when_server_down,
        }
    }

    fn gateway_server(
        &mut self,
        written: &WrittenServer,
        separator: &str,
        gateway: &Route,
        place: &Place,
    ) -> Option<GatewayServer> {
        let ServerSettings { route: called, prefix, path, tools, pin } = written.settings();
        let of_route = match written {
            WrittenServer::Route(_) => place.clone(),
            WrittenServer::Settings(_) => place.key("route"),
        };
        let server = self.server_route(&called, &of_route)?;
        self.callers_fit(gateway, &server, &of_route);
        if server.forward_token {
            let message = format!(
                "the route `{called}` has `forward_token`, but the tokens of a gateway's callers are for the gateway, and go to no \
                 server: give the route a `credential` in its place"
            );
            self.problems.add(&of_route, message);
        }
        let name = server.own_name();
        let prefix = match prefix {
            Some(prefix) => {
                if prefix.len() > limits::GATEWAY_PREFIX_BYTES || !is_name_text(&prefix) {
                    let message = format!(
                        "`{}` is not a valid prefix: use at most {} of letters, digits, `_`, `-` and `.`, or write \"\" for none",
                        prefix.escape_debug(),
                        limits::GATEWAY_PREFIX_BYTES
                    );
                    self.problems.add(&place.key("prefix"), message);
                }
                prefix
            }
            None => {
                let made: String = name
                    .trim_matches('/')
                    .chars()
                    .map(|char| if char.is_ascii() && is_name_text(char.encode_utf8(&mut [0; 4])) { char } else { '-' })
                    .collect();
                if made.is_empty() || made.len() > limits::GATEWAY_PREFIX_BYTES {
                    let message = format!(
                        "the name of the route cannot be a prefix, because it is empty or longer than {} bytes: write `{{route: \
                         NAME, prefix: TEXT}}`",
                        limits::GATEWAY_PREFIX_BYTES
                    );
                    self.problems.add(place, message);
                }
                made
            }
        };
        let below = match path {
            Some(path) if path.is_empty() => String::new(),
            Some(path) => self.prefix(&path, &place.key("path"))?,
            None if server.path.trim_end_matches('/').ends_with("/mcp") => String::new(),
            None => "/mcp".to_owned(),
        };
        // The path of the route is checked where it stands.
        let path = format!("{}{below}", server.path.trim_end_matches('/'));
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let tools = self.selection(&tools, &place.key("tools"));
        let mark = if prefix.is_empty() { String::new() } else { format!("{prefix}{separator}") };
        let shown = if prefix.is_empty() { name.trim_matches('/').to_owned() } else { prefix };
        Some(GatewayServer { route: name.into(), name: shown.into(), mark, path, tools, pin })
    }

    /// The route that a gateway calls `called`.
    fn server_route(&mut self, called: &str, place: &Place) -> Option<Route> {
        let routes = || self.sources.iter().flat_map(|source| &source.file.routes);
        let found = routes()
            .find(|route| route.own_name() == called)
            .or_else(|| routes().find(|route| route.is_called(called)));
        let message = match found.cloned() {
            Some(route) if route.gateway.is_some() => {
                format!("the route `{called}` is a gateway: name the servers that it offers")
            }
            Some(route) if route.carried() == Protocol::Http => {
                format!("the route `{called}` does not carry MCP: write `protocol: mcp` there")
            }
            Some(route) => return Some(route),
            None if self.sources.iter().any(|source| source.left_out.touches("routes")) => return None,
            None => {
                let names: Vec<String> =
                    routes().filter(|route| route.gateway.is_none()).map(Route::own_name).collect();
                let known = suggest::instead(called, names.iter().map(|name| name.trim_matches('/')));
                format!("there is no route `{called}`: define it under `routes`, or name another ({known})")
            }
        };
        self.problems.add(place, message);
        None
    }

    /// Some caller of the gateway must be able to use the server.
    fn callers_fit(&mut self, gateway: &Route, server: &Route, place: &Place) {
        let message = match (&gateway.auth, &server.auth) {
            (_, RouteAuth::None) => return,
            (RouteAuth::None, RouteAuth::Required(_)) => {
                "its route wants to know its callers, but the gateway is open, so nobody could use it: give the gateway the same \
                 `auth.providers`"
            }
            (RouteAuth::Required(of_gateway), RouteAuth::Required(of_server)) => {
                let mut common =
                    of_gateway.providers.iter().filter(|name| of_server.providers.contains(name)).peekable();
                let has_common = common.peek().is_some();
                let decides_by_url = common.find(|name| {
                    let lookup = self.written_provider(name).and_then(|provider| provider.lookup.as_ref());
                    lookup.is_some_and(|lookup| lookup.original_uri || lookup.operation.is_some())
                });
                if let Some(name) = decides_by_url {
                    let message = format!(
                        "the provider `{name}` may decide by the URL or the operation of a request, and those of a gateway are \
                         others: write `original_uri: false` in its `lookup` and take `operation` out, or name another provider in \
                         the gateway"
                    );
                    self.problems.add(place, message);
                    return;
                }
                if has_common {
                    return;
                }
                "its route accepts callers of other providers than the gateway, so nobody could use it: name one of its \
                 `auth.providers` in the gateway"
            }
        };
        self.problems.add(place, message);
    }

    fn selection(&mut self, written: &crate::config::written::gateway::ToolSelection, place: &Place) -> ToolSelection {
        let patterns = |names: &[Name]| names.iter().map(|name| name.0.clone()).collect::<Vec<_>>();
        for (from, to) in &written.rename {
            if to.is_empty() || to.len() > limits::GATEWAY_NAME_BYTES || !is_name_text(to) {
                let message = format!(
                    "`{}` is not a valid name: use 1 to {} of letters, digits, `_`, `-` and `.`",
                    to.escape_debug(),
                    limits::GATEWAY_NAME_BYTES
                );
                self.problems.add(&place.key("rename").key(from), message);
            }
        }
        let mut given: HashMap<&str, &str> = HashMap::new();
        for (from, to) in &written.rename {
            if let Some(other) = given.insert(to, from) {
                let message = format!("gives the name `{to}`, which `{other}` has already: choose another name");
                self.problems.add(&place.key("rename").key(from), message);
            }
        }
        ToolSelection {
            include: written.include.as_deref().map(patterns),
            exclude: patterns(&written.exclude),
            rename: written.rename.clone(),
        }
    }

    /// A server must not be offered twice, and its names must be told apart from those of the servers before.
    fn differs(&mut self, server: &GatewayServer, before: &[Arc<GatewayServer>], place: &Place) {
        for other in before {
            let marks = !server.mark.is_empty() && !other.mark.is_empty();
            let message = if other.route == server.route {
                format!("the route `{}` is named twice: keep one", server.route)
            } else if other.name == server.name {
                format!("has the same name `{}` as another server: give one of them another `prefix`", server.name)
            } else if marks && (server.mark.starts_with(&other.mark) || other.mark.starts_with(&server.mark)) {
                format!(
                    "the prefixes `{}` and `{}` begin alike, so that a name could belong to both: give one of them another `prefix`",
                    other.mark, server.mark
                )
            } else {
                continue;
            };
            self.problems.add(place, message);
        }
    }

    /// Names that the configuration gives must differ, because one of the tools could not be called.
    fn given_names_differ(&mut self, servers: &[Arc<GatewayServer>], place: &Place) {
        let mut given: HashMap<String, &str> = HashMap::new();
        for (index, server) in servers.iter().enumerate() {
            for to in server.tools.rename.values() {
                let whole = format!("{}{to}", server.mark);
                match given.get(&whole) {
                    Some(other) if *other != &*server.name => {
                        let message =
                            format!("gives the name `{whole}`, which a tool of `{other}` has: choose another name");
                        self.problems.add(&place.item(index).key("tools").key("rename"), message);
                    }
                    _ => drop(given.insert(whole, &server.name)),
                }
            }
        }
    }
}
