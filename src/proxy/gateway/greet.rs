//! What a gateway answers to `initialize` and `server/discover`: what all its servers together can do.

use std::sync::Arc;

use futures_util::future::join_all;
use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::caller::{Caller, STATELESS_VERSION};
use super::open::{ClientSession, open, own_info, session_at};
use crate::config::limits;
use crate::mcp::{INVALID_PARAMS, ServerFacts, SessionOwner};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::{GatewaySession, ServerSession, VERSIONS, known_version};
use crate::proxy::snapshot::GatewayServer;
use crate::types::Operation;

/// The answer to `initialize`.
#[derive(Debug)]
pub(super) struct Greeting {
    /// The id of the new session.
    pub(super) session: HeaderValue,
    pub(super) result: String,
}

/// Who the sessions of a gateway belong to.
pub(super) fn owner<'a>(caller: &Caller<'a>) -> SessionOwner<'a> {
    let principal = caller.context.access.principal().map(|principal| &**principal);
    SessionOwner { route: &caller.gateway.route.settings.name, principal }
}

/// What is known of the servers.
struct Known<'a> {
    /// How the gateway speaks to them, if they can.
    speech: ServerSession,
    facts: Vec<(&'a GatewayServer, Arc<ServerFacts>)>,
    missing: Vec<(&'a GatewayServer, ServerError)>,
}

impl<'a> Known<'a> {
    /// A server that cannot be reached now counts as what it was: clients ask for capabilities only once.
    async fn missing(&mut self, caller: Caller<'_>, server: &'a GatewayServer, error: ServerError) {
        if matches!(error, ServerError::Denied) {
            return;
        }
        caller.edge.gateways.has_problem(caller.gateway, server, &error);
        let is_away = matches!(
            error,
            ServerError::Unreachable | ServerError::Late | ServerError::Status(_) | ServerError::Junk(_)
        );
        let known = if is_away { caller.facts(server, &self.speech).await } else { None };
        self.facts.extend(known.map(|facts| (server, facts)));
        self.missing.push((server, error));
    }

    /// What all of them say.
    ///
    /// # Errors
    /// Servers are missing, and there is no other.
    fn merged(&self) -> Result<ServerFacts, Rejection> {
        if self.facts.is_empty()
            && let Some((server, error)) = self.missing.first()
        {
            return Err(error.rejection(&server.settings.name));
        }
        let known = self.facts.iter().map(|(server, facts)| (&*server.settings.name, &**facts));
        Ok(ServerFacts::merged(known, own_info()))
    }

    fn meta(&self) -> Map<String, Value> {
        let missing: Vec<&str> = self.missing.iter().map(|(server, _)| &*server.settings.name).collect();
        let mut meta = Map::new();
        if !missing.is_empty() {
            meta.insert("mcp-edge/unavailable".to_owned(), json!(missing));
        }
        meta
    }
}

/// Opens sessions at all servers that the caller may use, at the same time. Those that do not answer in time are opened when they
/// are needed.
///
/// # Errors
/// No server can be reached, or the edge cannot seal the session.
pub(super) async fn initialize(caller: Caller<'_>, params: &str) -> Result<Greeting, Rejection> {
    if params.len() > limits::GATEWAY_PARAMS_BYTES {
        let text = format!("`params` of `initialize` are longer than {} bytes", limits::GATEWAY_PARAMS_BYTES);
        return Err(Rejection::of_message(Reason::InvalidMessage, INVALID_PARAMS, text));
    }
    let mut session = GatewaySession::new(params);
    let memory = &caller.edge.gateways;
    if session.params().is_none() {
        memory.params.insert(session.key, params.into()).await;
    }
    let client = ClientSession::Open(&session);
    let opened =
        join_all(usable(&caller, "initialize").map(async |server| (server, open(caller, client, server).await))).await;
    let speech = ServerSession::Open { version: VERSIONS[0], target: None };
    let mut known = Known { speech, facts: Vec::new(), missing: Vec::new() };
    let mut servers = Vec::new();
    for (server, opened) in opened {
        match opened {
            Ok((at, facts)) => {
                let facts = if at == ServerSession::Stateless { Arc::new(facts.for_sessions()) } else { facts };
                servers.push((server.mark, at));
                known.facts.push((server, facts));
            }
            Err(error) => known.missing(caller, server, error).await,
        }
    }
    session.servers = servers;
    let internal = || Rejection::new(Reason::Internal, "the edge cannot seal the session");
    let sealed = session.seal(&caller.context.snapshot.session_keys, owner(&caller)).ok_or_else(internal)?;
    for (mark, at) in session.servers.iter().skip(sealed.servers) {
        memory.opened.insert((session.key, *mark), at.clone()).await;
    }
    let merged = known.merged()?;
    let asked: Value = serde_json::from_str(params).unwrap_or_default();
    let asked = asked.get("protocolVersion").and_then(Value::as_str).and_then(known_version);
    let mut result = json!({
        "protocolVersion": asked.unwrap_or(VERSIONS[0]),
        "capabilities": merged.capabilities,
        "serverInfo": merged.info,
    });
    if let Some(instructions) = merged.instructions {
        result["instructions"] = instructions.into();
    }
    let meta = known.meta();
    if !meta.is_empty() {
        result["_meta"] = meta.into();
    }
    let session = HeaderValue::from_str(&sealed.id).map_err(|_| internal())?;
    Ok(Greeting { session, result: result.to_string() })
}

/// The result of `server/discover` (MCP 2026-07-28, "Discovery").
///
/// # Errors
/// No server can be reached.
pub(super) async fn discover(caller: Caller<'_>) -> Result<String, Rejection> {
    let ask = async |server| {
        let client = ClientSession::Stateless;
        let found = match session_at(caller, client, server).await {
            // What it says may depend on the caller, and may have changed.
            Ok(ServerSession::Stateless) => open(caller, client, server).await.map(|(_, facts)| facts),
            Ok(session) => Ok(caller.facts(server, &session).await.unwrap_or_default()),
            Err(error) => Err(error),
        };
        (server, found)
    };
    let mut known = Known { speech: ServerSession::Stateless, facts: Vec::new(), missing: Vec::new() };
    for (server, found) in join_all(usable(&caller, "server/discover").map(ask)).await {
        match found {
            Ok(facts) => known.facts.push((server, facts)),
            Err(error) => known.missing(caller, server, error).await,
        }
    }
    let merged = known.merged()?;
    let mut meta = known.meta();
    meta.insert("io.modelcontextprotocol/serverInfo".to_owned(), merged.info.unwrap_or_else(own_info));
    let versions: Vec<&str> = std::iter::once(STATELESS_VERSION).chain(VERSIONS).collect();
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": versions,
        "capabilities": merged.capabilities,
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": meta,
    });
    if let Some(instructions) = merged.instructions {
        result["instructions"] = instructions.into();
    }
    Ok(result.to_string())
}

/// The servers at which the caller may call `method`.
fn usable<'a>(caller: &Caller<'a>, method: &'static str) -> impl Iterator<Item = &'a GatewayServer> {
    let caller = *caller;
    let may = move |server: &&GatewayServer| caller.permit(server, [Operation::Method(method)]).is_ok();
    caller.gateway.servers.iter().filter(may)
}
