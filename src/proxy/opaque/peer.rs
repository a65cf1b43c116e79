//! The connection that Pingora makes to an endpoint, and its limits.

use std::os::fd::RawFd;
use std::sync::Weak;

use http::header::{ACCEPT, CONTENT_TYPE};
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora::{Error, ErrorType};

use crate::proxy::context::RequestContext;
use crate::proxy::context::head_deadline::HeadDeadline;
use crate::proxy::endpoint;
use crate::proxy::headers::EVENT_STREAM;
use crate::proxy::snapshot::RouteContext;
use crate::upstream::Connections;

/// Chooses an endpoint that this request has not failed on yet.
///
/// # Errors
/// There is none; `context.rejection` says so.
pub(crate) fn choose(
    connections: &Connections,
    request: &RequestHeader,
    context: &mut RequestContext,
    route: &RouteContext,
) -> pingora::Result<Box<HttpPeer>> {
    // On a second attempt the endpoint before is no longer in flight, and the body passes from its start.
    context.received = 0;
    context.attempt.endpoint = None;
    context.opaque.head_deadline = None;
    let endpoint = endpoint::choose(request, &context.client, &context.attempt, route).map_err(|rejection| {
        let error = Error::explain(ErrorType::HTTPStatus(rejection.status().as_u16()), "no endpoint");
        context.rejection = Some(rejection);
        error
    })?;
    let upstream = &route.upstream;
    let mut peer = Box::new(endpoint.peer().clone());
    context.attempt.endpoint = Some(endpoint.begin());
    let idle = route.settings.idle.unwrap_or(upstream.settings().timeouts.idle.0);
    peer.options.write_timeout = Some(context.snapshot.config.limits.write_timeout.0);
    let policy = &mut peer.options.http_upstream_request_policy;
    policy.h1_upgrade = if context.opaque.upgrade { H1UpgradePolicy::WebSocketOnly } else { H1UpgradePolicy::Deny };
    if peer.options.alpn == ALPN::H1 {
        peer.options.read_timeout = Some(idle);
        connections.follow(&mut peer);
    } else {
        // The streams of HTTP/2 share a connection, so the deadline of one cannot close it. One limit has to serve for the
        // wait for the head and for silence in the body.
        let limit = if may_stream(request) { idle } else { upstream.settings().timeouts.response.0 };
        peer.options.read_timeout = Some(limit);
    }
    Ok(peer)
}

/// True when the answer may be a stream, as far as the request tells.
fn may_stream(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    let holds = |name, text: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value: &str| value.contains(text))
    };
    holds(ACCEPT, EVENT_STREAM) || holds(CONTENT_TYPE, "application/grpc")
}

/// A connection that Pingora has made, or taken from its pool.
pub(crate) struct Connected<'a> {
    pub(crate) peer: &'a HttpPeer,
    pub(crate) descriptor: RawFd,
    pub(crate) reused: bool,
}

/// From now on the response head is awaited.
pub(crate) fn connected(
    connections: &Connections,
    context: &mut RequestContext,
    route: &RouteContext,
    Connected { peer, descriptor, reused }: Connected<'_>,
) {
    route.upstream.metrics().connected(reused);
    if peer.options.alpn == ALPN::H1
        && let Some(connection) = connections.get(descriptor)
    {
        context.opaque.connection = Weak::clone(&connection);
        let limit = route.upstream.settings().timeouts.response.0;
        context.opaque.head_deadline = Some(HeadDeadline::start(connection, limit));
    }
}
