//! The exchange of an MCP request with its upstream.
//!
//! Pingora's proxy pipeline chooses an upstream before it has read a body, and has no place for timers within a stream. MCP
//! needs both, so all MCP requests, over HTTP/1 and HTTP/2, take this way instead. It is one loop that can be read from top
//! to bottom: acquire the credential, choose an endpoint, connect, send, pass the answer on.

mod answer;
mod clock;
mod http1_link;
mod link;
mod pingora_link;
mod relay;
mod resume;
mod upstream_head;

use std::sync::Arc;

use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType};
use tokio::time::Instant;

use self::link::Link;
use self::relay::Passage;
use self::upstream_head::UpstreamHead;
use super::client::downstream::Downstream;
use super::client::watch::{ClientWatch, Waited};
use super::context::call::Call;
use super::context::rejection::{Rejection, Stop};
use super::context::{RequestContext, repeat};
use super::edge::Edge;
use super::snapshot::RouteContext;
use super::{credential, endpoint, mcp_session};
use crate::config::limits;
use crate::metrics::{EndpointResult, RejectionReason as Reason};
use crate::upstream::Endpoint;

/// Sends a call to an endpoint, and the answer to the client.
///
/// # Errors
/// The call is refused, or the exchange broke off.
pub(super) async fn run(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &Arc<RouteContext>,
    mut call: Call,
) -> Result<(), Stop> {
    credential::acquire(downstream.req_header(), &mut context.access, route).await?;
    let mut client = ClientWatch::new(call.ends_with_client(route.settings.cancel_on_disconnect));
    loop {
        let endpoint = choose(edge, downstream.req_header(), context, route, &mut call).await?;
        context.attempt.endpoint = Some(endpoint.begin());
        let method = &downstream.req_header().method;
        let (mut link, reused) = match Link::open(edge, &route.upstream, &endpoint, method).await {
            Ok(connection) => connection,
            Err(error) => {
                // Nothing was sent, so any call may go to another endpoint.
                context.attempt.endpoint = None;
                endpoint.finished(EndpointResult::ConnectError);
                context.attempt.tried.push(endpoint.address());
                if context.attempt.tried.len() < limits::ATTEMPTS {
                    continue;
                }
                return Err(error.into_up().into());
            }
        };
        route.upstream.metrics().connected(reused);
        let sent = match send(downstream, context, route, &mut link, &call, &mut client).await {
            Ok(sent) => sent,
            Err(error) => {
                // A replica may have closed an idle connection; that says nothing about the replica. Anything else may, and a
                // session has no other replica to go to.
                let elsewhere = reused || call.session.is_none();
                let retry = repeat::is_safe(&downstream.req_header().method, Some(call.kind))
                    && *error.esource() == ErrorSource::Upstream
                    && *error.etype() != ErrorType::ReadTimedout
                    && elsewhere
                    && !context.attempt.retried;
                if !retry {
                    link.abandon().await;
                    return Err(error.into());
                }
                context.attempt.retried = true;
                context.attempt.endpoint = None;
                endpoint.finished(EndpointResult::Failed);
                if !reused {
                    context.attempt.tried.push(endpoint.address());
                }
                // A signed assertion may be used once.
                credential::acquire(downstream.req_header(), &mut context.access, route).await?;
                continue;
            }
        };
        call.is_sent(route.settings.sessions.resume);
        let passage = Passage { route, call: &call, upstream: &mut link, client: &mut client };
        let relayed = relay::relay(edge, downstream, context, sent.head, passage).await;
        // If the request was not sent whole, the connection cannot be used again: the next request would be taken for the
        // rest of this one.
        if sent.is_whole && relayed.is_ok() {
            link.release(edge).await;
        } else {
            link.abandon().await;
        }
        return relayed;
    }
}

/// The endpoint that has the call's session; without a session, any endpoint that the call has not failed on.
async fn choose(
    edge: &Edge,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &Arc<RouteContext>,
    call: &mut Call,
) -> Result<Arc<Endpoint>, Rejection> {
    let Some(open) = &mut call.session else {
        return endpoint::choose(client, &context.client, &context.attempt, route);
    };
    if route.settings.sessions.resume {
        edge.resumptions.follow(open).await;
    }
    let endpoint = route.upstream.endpoint(open.target.endpoint);
    let tried = |endpoint: &Arc<Endpoint>| context.attempt.tried.contains(&endpoint.address());
    match endpoint {
        Some(endpoint) if endpoint.is_healthy() && !tried(&endpoint) => Ok(endpoint),
        // The endpoint may come back, and no other endpoint could serve the client meanwhile.
        Some(endpoint) if !tried(&endpoint) && !route.upstream.is_healthy() => {
            Err(Rejection::new(Reason::NoEndpoint, "no endpoint of the upstream is healthy"))
        }
        // The session is lost with its endpoint, before a byte of this request was sent.
        _ if route.settings.sessions.resume && !context.attempt.retried && resume::is_possible(open, call.kind) => {
            // Boxed, because the future is large and rarely needed: otherwise every request would carry room for it.
            Box::pin(resume::resume(edge, client, context, route, open)).await
        }
        _ => Err(mcp_session::unknown()),
    }
}

/// A request that was sent, and the head of the answer.
struct Sent {
    head: Box<ResponseHeader>,
    /// False when the upstream answered before it had read the whole request.
    is_whole: bool,
}

/// Sends the request and waits for the head of the answer.
async fn send(
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    link: &mut Link,
    call: &Call,
    client: &mut ClientWatch,
) -> pingora::Result<Sent> {
    let limit = call.deadline.unwrap_or(route.upstream.settings().timeouts.response.0);
    let deadline = Instant::now() + limit;
    let open = call.session.as_ref().filter(|open| !open.legacy);
    let session_id = open.map(|open| open.target.id.as_str());
    let memo = &context.memo;
    if memo.repeats && memo.client_fields.is_none() && !route.upstream.settings().http2 {
        context.memo.client_fields = Some(UpstreamHead::new(downstream.req_header(), context, route).client_fields());
    }
    let head = UpstreamHead::new(downstream.req_header(), context, route).with_session(session_id);
    let request = link.request(head, &call.body)?;
    let writing = link.send(request, context.snapshot.config.limits.write_timeout.0);
    let sending = attended(writing, downstream, client, deadline).await;
    let written = match sending {
        Err(error) if *error.esource() == ErrorSource::Downstream => return Err(error),
        written => written,
    };
    let read = attended(link.read_head(), downstream, client, deadline);
    let is_whole = written.is_ok();
    let head = match written {
        Ok(()) => read.await?,
        // A server may refuse a body before it has read all of it. Its answer has come then.
        Err(error) => match tokio::time::timeout(limits::EARLY_ANSWER, read).await {
            Ok(Ok(head)) => head,
            _ => return Err(error),
        },
    };
    context.answered(head.status.as_u16());
    Ok(Sent { head, is_whole })
}

/// Waits for `work` with the upstream, until `deadline`. A client that leaves ends the wait only if that cancels its request.
/// Otherwise the work goes on: a part of it may be done already.
async fn attended<T>(
    work: impl Future<Output = pingora::Result<T>>,
    downstream: &mut Downstream<'_>,
    client: &mut ClientWatch,
    deadline: Instant,
) -> pingora::Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done.map_err(|error| error.into_up()),
            waited = client.waits(downstream, deadline) => if waited? == Waited::Enough {
                return Err(Error::explain(ErrorType::ReadTimedout, "no response in time").into_up());
            },
        }
    }
}
