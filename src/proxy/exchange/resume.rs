//! Sessions that live on when their replica is lost (opt-in: `sessions: {resume: true}`).
//!
//! When a session's endpoint is gone before a byte of a request was sent, the edge repeats the client's own `initialize` on
//! another endpoint, and from then on takes the session there. What the lost replica knew of the session is lost; the
//! client's calls go on. The messages are kept in memory, so this works on the edge that saw the session begin, as long as
//! the edge lives and the message is not forgotten ([`limits::RESUME_BYTES`]); else the client gets 404 as without it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use moka::future::Cache;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use serde_json::Value;

use super::upstream_head::UpstreamHead;
use crate::config::limits;
use crate::mcp::{EventRewrite, SessionTarget, VERSION_HEADER, Verdict};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::CallKind;
use crate::proxy::edge::Edge;
use crate::proxy::mcp_session::{OpenSession, SESSION_HEADER, unknown};
use crate::proxy::opaque::peer;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::proxy::{credential, exchange};
use crate::upstream::Endpoint;

/// What is remembered of sessions, by the id that the client has.
#[derive(Clone, Debug)]
pub(crate) struct Resumptions {
    messages: Cache<String, Bytes>,
    moved: Cache<String, SessionTarget>,
}

impl Default for Resumptions {
    fn default() -> Self {
        let weight = |id: &String, message: &Bytes| (id.len() + message.len()) as u32;
        Self {
            messages: Cache::builder()
                .max_capacity(limits::RESUME_BYTES)
                .weigher(weight)
                .time_to_idle(limits::RESUME_IDLE)
                .build(),
            moved: Cache::builder().max_capacity(limits::RESUMED_SESSIONS).time_to_idle(limits::RESUME_IDLE).build(),
        }
    }
}

impl Resumptions {
    /// Keeps the `initialize` that a session began with.
    pub(crate) async fn remember(&self, sealed: String, message: Bytes) {
        self.messages.insert(sealed, message).await;
    }

    /// Forgets a session that its client has ended.
    pub(crate) async fn forget(&self, sealed: &str) {
        self.messages.invalidate(sealed).await;
        self.moved.invalidate(sealed).await;
    }

    /// Where a session was taken, if it was.
    pub(crate) async fn follow(&self, open: &mut OpenSession) {
        if let Some(target) = self.moved.get(&open.sealed).await {
            open.target = target;
        }
    }
}

/// True for requests that can go on in a session without a past. The end of a session is none: it has ended already.
pub(crate) fn is_possible(open: &OpenSession, kind: CallKind) -> bool {
    !open.legacy && kind != CallKind::Bare
}

/// Takes the session `open` to another endpoint. Requests that come together wait for one attempt.
///
/// # Errors
/// The session cannot be opened again: the client has to.
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
    // Boxed, because the cache passes it on by value, several calls deep.
    let attempt = Box::pin(initialize(edge, client, context, route, message));
    let moved = moved.entry(open.sealed.clone()).and_compute_with(async |known| match known {
        // Another request has done it meanwhile.
        Some(known) if *known.value() != lost => moka::ops::compute::Op::Nop,
        _ => match attempt.await {
            Some(target) => moka::ops::compute::Op::Put(target),
            None => moka::ops::compute::Op::Remove,
        },
    });
    // The wait for other requests counts, too: each of them may fail.
    let moved = tokio::time::timeout(limits::RESUME_TIMEOUT, moved).await;
    context.endpoint = None;
    let moved = match moved.map_err(|_| unknown())? {
        moka::ops::compute::CompResult::Inserted(entry)
        | moka::ops::compute::CompResult::ReplacedWith(entry)
        | moka::ops::compute::CompResult::Unchanged(entry) => entry,
        _ => return Err(unknown()),
    };
    open.target = moved.into_value();
    route.upstream.endpoint(open.target.endpoint).ok_or_else(unknown)
}

/// Opens a session on another endpoint with the client's own words.
async fn initialize(
    edge: &Edge,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &Arc<RouteContext>,
    message: Bytes,
) -> Option<SessionTarget> {
    let endpoint = peer::endpoint(client, context, route).ok()?;
    // It is in flight there, and the `Host` may depend on it.
    context.endpoint = Some(endpoint.begin());
    let request = message_request(client, context, route)?;
    let mut upstream = send(edge, context, &endpoint, request, message).await?;
    let id = upstream.response_header()?.headers.get(&SESSION_HEADER)?.to_str().ok()?.to_owned();
    let version = negotiated(&mut upstream).await?;
    // A signed assertion is for one request.
    credential::acquire(client, context).await.ok()?;
    let mut request = message_request(client, context, route)?;
    request.insert_header(SESSION_HEADER.clone(), id.as_str()).ok()?;
    request.insert_header(VERSION_HEADER, version).ok()?;
    let initialized = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    send(edge, context, &endpoint, request, initialized).await?;
    credential::acquire(client, context).await.ok()?;
    log::info!("route {}: a session was opened again on {}", route.settings.name, endpoint.address());
    Some(SessionTarget { endpoint: endpoint.address(), id })
}

/// A request for a message of the edge's own, in the client's name.
fn message_request(client: &RequestHeader, context: &RequestContext, route: &RouteContext) -> Option<RequestHeader> {
    let mut request = UpstreamHead::new(client, context, route).to_header(0).ok()?;
    request.set_method(Method::POST);
    request.insert_header(CONTENT_TYPE, "application/json").ok()?;
    request.insert_header(ACCEPT, "application/json, text/event-stream").ok()?;
    // What the client's fields say of its own message.
    for name in [VERSION_HEADER, "mcp-method", "mcp-name", "last-event-id"] {
        request.remove_header(name);
    }
    Some(request)
}

/// Sends `body` on a connection of its own; `None` unless the answer is a success.
async fn send(
    edge: &Edge,
    context: &RequestContext,
    endpoint: &Arc<Endpoint>,
    mut request: RequestHeader,
    body: Bytes,
) -> Option<HttpSession> {
    request.insert_header(CONTENT_LENGTH, body.len()).ok()?;
    let (mut upstream, _) = edge.upstreams.get_http_session(endpoint.peer()).await.ok()?;
    exchange::write_head(&mut upstream, request).await.ok()?;
    exchange::write_body(&mut upstream, body).await.ok()?;
    let status = exchange::read_head(&mut upstream).await.ok()?;
    if let Some(credential) = context.credential.as_ref().filter(|_| status == StatusCode::UNAUTHORIZED) {
        credential.was_refused();
    }
    matches!(status, StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT).then_some(upstream)
}

/// The protocol version in the answer to `initialize`, JSON or events.
async fn negotiated(upstream: &mut HttpSession) -> Option<String> {
    let version = |message: &[u8]| {
        let message: Value = serde_json::from_slice(message).ok()?;
        Some(message.get("result")?.get("protocolVersion")?.as_str()?.to_owned())
    };
    let content_type = upstream.response_header()?.headers.get(CONTENT_TYPE)?.to_str().ok()?.to_owned();
    let mut body = Vec::new();
    let mut events = EventRewrite::new(limits::RESUME_RESPONSE_BYTES);
    while let Some(piece) = upstream.read_response_body().await.ok()? {
        if content_type.starts_with("text/event-stream") {
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
