//! The lists of a gateway: those of its servers, one after the other, without what the caller may not use.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use moka::ops::compute::{CompResult, Op};
use serde_json::json;

use super::caller::{Ask, Caller};
use super::open;
use super::open::{ClientSession, request, session_at, stateless_meta};
use super::own_tools::{is_own_tool, own_tools};
use crate::auth::Permit;
use crate::config::{Discovery, WhenServerDown, limits};
use crate::mcp::{ListItem, ListKind, ListPage, ToolText, encode_text, is_short_form, shown_name};
use crate::proxy::context::rejection::Rejection;
use crate::proxy::gateway_memory::GatewayMemory;
use crate::proxy::gateway_memory::catalog::GatewayNames;
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::server_list::{ListKey, ServerList};
use crate::proxy::gateway_memory::session::ServerSession;
use crate::proxy::snapshot::GatewayServer;
use crate::types::Operation;

/// What a gateway offers of one server to one caller.
pub(super) struct Offer<'a> {
    pub(super) server: &'a GatewayServer,
    permit: Permit,
    list: Arc<ServerList>,
}

/// An item of a list as clients see it.
pub(super) struct Shown<'l> {
    pub(super) server: &'l GatewayServer,
    pub(super) item: &'l ListItem,
    /// The name under which clients know it.
    pub(super) name: String,
    list: &'l ServerList,
    index: usize,
}

impl<'l> Shown<'l> {
    /// Appends the item as clients see it.
    pub(super) fn write(&self, out: &mut String) {
        self.item.write_as(&self.name, out);
    }

    /// The words of a tool.
    pub(super) fn text(&self) -> &'l ToolText {
        &self.list.texts(&self.server.settings.name)[self.index]
    }
}

/// The offers of all servers, and which servers have none because they cannot be reached.
pub(super) struct Offers<'a> {
    pub(super) offers: Vec<Offer<'a>>,
    pub(super) missing: Vec<(&'a GatewayServer, ServerError)>,
}

/// Asks all servers for their lists, at the same time. Servers whose lists the caller may not see are left out.
pub(super) async fn offers<'a>(
    caller: Caller<'a>,
    client: ClientSession<'a>,
    kind: ListKind,
    servers: impl IntoIterator<Item = &'a GatewayServer>,
) -> Offers<'a> {
    let ask = async |server: &'a GatewayServer| {
        let permit = caller.permit(server, [Operation::Method(kind.method())]).ok()?;
        Some((server, permit, server_list(caller, client, server, kind).await))
    };
    let mut found = Offers { offers: Vec::new(), missing: Vec::new() };
    for (server, permit, list) in join_all(servers.into_iter().map(ask)).await.into_iter().flatten() {
        match list {
            Ok(list) => found.offers.push(Offer { server, permit, list }),
            // It offers nothing to this caller.
            Err(ServerError::Denied) => {}
            Err(error) => found.missing.push((server, error)),
        }
    }
    found
}

impl Offer<'_> {
    /// The items that the caller may use, in the order of the server.
    pub(super) fn shown(&self, kind: ListKind) -> impl Iterator<Item = Shown<'_>> {
        let (server, settings) = (self.server, &*self.server.settings);
        self.list.items.iter().enumerate().filter_map(move |(index, item)| {
            let accepted = if settings.pin { self.list.accepted.get(index).and_then(Option::as_ref) } else { None };
            let item = accepted.unwrap_or(item);
            let is_offered = kind != ListKind::Tools || settings.tools.offers(&item.name);
            let name = match kind {
                _ if !is_offered || !server.server.policy.shows(&self.permit, kind.target(&item.name)) => return None,
                ListKind::Tools => shown_name(&settings.mark, settings.tools.given_name(&item.name)).into_owned(),
                ListKind::Prompts => shown_name(&settings.mark, &item.name).into_owned(),
                ListKind::Resources | ListKind::ResourceTemplates => item.name.clone(),
            };
            Some(Shown { server, item, name, list: &self.list, index })
        })
    }
}

