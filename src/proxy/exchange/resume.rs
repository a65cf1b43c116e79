//! Opens a session on another replica when its own is lost (opt-in: `sessions: {resume: true}`).
//!
//! When the endpoint of a session is gone before a byte of a request was sent, the edge repeats the client's own `initialize`
//! on another endpoint, and sends the session's requests there from then on. What the lost replica knew of the session is
//! lost. If the edge does not have the `initialize` any more, the client gets a 404, as without this option.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use serde_json::Value;

use super::pingora_link::{read_head, write_body, write_head};
use super::upstream_head::UpstreamHead;
use crate::config::limits;
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
    let Resumptions { messages, moved } = &edge.resumptions;
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
    let request = message_request(client, context, route)?;
    let mut upstream = send(edge, context, &endpoint, request, message).await?;
    let id = upstream.response_header()?.headers.get(&SESSION_HEADER)?.to_str().ok()?.to_owned();
    let version = negotiated_version(&mut upstream).await?;
    // A signed assertion may be used once.
    credential::acquire(client, &mut context.access, route).await.ok()?;
    let mut request = message_request(client, context, route)?;
    request.insert_header(SESSION_HEADER.clone(), id.as_str()).ok()?;
    request.insert_header(VERSION_HEADER, version).ok()?;
    let initialized = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    send(edge, context, &endpoint, request, initialized).await?;
    credential::acquire(client, &mut context.access, route).await.ok()?;
    log::info!("route {}: a session was opened again on {}", route.settings.name, endpoint.address());
    Some(SessionTarget { endpoint: endpoint.address(), id })
}

/// A POST of the edge itself, with the client's fields and credential.
fn message_request(client: &RequestHeader, context: &RequestContext, route: &RouteContext) -> Option<RequestHeader> {
    let mut request = UpstreamHead::new(client, context, route).to_header(0).ok()?;
    request.set_method(Method::POST);
    request.insert_header(CONTENT_TYPE, "application/json").ok()?;
    request.insert_header(ACCEPT, "application/json, text/event-stream").ok()?;
    // These fields describe the client's own message.
    for name in [VERSION_HEADER, "mcp-method", "mcp-name", "last-event-id"] {
        request.remove_header(name);
    }
    Some(request)
}

/// Sends `body` on a connection of its own. `None` unless the answer is a success.
async fn send(
    edge: &Edge,
    context: &RequestContext,
    endpoint: &Arc<Endpoint>,
    mut request: RequestHeader,
    body: Bytes,
) -> Option<HttpSession> {
    request.insert_header(CONTENT_LENGTH, body.len()).ok()?;
    let (mut upstream, _) = edge.upstreams.get_http_session(endpoint.peer()).await.ok()?;
    write_head(&mut upstream, request).await.ok()?;
    write_body(&mut upstream, body).await.ok()?;
    let status = read_head(&mut upstream).await.ok()?;
    if let Some(credential) = context.access.credential.as_ref().filter(|_| status == StatusCode::UNAUTHORIZED) {
        credential.was_refused();
    }
    matches!(status, StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT).then_some(upstream)
}

/// The protocol version in the response to `initialize`, which is JSON or an event stream.
async fn negotiated_version(upstream: &mut HttpSession) -> Option<String> {
    let version = |message: &[u8]| {
        let message: Value = serde_json::from_slice(message).ok()?;
        Some(message.get("result")?.get("protocolVersion")?.as_str()?.to_owned())
    };
    let content_type = upstream.response_header()?.headers.get(CONTENT_TYPE)?.to_str().ok()?.to_owned();
    let mut body = Vec::new();
    let mut events = EventRewrite::new(limits::RESUME_RESPONSE_BYTES);
    while let Some(piece) = upstream.read_response_body().await.ok()? {
        if content_type.starts_with(headers::EVENT_STREAM) {
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
