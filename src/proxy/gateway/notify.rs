//! What a client of the era of sessions tells its servers: notifications, answers to their requests, and the end of its session.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::caller::{Ask, Begun, Caller, Sending, fields_of};
use super::open::{ClientSession, session_at};
use crate::config::limits;
use crate::mcp::{INVALID_REQUEST, ServerMark, marked_answer};
use crate::metrics::RejectionReason;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::{GatewaySession, ServerSession};
use crate::proxy::mcp_session::unknown;
use crate::proxy::snapshot::GatewayServer;
use crate::types::Operation;

/// The session at `server`, if there is one.
async fn open_at(caller: Caller<'_>, session: &GatewaySession, server: &GatewayServer) -> Option<ServerSession> {
    let later = caller.edge.gateways.opened.get(&(session.key, server.mark)).await;
    later.or_else(|| session.at(server.mark).cloned()).filter(|open| *open != ServerSession::Stateless)
}

/// Passes a notification or an answer of the client on. An answer goes to the server that has asked; a notification, to all servers
/// with which the client has a session. `method`: that of a notification.
///
/// # Errors
/// The message is an answer, and no server has asked.
pub(super) async fn pass_on(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    method: Option<&str>,
    message: &Bytes,
) -> Result<(), Rejection> {
    let ClientSession::Open(session) = client else { return Ok(()) };
    // Nothing else that a client sends has the marked id or token of a server.
    if method.is_none_or(|method| method == "notifications/progress")
        && let Some((mark, own)) = marked_answer(message)
    {
        return answer(caller, session, mark, method, own.into()).await;
    }
    let Some(method) = method else {
        let text = "no server of this gateway has sent a request with this id";
        return Err(Rejection::of_message(RejectionReason::InvalidMessage, INVALID_REQUEST, text));
    };
    if !method.starts_with("notifications/") {
        let text = "a request needs an id";
        return Err(Rejection::of_message(RejectionReason::InvalidMessage, INVALID_REQUEST, text));
    }
    // The gateway itself has told the servers when it opened the sessions.
    if method == "notifications/initialized" {
        return Ok(());
    }
    let tell = async |server| {
        let open = open_at(caller, session, server).await?;
        let ask = Ask { method, name: None, body: message.clone(), limit: limits::GATEWAY_OPEN };
        caller.ask(server, &open, ask).await.err().map(|error| (server, error))
    };
    for (server, error) in join_all(caller.gateway.servers.iter().map(tell)).await.into_iter().flatten() {
        note(caller, server, &error);
    }
    Ok(())
}

/// A notification that a server does not get is lost, and nobody else would tell of that.
fn note(caller: Caller<'_>, server: &GatewayServer, error: &ServerError) {
    if !matches!(error, ServerError::Denied) {
        log::info!("gateway {}: the server `{}` {error}", caller.gateway.route.settings.name, server.settings.name);
    }
}

async fn answer(
    caller: Caller<'_>,
    session: &GatewaySession,
    mark: ServerMark,
    method: Option<&str>,
    body: Bytes,
) -> Result<(), Rejection> {
    let server = caller.gateway.servers.iter().find(|server| server.mark == mark).ok_or_else(unknown)?;
    let open = open_at(caller, session, server).await.ok_or_else(unknown)?;
    let operation = method.map_or(Operation::Answer, Operation::Method);
    let permit =
        caller.permit(server, [operation]).map_err(|_| ServerError::Denied.rejection(&server.settings.name))?;
    let ask = Ask { method: method.unwrap_or_default(), name: None, body, limit: limits::GATEWAY_OPEN };
    let refused = match caller.ask_as(permit, server, &open, ask).await {
        Ok(reply) if reply.status.is_success() => return Ok(()),
        Ok(reply) => ServerError::Status(reply.status).rejection(&server.settings.name),
        Err(error) => error.rejection(&server.settings.name),
    };
    // An answer that was not accepted has the status of an error (MCP 2025-11-25, "Sending Messages to the Server").
    let (code, message) = (refused.rpc_code(), refused.message.clone());
    Err(refused.told_by_error(code, StatusCode::BAD_GATEWAY, message))
}

/// Tells all servers that log how severe messages must be for this client.
///
/// # Errors
/// Servers log, and none of them takes the level.
pub(super) async fn set_log_level(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    message: &Bytes,
) -> Result<(), Rejection> {
    let set = async |server: &GatewayServer| {
        let session = session_at(caller, client, server).await?;
        let facts = caller.facts(server, &session).await;
        if session == ServerSession::Stateless || facts.is_some_and(|facts| !facts.has("logging")) {
            return Ok(false);
        }
        let ask = Ask { method: "logging/setLevel", name: None, body: message.clone(), limit: limits::GATEWAY_OPEN };
        caller.ask(server, &session, ask).await?.result().map(|_| true)
    };
    let servers = &caller.gateway.servers;
    let set = join_all(servers.iter().map(set)).await;
    if set.iter().any(|set| matches!(set, Ok(true))) {
        return Ok(());
    }
    let failed = servers.iter().zip(set).find_map(|(server, set)| Some((server, set.err()?)));
    match failed {
        Some((server, error)) => Err(error.rejection(&server.settings.name)),
        None => Ok(()),
    }
}

/// Ends the client's session at the gateway and at all servers.
pub(super) async fn end(caller: Caller<'_>, session: &GatewaySession) {
    let memory = &caller.edge.gateways;
    memory.ended.insert(session.key, ()).await;
    let end = async |server: &GatewayServer| {
        let open = open_at(caller, session, server).await?;
        memory.opened.invalidate(&(session.key, server.mark)).await;
        if !matches!(open, ServerSession::Open { target: Some(_), .. }) {
            return None;
        }
        let permit = caller.permit(server, [Operation::Request]).ok()?;
        let fields = fields_of(&open, "", None);
        let sending = Sending { method: Method::DELETE, fields, body: Bytes::new(), repeats: true };
        let until = Instant::now() + limits::GATEWAY_OPEN;
        let begun = timeout_at(until, caller.begin(permit, server, &open, &sending, until));
        let Begun { link, .. } = begun.await.ok()?.ok()?;
        link.release();
        Some(())
    };
    join_all(caller.gateway.servers.iter().map(end)).await;
    memory.params.invalidate(&session.key).await;
}