impl Offers<'_> {
    /// All items that the caller may use, each name once. A tool or a prompt whose name another server has already is left out, and a
    /// resource is shown under a URI of its own. Also gives the names that several servers have.
    pub(super) fn shown(&self, kind: ListKind) -> (Vec<Shown<'_>>, Vec<String>) {
        let mut seen: HashSet<String> = HashSet::new();
        let (mut all, mut clashes) = (Vec::new(), Vec::new());
        for mut shown in self.offers.iter().flat_map(|offer| offer.shown(kind)) {
            if seen.contains(&shown.name) {
                if matches!(kind, ListKind::Tools | ListKind::Prompts) {
                    clashes.push(shown.name);
                    continue;
                }
                shown.name = own_uri(shown.server, &shown.name);
            }
            seen.insert(shown.name.clone());
            all.push(shown);
        }
        (all, clashes)
    }
}

/// The URI of a resource that belongs to `server` whatever other servers have. The scheme has the server's name in it (RFC 3986
/// section 3.1 allows `+`).
fn own_uri(server: &GatewayServer, uri: &str) -> String {
    format!("{}+{uri}", server.settings.name)
}

/// The server and its own URI in a URI that [`own_uri`] has made.
pub(super) fn of_own_uri<'a, 'u>(servers: &'a [GatewayServer], uri: &'u str) -> Option<(&'a GatewayServer, &'u str)> {
    servers.iter().find_map(|server| Some((server, uri.strip_prefix(&*server.settings.name)?.strip_prefix('+')?)))
}

/// The result of a request for a list. `cursor`: that of the request.
///
/// # Errors
/// A server cannot be reached, and the gateway shall fail then; or the cursor is not one of the gateway's.
pub(super) async fn list(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    kind: ListKind,
    cursor: Option<&str>,
) -> Result<String, Rejection> {
    let offers = offers(caller, client, kind, &caller.gateway.servers).await;
    if caller.gateway.settings.when_server_down == WhenServerDown::Fail
        && let Some((server, error)) = offers.missing.first()
    {
        return Err(error.rejection(&server.settings.name));
    }
    let (mut shown, mut clashes) = offers.shown(kind);
    let searches = kind == ListKind::Tools && caller.gateway.settings.discovery == Discovery::Search;
    if searches {
        let settings = &caller.gateway.settings;
        // The gateway's own tools have these names.
        clashes.extend(shown.iter().map(|shown| &shown.name).filter(|name| is_own_tool(caller.gateway, name)).cloned());
        let is_listed = |name: &str| settings.always_listed.iter().any(|pattern| pattern.matches(name));
        shown.retain(|shown| is_listed(&shown.name) && !is_own_tool(caller.gateway, &shown.name));
    }
    if matches!(kind, ListKind::Tools | ListKind::Prompts) {
        note_names(caller, kind, &shown, &clashes);
    }
    let from = match cursor {
        None => 0,
        Some(cursor) => {
            serde_json::from_str::<String>(cursor).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
                let text = "the cursor is not one of this list: ask for the list from its begin";
                let reason = crate::metrics::RejectionReason::InvalidMessage;
                // With the status that servers send: many clients end their session at any other.
                Rejection::new(reason, text).told_by_error(crate::mcp::INVALID_PARAMS, StatusCode::OK, text)
            })?
        }
    };
    let mut out = format!("{{\"{}\":[", kind.list_key());
    let mut next = None;
    if searches && from == 0 {
        let own = own_tools().map(|tool| tool.to_string());
        out.push_str(&own.join(","));
    }
    for (index, item) in shown.iter().enumerate().skip(from) {
        if !out.ends_with('[') {
            if out.len() > limits::GATEWAY_PAGE_BYTES {
                next = Some(index);
                break;
            }
            out.push(',');
        }
        item.write(&mut out);
    }
    out.push(']');
    if let Some(next) = next {
        out.push_str(&format!(",\"nextCursor\":\"{next}\""));
    }
    let missing: Vec<&str> = offers.missing.iter().map(|(server, _)| &*server.settings.name).collect();
    let mut meta = serde_json::Map::new();
    if !missing.is_empty() {
        meta.insert("mcp-edge/unavailable".to_owned(), json!(missing));
    }
    if !clashes.is_empty() {
        meta.insert("mcp-edge/clashes".to_owned(), json!(clashes));
    }
    if !meta.is_empty() {
        out.push_str(&format!(",\"_meta\":{}", serde_json::Value::Object(meta)));
    }
    if matches!(client, ClientSession::Stateless) {
        let left = |offer: &Offer<'_>| offer.list.ttl.saturating_sub(offer.list.read.elapsed());
        let ttl = if missing.is_empty() { offers.offers.iter().map(left).min() } else { None };
        let ttl = ttl.unwrap_or_default().as_millis();
        out.push_str(&format!(",\"resultType\":\"complete\",\"ttlMs\":{ttl},\"cacheScope\":\"private\""));
    }
    out.push('}');
    Ok(out)
}

