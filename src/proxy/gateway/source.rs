//! The stream of one server, as a part of the stream of a gateway's client.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::caller::{Caller, fields_of};
use super::open::{ClientSession, lost, session_at, stateless_meta};
use super::resolve;
use super::wanted::{LISTS, Wanted};
use crate::auth::Permit;
use crate::config::limits;
use crate::mcp::{EventRewrite, Verdict};
use crate::proxy::context::call::MessageFields;
use crate::proxy::exchange::own::Link;
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::ServerSession;
use crate::proxy::headers;
use crate::proxy::snapshot::GatewayServer;
use crate::types::{Operation, Target};
use crate::upstream::Endpoint;

/// Something that a server says.
pub(super) enum Heard {
    /// One of its lists has changed.
    Changed(usize),
    /// A message for the client.
    Message(Vec<u8>),
}

/// The stream of one server, opened again whenever it ends.
pub(super) async fn source(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    wanted: &Wanted,
    sender: mpsc::Sender<Heard>,
) {
    let mut pause = limits::GATEWAY_STREAM_PAUSE;
    loop {
        let begun = Instant::now();
        match Box::pin(hear(caller, client, server, wanted, &sender)).await {
            Err(ServerError::Denied | ServerError::NoSessions | ServerError::Forgotten | ServerError::Refused(_)) => {
                return;
            }
            Ok(Over::HasNone) => return,
            Ok(Over::Ended) | Err(_) => {}
        }
        // A server that ends every stream at once is not asked all the time.
        pause = if begun.elapsed() > limits::GATEWAY_STREAM_PAUSE_MAX {
            limits::GATEWAY_STREAM_PAUSE
        } else {
            (pause * 2).min(limits::GATEWAY_STREAM_PAUSE_MAX)
        };
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Why a stream of a server is over.
enum Over {
    Ended,
    /// The server has no such streams.
    HasNone,
}

async fn hear(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    wanted: &Wanted,
    sender: &mpsc::Sender<Heard>,
) -> Result<Over, ServerError> {
    let session = session_at(caller, client, server).await?;
    let (method, fields, body, operation) = match (&session, client) {
        (ServerSession::Open { .. }, ClientSession::Open(_)) => {
            (Method::GET, fields_of(&session, "", None), Bytes::new(), Operation::Request)
        }
        // The session is shared by all requests of the caller, and a server opens one stream for each session.
        (ServerSession::Open { .. }, ClientSession::Stateless) => return Ok(Over::HasNone),
        (ServerSession::Stateless, _) => {
            let method = "subscriptions/listen";
            let body = listen_body(caller, client, server, wanted).await;
            let Some(body) = body else { return Ok(Over::HasNone) };
            (Method::POST, fields_of(&session, method, None), body, Operation::Method(method))
        }
    };
    let permit = caller.permit(server, [operation]).map_err(|_| ServerError::Denied)?;
    let begun = begin(caller, permit, server, &session, method, &fields, &body);
    let (mut link, head, _) = match begun.await {
        Err(ServerError::Lost) => {
            lost(caller, client, server, &session).await?;
            return Ok(Over::Ended);
        }
        begun => begun?,
    };
    match head.status {
        StatusCode::NOT_FOUND if matches!(session, ServerSession::Open { target: Some(_), .. }) => {
            lost(caller, client, server, &session).await?;
            return Ok(Over::Ended);
        }
        status if status.is_server_error() => return Err(ServerError::Status(status)),
        status if !status.is_success() || !headers::is_of_type(&head.headers, headers::EVENT_STREAM) => {
            return Ok(Over::HasNone);
        }
        _ => {}
    }
    // What has changed before the stream was open was not heard.
    caller.edge.gateways.heard_change(server).await;
    let mut events = EventRewrite::new(limits::LIST_BYTES);
    while let Some(piece) = poll_fn(|cx| link.poll_body(cx)).await? {
        let mut found = Vec::new();
        let mut judge = |_: &str, data: &[u8]| {
            found.extend(heard(server, &session, wanted, data));
            Verdict::Keep
        };
        events.push(&piece, &mut Vec::new(), &mut judge).map_err(|_| ServerError::Junk("an event that is too long"))?;
        for heard in found {
            if let Heard::Changed(_) = heard {
                caller.edge.gateways.heard_change(server).await;
            }
            if sender.send(heard).await.is_err() {
                return Ok(Over::HasNone);
            }
        }
    }
    Ok(Over::Ended)
}

async fn begin(
    caller: Caller<'_>,
    permit: Permit,
    server: &GatewayServer,
    session: &ServerSession,
    method: Method,
    fields: &MessageFields,
    body: &Bytes,
) -> Result<(Link, Box<ResponseHeader>, Arc<Endpoint>), ServerError> {
    let limit = server.server.upstream.settings().timeouts.response.0;
    let begun = caller.begin(permit, server, session, method, fields, body);
    tokio::time::timeout(limit, begun).await.map_err(|_| ServerError::Late)?
}

/// The `subscriptions/listen` for one server. `None`: it has nothing that the client wants to hear of.
async fn listen_body(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    wanted: &Wanted,
) -> Option<Bytes> {
    let mut resources = Vec::new();
    for uri in &wanted.resources {
        let found = resolve::resource(caller, client, uri).await;
        resources.extend(found.filter(|found| found.server.mark == server.mark).map(|found| found.name));
    }
    let may = |uri: &String| {
        let target = Target::Resource(uri);
        caller.permit(server, [Operation::Targeted("subscriptions/listen", target)]).is_ok()
    };
    resources.retain(may);
    let filter = wanted.filter(&resources);
    if filter.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    let meta = wanted.meta.clone().unwrap_or_else(|| format!("{{{}}}", stateless_meta(None)));
    let id = wanted.subscription.as_deref().unwrap_or("\"mcp-edge\"");
    Some(
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"_meta":{meta},"notifications":{filter}}}}}"#
        )
        .into(),
    )
}

/// What the client hears of a message that a server has sent on its stream.
fn heard(server: &GatewayServer, session: &ServerSession, wanted: &Wanted, data: &[u8]) -> Option<Heard> {
    let message: Value = serde_json::from_slice(data).ok()?;
    let method = message.get("method").and_then(Value::as_str);
    if let Some(kind) = LISTS.iter().position(|(_, changed, _)| method == Some(changed)) {
        return Some(Heard::Changed(kind)).filter(|_| wanted.lists[kind]);
    }
    match (session, method) {
        // The gateway has acknowledged the subscription itself, and it goes on when the stream of one server ends.
        (ServerSession::Stateless, Some("notifications/subscriptions/acknowledged") | None) => None,
        (ServerSession::Stateless, Some(_)) if wanted.subscription.is_none() => None,
        (ServerSession::Stateless, Some(_)) => Some(Heard::Message(data.to_vec())),
        // Responses do not belong here, and nobody would filter a list in them.
        (ServerSession::Open { .. }, None) => None,
        (ServerSession::Open { .. }, Some(_)) => {
            Some(Heard::Message(server.mark.marked(data).unwrap_or_else(|| data.to_vec())))
        }
    }
}
