//! Which server a name, a URI or a task of a gateway belongs to.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::caller::{Ask, Caller};
use super::lists::{Shown, of_own_uri, offers};
use super::open::{ClientSession, request, session_at, stateless_meta};
use crate::config::limits;
use crate::mcp::{ListKind, ServerFacts, encode_text, is_short_form, shown_name};
use crate::proxy::context::rejection::Rejection;
use crate::proxy::gateway_memory::session::ServerSession;
use crate::proxy::snapshot::GatewayServer;

/// A server, and what it calls the thing that a client has named.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) server: GatewayServer,
    pub(super) name: String,
}

/// The tool or prompt that clients know as `shown`. Most names say themselves where they belong, and no list is needed.
///
/// # Errors
/// A server cannot be reached that may have it, and that comes before the one that has it.
pub(super) async fn named(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    kind: ListKind,
    shown: &str,
) -> Result<Option<Found>, Rejection> {
    let may_have = |server: &&GatewayServer| !is_marked(server) || shown.starts_with(&server.settings.mark);
    let candidates: Vec<&GatewayServer> = caller.gateway.servers.iter().filter(may_have).collect();
    let direct = match candidates.as_slice() {
        [] => return Ok(None),
        [only] => Some(own_name(only, kind, shown)),
        _ => None,
    };
    if let Some(found) = &direct
        && !is_short_form(shown)
    {
        return Ok(found.clone());
    }
    // Only the lists can tell.
    let offers = offers(caller, client, kind, candidates.iter().copied()).await;
    let (all, _) = offers.shown(kind);
    let listed = all.into_iter().find(|item| item.name == shown);
    let place = |server: &GatewayServer| candidates.iter().position(|other| other.mark == server.mark);
    let found_at = listed.as_ref().map_or(Some(candidates.len()), |item| place(item.server));
    // Which server gets a call must not depend on which one can be reached.
    match offers.missing.iter().find(|(server, _)| place(server) < found_at) {
        Some((server, error)) => Err(error.rejection(&server.settings.name)),
        None => {
            let listed = listed.map(|item| Found { server: item.server.clone(), name: item.item.name.clone() });
            Ok(listed.or(direct.flatten()))
        }
    }
}

fn is_marked(server: &GatewayServer) -> bool {
    !server.settings.mark.is_empty()
}

/// What `server` calls the tool or prompt `shown`. `None`: the gateway offers no such tool of it.
fn own_name(server: &GatewayServer, kind: ListKind, shown: &str) -> Option<Found> {
    let given = shown.strip_prefix(&server.settings.mark)?;
    let tools = &server.settings.tools;
    let name = if kind == ListKind::Tools { tools.own_name(given)? } else { given };
    let is_offered = kind != ListKind::Tools || tools.offers(name);
    // A name that does not fit is shown in its short form only.
    let is_shown = shown_name(&server.settings.mark, given) == shown;
    (is_offered && is_shown).then(|| Found { server: server.clone(), name: name.to_owned() })
}

/// The server that has the resource `uri`: the one that lists it, or that has a template for it, or the only one that has resources
/// at all.
///
/// # Errors
/// Nobody has it, and a server cannot be reached that may.
pub(super) async fn resource(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    uri: &str,
) -> Result<Option<Found>, Rejection> {
    if let [only] = caller.gateway.servers.as_slice() {
        return Ok(Some(Found { server: only.clone(), name: uri.to_owned() }));
    }
    let known = Resources::of(caller, client).await;
    match (known.find(caller, uri), known.missing) {
        (None, Some(rejection)) => Err(rejection),
        (found, _) => Ok(found),
    }
}

/// The servers of several resources. Those that nobody has are left out.
pub(super) async fn resources<'u>(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    uris: &[&'u str],
) -> Vec<(&'u str, Found)> {
    if uris.is_empty() {
        return Vec::new();
    }
    let known = Resources::of(caller, client).await;
    uris.iter().filter_map(|uri| Some((*uri, known.find(caller, uri)?))).collect()
}

/// Where the resources of a gateway are, for one caller.
struct Resources {
    /// By their URIs as clients know them, which may be others than the servers' own.
    listed: HashMap<String, Found>,
    templates: Vec<(String, GatewayServer)>,
    /// The only server that has resources: it may have some that it does not list.
    only: Option<GatewayServer>,
    /// What a client is told of a server that cannot be reached.
    missing: Option<Rejection>,
}