/// Notes the names that operators should know of. New clashes are logged.
fn note_names(caller: Caller<'_>, kind: ListKind, shown: &[Shown<'_>], clashes: &[String]) {
    let gateway = &caller.gateway.route.settings.name;
    let short = |shown: &&Shown<'_>| is_short_form(&shown.name);
    let whole = |shown: &Shown<'_>| format!("{}{}", shown.server.settings.mark, shown.item.name);
    let short_forms = shown.iter().filter(short).map(|shown| (shown.name.clone(), whole(shown)));
    let short_forms = short_forms.filter(|(short, whole)| short != whole).take(limits::CATALOG_TOOLS).collect();
    let names = GatewayNames { clashes: clashes.to_vec(), short_forms };
    if caller.edge.gateways.catalog.has_names(gateway, kind, names) {
        for name in clashes {
            log::warn!(
                "gateway {gateway}: several tools or prompts have the name `{name}`, and only the first is offered: give one server a \
                 `prefix`, or `rename` a tool"
            );
        }
    }
}

/// The list of one server: the one that is remembered, as long as it is valid, else a new one. When the server cannot be reached,
/// its last list is shown for a while.
///
/// # Errors
/// The server cannot be reached, and there is no earlier list.
pub(super) async fn server_list(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    kind: ListKind,
) -> Result<Arc<ServerList>, ServerError> {
    let memory = &caller.edge.gateways;
    // Servers may show other tools to clients that say other things about themselves.
    let said = match client {
        ClientSession::Open(session) => session.said(),
        ClientSession::Stateless => b"",
    };
    let own = ListKey { server: server.key, kind, context: Some(caller.identity(server, said)) };
    let public = ListKey { context: None, ..own };
    let mut last = None;
    for key in [public, own] {
        if let Some(known) = memory.lists.get(&key).await {
            if memory.is_valid(server, &known).await {
                return Ok(known);
            }
            last = Some(known);
        }
    }
    let stale = || last.clone().filter(|list| list.read.elapsed() < list.ttl + limits::GATEWAY_LIST_STALE);
    if let Some(error) = left_alone(memory, server, &own).await {
        return stale().ok_or(error);
    }
    let mut failed = None;
    // Requests that come at the same time wait for one attempt.
    let read = memory.lists.entry(own).and_compute_with(async |known| {
        if let Some(known) = known
            && memory.is_valid(server, known.value()).await
        {
            return Op::Nop;
        }
        // Those that waited for an attempt that failed do not try again.
        if let Some(error) = left_alone(memory, server, &own).await {
            failed = Some(error);
            return Op::Nop;
        }
        let shown = stale();
        let again = |list: Arc<ServerList>| (2 * list.took).clamp(limits::GATEWAY_LIST_AGAIN, limits::GATEWAY_LIST);
        let limit = shown.clone().map_or(limits::GATEWAY_LIST, again);
        let reading = tokio::time::timeout(limit, Box::pin(read_list(caller, client, server, kind)));
        match reading.await.unwrap_or(Err(ServerError::Late)) {
            Ok(list) => Op::Put(Arc::new(list)),
            // The server may only be slow. It is not down for other requests.
            Err(ServerError::Late) if shown.is_some() => {
                memory.late_lists.insert(own, ()).await;
                failed = Some(ServerError::Late);
                Op::Nop
            }
            Err(error) => {
                if matches!(error, ServerError::Unreachable | ServerError::Late) {
                    memory.goes_down(server, error.clone()).await;
                }
                if !matches!(error, ServerError::Denied | ServerError::Credential(_)) {
                    memory.has_problem(caller.gateway, server, &error);
                }
                failed = Some(error);
                Op::Nop
            }
        }
    });
    let read = read.await;
    if let Some(error) = failed {
        return stale().ok_or(error);
    }
    let list = match read {
        CompResult::Inserted(entry) | CompResult::ReplacedWith(entry) | CompResult::Unchanged(entry) => {
            entry.into_value()
        }
        CompResult::StillNone(_) | CompResult::Removed(_) => return Err(ServerError::Unreachable),
    };
    if list.is_public {
        memory.lists.insert(public, Arc::clone(&list)).await;
    }
    Ok(list)
}

