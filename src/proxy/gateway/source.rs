//! The stream of one server, as a part of the stream of a gateway's client.

use std::future::poll_fn;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::caller::{Begun, Caller, Sending, fields_of};
use super::open::{ClientSession, lost, session_at, stateless_meta};
use super::wanted::{LISTS, Wanted};
use crate::config::limits;
use crate::mcp::{EventRewrite, Verdict};
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::ServerSession;
use crate::proxy::headers;
use crate::proxy::snapshot::GatewayServer;
use crate::types::Operation;

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
    let mut is_first = true;
    loop {
        let begun = Instant::now();
        match Box::pin(hear(caller, client, server, wanted, &sender, is_first)).await {
            Err(ServerError::Denied | ServerError::NoSessions | ServerError::Forgotten) => return,
            Ok(Over::HasNone) => return,
            Ok(Over::Ended) | Err(_) => {}
        }
        is_first = false;
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
    is_first: bool,
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
            let Some(body) = listen_body(server, wanted) else { return Ok(Over::HasNone) };
            (Method::POST, fields_of(&session, method, None), body, Operation::Method(method))
        }
    };
    let permit = caller.permit(server, [operation]).map_err(|_| ServerError::Denied)?;
    let sending = Sending { method, fields, body, repeats: true };
    let until = Instant::now() + server.server.upstream.settings().timeouts.response.0;
    let begun = timeout_at(until, caller.begin(permit, server, &session, &sending, until)).await;
    let Begun { mut link, head, guard: _guard } = match begun.map_err(|_| ServerError::Late)? {
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
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::NOT_FOUND => {
            return Ok(Over::HasNone);
        }
        // A server may still have the stream that the client has left.
        status if !status.is_success() => return Err(ServerError::Status(status)),
        _ if !headers::is_of_type(&head.headers, headers::EVENT_STREAM) => return Ok(Over::HasNone),
        _ => {}
    }
    let listener = caller.edge.gateways.listens(server);
    if listener.is_first || !is_first {
        // What has changed before the stream was open was not heard.
        caller.edge.gateways.heard_change(server.key).await;
    }
    let mut events = EventRewrite::new(limits::GATEWAY_EVENT_BYTES);
    while let Some(piece) = poll_fn(|cx| link.poll_body(cx)).await? {
        let mut found = Vec::new();
        let mut judge = |_: &str, data: &[u8]| {
            found.extend(heard(server, &session, wanted, data));
            Verdict::Keep
        };
        events.push(&piece, &mut Vec::new(), &mut judge).map_err(|_| ServerError::Junk("an event that is too long"))?;
        for heard in found {
            if let Heard::Changed(_) = heard {
                caller.edge.gateways.heard_change(server.key).await;
            }
            if sender.send(heard).await.is_err() {
                return Ok(Over::HasNone);
            }
        }
    }
    Ok(Over::Ended)
}

/// The `subscriptions/listen` for one server. `None`: it has nothing that the client wants to hear of.
fn listen_body(server: &GatewayServer, wanted: &Wanted) -> Option<Bytes> {
    let own = wanted.resources.iter().filter(|resource| resource.server == server.mark);
    let own: Vec<&str> = own.map(|resource| resource.own.as_str()).collect();
    let filter = wanted.filter(&own);
    if filter.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    let meta = wanted.meta.clone().unwrap_or_else(|| format!("{{{}}}", stateless_meta()));
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
