//! Which endpoint a request goes to, and over what connection.

use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_TYPE, COOKIE};
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use crate::config::HashOn;
use crate::metrics::RejectionReason;
use crate::proxy::context::RequestContext;
use crate::proxy::context::head_deadline::HeadDeadline;
use crate::proxy::edge::Edge;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::upstream::{Endpoint, NoEndpoint};

/// Chooses an endpoint that this request has not failed on yet.
///
/// # Errors
/// There is none; `context.rejection` says so.
pub(crate) fn choose(
    edge: &Edge,
    session: &Session,
    context: &mut RequestContext,
    route: &RouteContext,
) -> pingora::Result<Box<HttpPeer>> {
    // On a retry the endpoint before is no longer in flight, and the body passes from its start.
    context.received = 0;
    context.endpoint = None;
    context.deadline = None;
    let endpoint = endpoint(session.req_header(), context, route).map_err(|rejection| {
        let error = Error::explain(ErrorType::HTTPStatus(rejection.status().as_u16()), "no endpoint");
        context.rejection = Some(rejection);
        error
    })?;
    let upstream = &route.upstream;
    let mut peer = Box::new(endpoint.peer().clone());
    context.endpoint = Some(endpoint.begin());
    let idle = route.settings.idle.unwrap_or(upstream.settings().timeouts.idle.0);
    peer.options.write_timeout = Some(context.snapshot.config.limits.write_timeout.0);
    let policy = &mut peer.options.http_upstream_request_policy;
    policy.h1_upgrade = if context.upgrade { H1UpgradePolicy::WebSocketOnly } else { H1UpgradePolicy::Deny };
    if peer.options.alpn == ALPN::H1 {
        peer.options.read_timeout = Some(idle);
        edge.connections.follow(&mut peer);
    } else {
        // Streams share a connection, so a deadline cannot end it: one limit must do for both.
        let limit = if may_stream(session.req_header()) { idle } else { upstream.settings().timeouts.response.0 };
        peer.options.read_timeout = Some(limit);
    }
    Ok(peer)
}

/// An endpoint that the request has not failed on yet.
///
/// # Errors
/// There is none.
pub(crate) fn endpoint(
    request: &RequestHeader,
    context: &RequestContext,
    route: &RouteContext,
) -> Result<Arc<Endpoint>, Rejection> {
    let key = route.upstream.hash_on().and_then(|on| hash_key(on, request, context));
    route.upstream.choose(key.as_deref(), &context.tried).map_err(|NoEndpoint| {
        if context.tried.is_empty() {
            Rejection::new(RejectionReason::NoEndpoint, "no endpoint of the upstream is healthy")
        } else {
            Rejection::new(RejectionReason::UpstreamFailed, "no endpoint of the upstream can be reached")
        }
    })
}

/// True when the response may be a stream, as far as the request tells.
fn may_stream(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    let holds = |name, text: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value: &str| value.contains(text))
    };
    holds(ACCEPT, "text/event-stream") || holds(CONTENT_TYPE, "application/grpc")
}

fn hash_key(on: &HashOn, request: &RequestHeader, context: &RequestContext) -> Option<Vec<u8>> {
    let headers = &request.headers;
    if let Some(name) = &on.header {
        return headers.get(&name.0).map(|value| value.as_bytes().to_vec());
    }
    if let Some(name) = &on.cookie {
        let cookies =
            headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|field| field.split(';'));
        let mut pairs = cookies.filter_map(|pair| pair.trim().split_once('='));
        return pairs.find(|(key, _)| key == name).map(|(_, value)| value.as_bytes().to_vec());
    }
    on.client_address.then(|| context.client.address.to_string().into_bytes())
}

/// A connection is there: from now on the response head is awaited.
pub(crate) fn connected(
    edge: &Edge,
    context: &mut RequestContext,
    route: &RouteContext,
    peer: &HttpPeer,
    (descriptor, reused): (RawFd, bool),
) {
    route.upstream.metrics().connected(reused);
    if peer.options.alpn == ALPN::H1
        && let Some(connection) = edge.connections.get(descriptor)
    {
        context.connection = Weak::clone(&connection);
        context.deadline = Some(HeadDeadline::start(connection, route.upstream.settings().timeouts.response.0));
    }
}

/// The response head is there.
pub(crate) fn answered(context: &mut RequestContext, status: u16) {
    // 1xx but 101 is not the answer yet.
    if status >= 200 || status == 101 {
        context.deadline = None;
        context.head_at = Some(Instant::now());
        context.upstream_status = Some(status);
        if let Some(credential) = context.credential.as_ref().filter(|_| status == 401) {
            credential.was_refused();
        }
    }
}

/// How long the upstream took for its response head.
pub(crate) fn head_time(context: &RequestContext) -> Option<Duration> {
    context.head_at.map(|at| at.duration_since(context.started))
}