/// Why the list is not read again for a moment.
async fn left_alone(memory: &GatewayMemory, server: &GatewayServer, list: &ListKey) -> Option<ServerError> {
    let error = memory.is_down(server).await;
    error.or(memory.late_lists.contains_key(list).then_some(ServerError::Late))
}

/// Reads all pages of a list.
async fn read_list(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    kind: ListKind,
) -> Result<ServerList, ServerError> {
    let memory = &caller.edge.gateways;
    let mut session = session_at(caller, client, server).await?;
    let capability = kind.capability();
    let facts = caller.facts(server, &session).await;
    let mut list = ServerList::new(limits::GATEWAY_LIST_TTL, memory.catalog.accepted());
    if facts.is_some_and(|facts| !facts.has(capability)) {
        return Ok(list);
    }
    let (mut cursor, mut pages, mut ttl, mut bytes) = (None::<String>, 0, None, 0);
    let endpoint = loop {
        let page = match read_page(caller, server, &session, kind, cursor.as_deref()).await {
            Err(ServerError::Lost) if pages == 0 => {
                session = open::lost(caller, client, server, &session).await?;
                read_page(caller, server, &session, kind, None).await?
            }
            page => page?,
        };
        let (page, from) = page;
        pages += 1;
        bytes += page.items.iter().map(|item| item.json().len()).sum::<usize>();
        list.items.extend(page.items);
        list.is_public = page.is_public && (list.is_public || pages == 1);
        // The shortest time counts.
        ttl = ttl.into_iter().chain(page.ttl).min();
        cursor = page.next_cursor;
        if cursor.is_none() {
            break from;
        }
        if pages >= limits::GATEWAY_PAGES || bytes > limits::GATEWAY_RESPONSE_BYTES {
            return Err(ServerError::Junk("a list that is too long"));
        }
    };
    list.took = list.read.elapsed();
    list.ttl = ttl.unwrap_or(limits::GATEWAY_LIST_TTL).min(limits::GATEWAY_LIST_TTL_MAX);
    if kind == ListKind::Tools {
        server.server.metrics.calls.learn(list.items.iter().map(|item| item.name.as_str()));
        let (changed, accepted) = memory.catalog.saw(&server.settings.route, endpoint, &list.items);
        for tool in &changed {
            server.server.metrics.changed_tools.inc();
            log::warn!("route {}: the definition of the tool `{tool}` has changed", server.settings.route);
        }
        list.accepted = accepted;
    }
    Ok(list)
}

async fn read_page(
    caller: Caller<'_>,
    server: &GatewayServer,
    session: &ServerSession,
    kind: ListKind,
    cursor: Option<&str>,
) -> Result<(ListPage, SocketAddr), ServerError> {
    let mut members = Vec::new();
    if let Some(cursor) = cursor {
        members.push(format!("\"cursor\":{}", encode_text(cursor)));
    }
    if *session == ServerSession::Stateless {
        members.push(format!("\"_meta\":{{{}}}", stateless_meta()));
    }
    let body: Bytes = request(kind.method(), &format!("{{{}}}", members.join(",")));
    let ask = Ask { method: kind.method(), name: None, body, limit: limits::GATEWAY_LIST };
    let reply = caller.ask(server, session, ask).await?;
    if reply.error_code() == Some(crate::mcp::METHOD_NOT_FOUND.into()) {
        return Ok((ListPage::default(), reply.endpoint));
    }
    let page = ListPage::read(reply.result()?, kind).ok_or(ServerError::Junk("a list that is not one"))?;
    Ok((page, reply.endpoint))
}
