//! Opens sessions at servers, or finds out that they need none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::caller::{Ask, Caller, STATELESS_VERSION};
use crate::config::limits;
use crate::mcp::{METHOD_NOT_FOUND, ServerFacts, ServerMark, SessionTarget};
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::{GatewaySession, ServerSession, SessionKey, VERSIONS, known_version};
use crate::proxy::snapshot::GatewayServer;
use crate::types::Operation;

/// The codes of servers that do not know `initialize`, or none of its versions (MCP 2026-07-28, "Versioning").
const NO_METHOD: i64 = METHOD_NOT_FOUND as i64;
const UNSUPPORTED_VERSION: i64 = -32022;

/// The session of a client at the gateway, if its revision has sessions.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClientSession<'a> {
    Open(&'a GatewaySession),
    Stateless,
}

/// A request of the gateway itself. Each has an id of its own: several may be under way in one session.
pub(super) fn request(method: &str, params: &str) -> Bytes {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(r#"{{"jsonrpc":"2.0","id":"mcp-edge-{number}","method":"{method}","params":{params}}}"#).into()
}

/// The members of `_meta` that each request without a session needs (MCP 2026-07-28, "Overview", `_meta`). `client`: what the
/// client's `initialize` said, if it said something. A client of the era of sessions cannot answer requests of a server that come in
/// results, so it has no capabilities here.
pub(super) fn stateless_members(client: Option<&str>) -> [(&'static str, String); 3] {
    let said: Value = client.and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default();
    let info = said.get("clientInfo").filter(|info| info.is_object()).cloned().unwrap_or_else(own_info);
    [
        ("io.modelcontextprotocol/protocolVersion", format!("\"{STATELESS_VERSION}\"")),
        ("io.modelcontextprotocol/clientInfo", info.to_string()),
        ("io.modelcontextprotocol/clientCapabilities", "{}".to_owned()),
    ]
}

/// The same for requests of the gateway itself, as members of an object.
pub(super) fn stateless_meta() -> String {
    stateless_members(None).map(|(key, value)| format!("\"{key}\":{value}")).join(",")
}

/// The name and the version of the edge.
pub(super) fn own_info() -> Value {
    json!({"name": "mcp-edge", "version": env!("CARGO_PKG_VERSION")})
}

/// `initialize` of the gateway itself, for clients that do not initialize. It offers the server nothing that the client could not
/// do.
fn own_params() -> String {
    json!({"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": own_info()}).to_string()
}

/// The session at `server` that requests of this client belong to. It is opened if there is none. Requests that need it at the same
/// time wait for one attempt.
///
/// # Errors
/// There is none, and none can be opened.
pub(super) async fn session_at(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
) -> Result<ServerSession, ServerError> {
    let gateways = &caller.edge.gateways;
    if matches!(client, ClientSession::Stateless) && gateways.is_stateless(server).await {
        return Ok(ServerSession::Stateless);
    }
    let key = key_of(caller, client, server);
    if let Some(known) = gateways.opened.get(&key).await {
        return Ok(known);
    }
    if let ClientSession::Open(session) = client
        && let Some(known) = session.at(server.mark)
    {
        return Ok(known.clone());
    }
    open_once(caller, client, server, key).await
}

/// Stands for the session of this client at `server` in the memory of the edge.
fn key_of(caller: Caller<'_>, client: ClientSession<'_>, server: &GatewayServer) -> (SessionKey, ServerMark) {
    match client {
        ClientSession::Open(session) => (session.key, server.mark),
        ClientSession::Stateless => (caller.identity(server, b""), server.mark),
    }
}

/// Opens a session, unless another request is about to: then it waits for that one.
async fn open_once(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    key: (SessionKey, ServerMark),
) -> Result<ServerSession, ServerError> {
    let opening = async { open(caller, client, server).await.map(|(session, _)| session) };
    let opened = caller.edge.gateways.opened.try_get_with(key, Box::pin(opening));
    opened.await.map_err(|error| (*error).clone())
}

/// The session of this client at `server` is lost: the next request opens another one.
pub(super) async fn lost(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    lost: &ServerSession,
) -> Result<ServerSession, ServerError> {
    let gateways = &caller.edge.gateways;
    let key = key_of(caller, client, server);
    // Another request may have opened one meanwhile.
    if gateways.opened.get(&key).await.is_some_and(|known| known == *lost) {
        gateways.opened.invalidate(&key).await;
    }
    open_once(caller, client, server, key).await
}

/// Opens a session at `server`, or finds out that it needs none, and what the server says about itself.
///
/// # Errors
/// The server cannot be reached, or speaks no protocol version that fits.
pub(super) async fn open(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
) -> Result<(ServerSession, Arc<ServerFacts>), ServerError> {
    let gateways = &caller.edge.gateways;
    // A server that gives no answer holds up one client and not all.
    if let Some(error) = gateways.is_down(server).await {
        return Err(error);
    }
    let opened = match client {
        ClientSession::Open(_) if gateways.is_sessionless(server).await => discover(caller, server).await,
        ClientSession::Open(session) => {
            let params = match session.params() {
                Some(params) => params.into(),
                None => gateways.params.get(&session.key).await.ok_or(ServerError::Forgotten)?,
            };
            match initialize(caller, server, &params, Operation::Method("initialize")).await {
                Err(ServerError::NoSessions) => {
                    let found = discover(caller, server).await.map_err(|_| ServerError::NoSessions)?;
                    gateways.has_no_sessions(server).await;
                    Ok(found)
                }
                // The server may have refused what this client says about itself. Others are not affected.
                Err(error @ (ServerError::Refused(_) | ServerError::Status(StatusCode::BAD_REQUEST))) => {
                    discover(caller, server).await.map_err(|_| error)
                }
                opened => opened,
            }
        }
        ClientSession::Stateless => match discover(caller, server).await {
            Err(ServerError::Status(_) | ServerError::Refused(_) | ServerError::Junk(_)) => {
                initialize(caller, server, &own_params(), Operation::Request).await
            }
            opened => opened,
        },
    };
    if let Err(error @ (ServerError::Late | ServerError::Unreachable)) = &opened {
        gateways.goes_down(server, error.clone()).await;
    }
    let (session, facts) = opened?;
    let facts = Arc::new(facts);
    gateways.said(server, &session, caller.identity(server, b""), Arc::clone(&facts)).await;
    Ok((session, facts))
}

/// Opens a session (MCP 2025-11-25, "Lifecycle"). `operation`: what the caller must be allowed to do for that. A client that does not
/// initialize itself needs no right to.
async fn initialize(
    caller: Caller<'_>,
    server: &GatewayServer,
    params: &str,
    operation: Operation<'_>,
) -> Result<(ServerSession, ServerFacts), ServerError> {
    let permit = caller.permit(server, [operation]).map_err(|_| ServerError::Denied)?;
    let unopened = ServerSession::Open { version: VERSIONS[0], target: None };
    let body = request("initialize", params);
    let ask = Ask { method: "initialize", name: None, body, limit: limits::GATEWAY_OPEN };
    let reply = caller.ask_as(permit, server, &unopened, ask).await?;
    let result = match reply.result() {
        Ok(result) => result,
        // A server without sessions refuses it in one of these ways (MCP 2026-07-28, "Versioning", compatibility matrix).
        Err(_) if matches!(reply.error_code(), Some(NO_METHOD | UNSUPPORTED_VERSION)) => {
            return Err(ServerError::NoSessions);
        }
        Err(ServerError::Status(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => {
            return Err(ServerError::NoSessions);
        }
        Err(error) => return Err(error),
    };
    let facts =
        ServerFacts::of_initialize(result).ok_or(ServerError::Junk("an answer to `initialize` that is not one"))?;
    let version = facts.version.as_deref().and_then(known_version);
    let version = version.ok_or(ServerError::Junk("a protocol version that the edge does not know"))?;
    let target = reply.session_id().map(|id| SessionTarget { endpoint: reply.endpoint, id: id.to_owned() });
    let session = ServerSession::Open { version, target };
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let ask = Ask { method: "notifications/initialized", name: None, body, limit: limits::GATEWAY_OPEN };
    let told = caller.ask_itself(server, &session, ask).await?;
    if !told.status.is_success() {
        return Err(ServerError::Status(told.status));
    }
    Ok((session, facts))
}

/// Asks a server of the era without sessions what it is (MCP 2026-07-28, "Discovery").
async fn discover(caller: Caller<'_>, server: &GatewayServer) -> Result<(ServerSession, ServerFacts), ServerError> {
    let body = request("server/discover", &format!(r#"{{"_meta":{{{}}}}}"#, stateless_meta()));
    let ask = Ask { method: "server/discover", name: None, body, limit: limits::GATEWAY_OPEN };
    let reply = caller.ask_itself(server, &ServerSession::Stateless, ask).await?;
    let facts = ServerFacts::of_discover(reply.result()?, STATELESS_VERSION)
        .ok_or(ServerError::Junk("an answer to `server/discover` that is not one"))?;
    Ok((ServerSession::Stateless, facts))
}
