//! Opens a session on another replica when its own is lost (opt-in: `sessions: {resume: true}`).
//!
//! When the endpoint of a session is gone before a byte of a request was sent, the edge repeats the client's own `initialize`
//! on another endpoint, and sends the session's requests there from then on. What the lost replica knew of the session is
//! lost. If the edge does not have the `initialize` any more, the client gets a 404, as without this option.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use serde_json::Value;

use super::link::Link;
use super::upstream_head::UpstreamHead;
use crate::config::limits;
use crate::http1::BodyLength;
use crate::mcp::{EventRewrite, SessionTarget, VERSION_HEADER, Verdict};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::CallKind;
use crate::proxy::context::opened_session::OpenSession;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::edge::Edge;
use crate::proxy::mcp_session::{SESSION_HEADER, unknown};
use crate::proxy::resumptions::Resumptions;
use crate::proxy::snapshot::RouteContext;
use crate::proxy::{credential, endpoint, headers};
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
    route: &Arc<RouteContext>,
    open: &mut OpenSession,
) -> Result<Arc<Endpoint>, Rejection> {
    let Resumptions { messages, moved, streams, .. } = &edge.resumptions;
    let message = messages.get(&open.sealed).await.ok_or_else(unknown)?;
    let lost = open.target.clone();
    // Boxed, because the cache passes the future on by value, several calls deep.
    let attempt = Box::pin(initialize(edge, client, context, route, message));
    let moved = moved.entry(open.sealed.clone()).and_compute_with(async |known| match known {
        // Another request has moved the session meanwhile.
        Some(known) if *known.value() != lost => moka::ops::compute::Op::Nop,
        _ => match attempt.await {
            Some(target) => moka::ops::compute::Op::Put(target),
            None => moka::ops::compute::Op::Remove,
        },
    });
    // The limit includes the wait for other requests, each of which may fail.
    let moved = tokio::time::timeout(limits::RESUME_TIMEOUT, moved).await;
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
    route: &Arc<RouteContext>,
    message: Bytes,
) -> Option<SessionTarget> {
    let endpoint = endpoint::choose(client, &context.client, &context.attempt, route).ok()?;
    // The request is in flight there, and its `Host` may depend on the endpoint.
    context.attempt.endpoint = Some(endpoint.begin());
    let mut request = message_request(client)?;
    let (mut link, answer) =
        send(edge, context, route, &endpoint, Message { request: &request, session: None, body: message }).await?;
    let id = answer.headers.get(&SESSION_HEADER)?.to_str().ok()?.to_owned();
    let version = negotiated_version(&mut link, &answer).await?;
    // A signed assertion may be used once.
    credential::acquire(client, &mut context.access, route).await.ok()?;
    request.insert_header(VERSION_HEADER, version).ok()?;
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    send(edge, context, route, &endpoint, Message { request: &request, session: Some(&id), body }).await?;
    credential::acquire(client, &mut context.access, route).await.ok()?;
    log::info!("route {}: a session was opened again on {}", route.settings.name, endpoint.address());
    Some(SessionTarget { endpoint: endpoint.address(), id })
}

/// A POST as the client could have sent it, with its fields.
fn message_request(client: &RequestHeader) -> Option<RequestHeader> {
    let mut request = client.clone();
    request.set_method(Method::POST);
    request.insert_header(CONTENT_TYPE, "application/json").ok()?;
    request.insert_header(ACCEPT, "application/json, text/event-stream").ok()?;
    // These fields describe the client's own message.
    for name in [VERSION_HEADER, "mcp-method", "mcp-name", "last-event-id"] {
        request.remove_header(name);
    }
    Some(request)
}

/// A message of the edge itself.
struct Message<'a> {
    request: &'a RequestHeader,
    /// The id of the session at its replica.
    session: Option<&'a str>,
    body: Bytes,
}

/// Sends a message. `None` unless the answer is a success.
async fn send(
    edge: &Edge,
    context: &RequestContext,
    route: &RouteContext,
    endpoint: &Arc<Endpoint>,
    message: Message<'_>,
) -> Option<(Link, Box<ResponseHeader>)> {
    let Message { request, session, body } = message;
    let (mut link, _) = Link::open(edge, &route.upstream, endpoint).await.ok()?;
    let length = BodyLength::Exact(body.len() as u64);
    let head = UpstreamHead::new(request, context, route, length).of_its_own().with_session(session);
    link.begin(head, body, true).ok()?;
    let head = link.answer().await.ok()?;
    let status = head.status;
    if let Some(credential) = context.access.credential.as_ref().filter(|_| status == StatusCode::UNAUTHORIZED) {
        credential.was_refused();
    }
    matches!(status, StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT).then_some((link, head))
}

/// The protocol version in the response to `initialize`, which is JSON or an event stream.
async fn negotiated_version(link: &mut Link, answer: &ResponseHeader) -> Option<String> {
    let version = |message: &[u8]| {
        let message: Value = serde_json::from_slice(message).ok()?;
        Some(message.get("result")?.get("protocolVersion")?.as_str()?.to_owned())
    };
    let is_event_stream = headers::is_of_type(&answer.headers, headers::EVENT_STREAM);
    let mut body = Vec::new();
    let mut events = EventRewrite::new(limits::RESUME_RESPONSE_BYTES);
    while let Some(piece) = poll_fn(|cx| link.poll_body(cx)).await.ok()? {
        if is_event_stream {
            let mut found = None;
            let mut judge = |_: &str, data: &[u8]| {
                found = found.take().or_else(|| version(data));
                Verdict::Keep
            };
            events.push(&piece, &mut Vec::new(), &mut judge).ok()?;
            if found.is_some() {
                return found;
            }
        } else {
            body.extend_from_slice(&piece);
        }
        if body.len() > limits::RESUME_RESPONSE_BYTES {
            return None;
        }
    }
    version(&body)
}
