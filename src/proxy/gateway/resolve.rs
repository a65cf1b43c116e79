//! Which server a name, a URI or a task of a gateway belongs to.

use futures_util::future::join_all;

use super::caller::{Ask, Caller};
use super::lists::{of_own_uri, offers};
use super::open::{ClientSession, request, session_at, stateless_meta};
use crate::config::limits;
use crate::mcp::{ListKind, ServerFacts, encode_text, is_short_form, shown_name};
use crate::proxy::gateway_memory::session::ServerSession;
use crate::proxy::snapshot::GatewayServer;

/// A server, and what it calls the thing that a client has named.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) server: GatewayServer,
    pub(super) name: String,
}

/// The tool or prompt that clients know as `shown`. Most names say themselves where they belong, and no list is needed.
pub(super) async fn named<'a>(
    caller: Caller<'a>,
    client: ClientSession<'a>,
    kind: ListKind,
    shown: &str,
) -> Option<Found> {
    let servers = &caller.gateway.servers;
    let marked = servers.iter().find(|server| is_marked(server) && shown.starts_with(&server.settings.mark));
    let plain = servers.iter().filter(|server| !is_marked(server));
    let only = |server: &'a GatewayServer| own_name(server, kind, shown);
    let direct = match (marked, plain.clone().count()) {
        (Some(server), 0) => Some(only(server)),
        (None, 1) => plain.clone().next().map(only),
        (None, 0) => return None,
        _ => None,
    };
    if let Some(found) = &direct
        && !is_short_form(shown)
    {
        return found.clone();
    }
    // Only the lists can tell.
    let candidates = marked.into_iter().chain(plain);
    let offers = offers(caller, client, kind, candidates).await;
    let (all, _) = offers.shown(kind);
    let listed = all.into_iter().find(|item| item.name == shown);
    listed.map(|item| Found { server: item.server.clone(), name: item.item.name.clone() }).or(direct.flatten())
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
pub(super) async fn resource<'a>(caller: Caller<'a>, client: ClientSession<'a>, uri: &str) -> Option<Found> {
    let servers = &caller.gateway.servers;
    let found = |server: &GatewayServer| Found { server: server.clone(), name: uri.to_owned() };
    if let [only] = servers.as_slice() {
        return Some(found(only));
    }
    let lists = offers(caller, client, ListKind::Resources, servers).await;
    // Under the URI as clients know it, which may be another one than the server's own.
    if let Some(item) = lists.shown(ListKind::Resources).0.into_iter().find(|item| item.name == uri) {
        return Some(Found { server: item.server.clone(), name: item.item.name.clone() });
    }
    let lists = offers(caller, client, ListKind::ResourceTemplates, servers).await;
    let templates = lists.shown(ListKind::ResourceTemplates).0;
    if let Some(item) = templates.into_iter().find(|item| item.name == uri || fits_template(&item.name, uri)) {
        return Some(found(item.server));
    }
    // What is not listed may be addressed in the same way as what is listed twice.
    if let Some((server, uri)) = of_own_uri(servers, uri) {
        return Some(Found { server: server.clone(), name: uri.to_owned() });
    }
    // A server may have resources that it does not list.
    let mut with_resources = Vec::new();
    for server in servers {
        if let Ok(session) = session_at(caller, client, server).await {
            let facts = caller.edge.gateways.facts(server, &session).await;
            if facts.is_none_or(|facts| facts.has("resources")) {
                with_resources.push(server);
            }
        }
    }
    match with_resources.as_slice() {
        [only] => Some(found(only)),
        _ => None,
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
    let key = (caller.identity(b""), id.to_owned());
    if let Some(mark) = memory.tasks.get(&key).await {
        return servers.iter().find(|server| server.mark == mark).map(found);
    }
    let has = async |server: &'a GatewayServer| {
        let session = session_at(caller, client, server).await.ok()?;
        let has_tasks = |facts: &ServerFacts| {
            let extensions = facts.capabilities.get("extensions");
            facts.has("tasks") || extensions.is_some_and(|all| all.get("io.modelcontextprotocol/tasks").is_some())
        };
        if memory.facts(server, &session).await.is_some_and(|facts| !has_tasks(&facts)) {
            return None;
        }
        let meta = match session {
            ServerSession::Stateless => format!(",\"_meta\":{{{}}}", stateless_meta(None)),
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