impl Resources {
    async fn of(caller: Caller<'_>, client: ClientSession<'_>) -> Self {
        let servers = &caller.gateway.servers;
        let lists = offers(caller, client, ListKind::Resources, servers).await;
        let found = |item: Shown<'_>| {
            let own = Found { server: item.server.clone(), name: item.item.name.clone() };
            (item.name, own)
        };
        let listed = lists.shown(ListKind::Resources).0.into_iter().map(found).collect();
        let missing = lists.missing.first().map(|(server, error)| error.rejection(&server.settings.name));
        let lists = offers(caller, client, ListKind::ResourceTemplates, servers).await;
        let templates = lists.shown(ListKind::ResourceTemplates).0.into_iter();
        let templates = templates.map(|item| (item.item.name.clone(), item.server.clone())).collect();
        let mut with_resources = Vec::new();
        for server in servers {
            if let Ok(session) = session_at(caller, client, server).await
                && caller.facts(server, &session).await.is_none_or(|facts| facts.has("resources"))
            {
                with_resources.push(server);
            }
        }
        let only = match with_resources.as_slice() {
            [only] => Some((*only).clone()),
            _ => None,
        };
        Self { listed, templates, only, missing }
    }

    fn find(&self, caller: Caller<'_>, uri: &str) -> Option<Found> {
        if let Some(found) = self.listed.get(uri) {
            return Some(found.clone());
        }
        let fits = |(template, _): &&(String, GatewayServer)| template == uri || fits_template(template, uri);
        if let Some((_, server)) = self.templates.iter().find(fits) {
            return Some(Found { server: server.clone(), name: uri.to_owned() });
        }
        // What is not listed may be addressed in the same way as what is listed twice.
        if let Some((server, own)) = of_own_uri(&caller.gateway.servers, uri) {
            return Some(Found { server: server.clone(), name: own.to_owned() });
        }
        Some(Found { server: self.only.clone()?, name: uri.to_owned() })
    }
}

/// True when `uri` can come from the template (RFC 6570): its fixed parts stand in it in their order.
fn fits_template(template: &str, uri: &str) -> bool {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else { return false };
        parts.push(before);
        rest = after;
    }
    let (Some(first), last) = (parts.first(), rest) else { return false };
    let Some(mut inside) = uri.strip_prefix(first).and_then(|uri| uri.strip_suffix(last)) else { return false };
    for part in &parts[1..] {
        let Some(at) = inside.find(part) else { return false };
        inside = &inside[at + part.len()..];
    }
    true
}

/// The server that has the task `id`. It is asked for among all servers that have tasks, and remembered.
pub(super) async fn task<'a>(caller: Caller<'a>, client: ClientSession<'a>, id: &str) -> Option<Found> {
    let servers = &caller.gateway.servers;
    let found = |server: &GatewayServer| Found { server: server.clone(), name: id.to_owned() };
    if let [only] = servers.as_slice() {
        return Some(found(only));
    }
    let memory = &caller.edge.gateways;
    let first = servers.first()?;
    let key = (caller.identity(first, b""), id.to_owned());
    if let Some(mark) = memory.tasks.get(&key).await {
        return servers.iter().find(|server| server.mark == mark).map(found);
    }
    let has = async |server: &'a GatewayServer| {
        let session = session_at(caller, client, server).await.ok()?;
        let has_tasks = |facts: &ServerFacts| {
            let extensions = facts.capabilities.get("extensions");
            facts.has("tasks") || extensions.is_some_and(|all| all.get("io.modelcontextprotocol/tasks").is_some())
        };
        if caller.facts(server, &session).await.is_some_and(|facts| !has_tasks(&facts)) {
            return None;
        }
        let meta = match session {
            ServerSession::Stateless => format!(",\"_meta\":{{{}}}", stateless_meta()),
            ServerSession::Open { .. } => String::new(),
        };
        let body = request("tasks/get", &format!("{{\"taskId\":{}{meta}}}", encode_text(id)));
        let ask = Ask { method: "tasks/get", name: Some(id), body, limit: limits::GATEWAY_OPEN };
        let reply = caller.ask(server, &session, ask).await.ok()?;
        reply.result().is_ok().then_some(server)
    };
    let server = join_all(servers.iter().map(has)).await.into_iter().flatten().next()?;
    memory.tasks.insert(key, server.mark).await;
    Some(found(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_fit_their_templates() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/123/data", true),
            ("test://template/{id}/data", "test://template/123/other", false),
            ("file:///{+path}", "file:///a/b", true),
            ("a://{x}/b/{y}", "a://1/b/2", true),
            ("a://{x}/b/{y}", "a://1/c/2", false),
            ("a://fixed", "a://fixed", false),
            ("a://{x", "a://1", false),
        ] {
            assert_eq!(fits_template(template, uri), expected, "{template} {uri}");
        }
    }
}
