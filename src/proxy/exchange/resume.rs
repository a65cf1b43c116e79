//! Opens a session on another replica when its own is lost (opt-in: `sessions: {resume: true}`).
//!
//! When the endpoint of a session is gone before a byte of a request was sent, the edge repeats the client's own `initialize`
//! on another endpoint, and sends the session's requests there from then on. What the lost replica knew of the session is
//! lost. The `initialize` travels in the id of the session, so any edge with the key can do that. One that is too long for the id stays
//! in the memory of the edge that saw it; at other edges, or when it is forgotten, the client gets a 404, as without this option.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use super::own;
use crate::config::limits;
use crate::mcp::{SessionTarget, negotiated_version, pack, response_of, unpack};
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{CallKind, MessageFields, Outgoing, OutgoingBody};
use crate::proxy::context::opened_session::OpenSession;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::edge::Edge;
use crate::proxy::mcp_session::{SESSION_HEADER, unknown};
use crate::proxy::resumptions::Resumptions;
use crate::proxy::snapshot::ServerContext;
use crate::proxy::{credential, endpoint};
use crate::upstream::Endpoint;

/// True for requests that can go on in a session without a past. The end of a session (DELETE) cannot: the session has ended
/// already.
pub(crate) fn is_possible(open: &OpenSession, kind: CallKind) -> bool {
    !open.legacy && kind != CallKind::Bare
}

/// Moves the session `open` to another endpoint. Requests that come at the same time wait for one attempt.
///
/// # Errors
/// The session cannot be opened again. The client has to initialize.
pub(crate) async fn resume(
    edge: &Edge,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &Arc<ServerContext>,
    open: &mut OpenSession,
) -> Result<Arc<Endpoint>, Rejection> {
    let Resumptions { messages, moved, streams, .. } = &edge.resumptions;
    let message = match unpack(&open.said).filter(|said| !said.is_empty()) {
        Some(said) => said.into(),
        None => messages.get(&open.sealed).await.ok_or_else(unknown)?,
    };
    let lost = open.target.clone();
    // The limit includes the wait for other requests, each of which may fail.
    let until = Instant::now() + limits::RESUME_TIMEOUT;
    // Boxed, because the cache passes the future on by value, several calls deep.
    let attempt = Box::pin(initialize(edge, client, context, route, message, until));
    let moved = moved.entry(open.sealed.clone()).and_compute_with(async |known| match known {
        // Another request has moved the session meanwhile.
        Some(known) if *known.value() != lost => moka::ops::compute::Op::Nop,
        _ => match attempt.await {
            Some(target) => moka::ops::compute::Op::Put(target),
            None => moka::ops::compute::Op::Remove,
        },
    });
    let moved = timeout_at(until, moved).await;
    context.attempt.endpoint = None;
    let moved = match moved.map_err(|_| unknown())? {
        moka::ops::compute::CompResult::Inserted(entry)
        | moka::ops::compute::CompResult::ReplacedWith(entry)
        | moka::ops::compute::CompResult::Unchanged(entry) => entry,
        _ => return Err(unknown()),
    };
    streams.end(&open.sealed);
    open.target = moved.into_value();
    route.upstream.endpoint(open.target.endpoint).ok_or_else(unknown)
}

/// Opens a session on another endpoint with the client's own `initialize`.
async fn initialize(
    edge: &Edge,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &Arc<ServerContext>,
    message: Bytes,
    until: Instant,
) -> Option<SessionTarget> {
    let endpoint = endpoint::choose(client, &context.client, &context.attempt, route).ok()?;
    // The request is in flight there, and its `Host` may depend on the endpoint.
    context.attempt.endpoint = Some(endpoint.begin());
    let request = own::request_as(client, Method::POST).ok()?;
    let fields = MessageFields::default();
    let message_of = |body, session, fields| own::Message { request: &request, session, fields, body, until };
    let (link, answer) =
        succeed(own::send(edge, context, route, &endpoint, message_of(&message, None, &fields)).await)?;
    let id = answer.headers.get(&SESSION_HEADER)?.to_str().ok()?.to_owned();
    let response = own::response(link, &answer, limits::RESUME_RESPONSE_BYTES, None, until).await.ok()??;
    let version = negotiated_version(response_of(&response)?.ok()?.get())?;
    // A signed assertion may be used once.
    credential::acquire(client, &mut context.access, route).await.ok()?;
    let fields = MessageFields { version: HeaderValue::from_str(&version).ok(), ..MessageFields::default() };
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    succeed(own::send(edge, context, route, &endpoint, message_of(&body, Some(&id), &fields)).await)?;
    credential::acquire(client, &mut context.access, route).await.ok()?;
    log::info!("route {}: a session was opened again on {}", route.settings.name, endpoint.address());
    Some(SessionTarget { endpoint: endpoint.address(), id })
}

/// The answer, if it is a success.
fn succeed(sent: Result<(Link, Box<ResponseHeader>), own::Unanswered>) -> Option<(Link, Box<ResponseHeader>)> {
    sent.ok().filter(|(_, head)| matches!(head.status, StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT))
}

/// Keeps the `initialize` of a session that may have to be opened again, if it is too long for the id.
pub(crate) async fn remember(edge: &Edge, downstream: &Downstream<'_>, head: &ResponseHeader, outgoing: &Outgoing) {
    // The request has kept its body only if it may have to be sent again.
    if let OutgoingBody::Held(body) = &outgoing.body
        && !body.bytes.is_empty()
        && downstream.req_header().method == Method::POST
        && outgoing.call.as_ref().is_some_and(|call| call.kind == CallKind::Initialize)
        && pack(&body.bytes).is_none()
        && let Some(sealed) = head.headers.get(&SESSION_HEADER).and_then(|id| id.to_str().ok())
    {
        edge.resumptions.remember(sealed.to_owned(), body.bytes.clone()).await;
    }
}
