//! The exchange of an MCP request with its upstream.
//!
//! Pingora's proxy pipeline chooses an upstream before it has read a body and has no place for timers within a stream. MCP
//! needs both, so its requests take this way, over HTTP/1 and HTTP/2: one loop that can be read from top to bottom. There is
//! no other way for them, so no rule can hold on one way only.

pub(super) mod answer;
pub(super) mod clock;
pub(super) mod http1_link;
pub(super) mod link;
pub(super) mod relay;
pub(super) mod resume;
pub(super) mod upstream_head;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, StatusCode, Uri, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorSource, ErrorType, OrErr};
use tokio::time::Instant;

use super::client::session::ClientSession;
use super::client::watch::{ClientWatch, Waited};
use super::context::RequestContext;
use super::context::call::Call;
use super::edge::Edge;
use super::opaque::peer;
use super::respond::Rejection;
use super::snapshot::RouteContext;
use super::{credential, mcp_session};
use crate::config::limits;
use crate::metrics::{EndpointResult, RejectionReason as Reason};
use crate::upstream::Endpoint;
use link::Link;
use upstream_head::UpstreamHead;

/// Sends a call to an endpoint and its answer to the client.
///
/// # Errors
/// The inner error is a refusal that the client is still to be told; the outer one says that the exchange broke off.
pub(super) async fn run(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &Arc<RouteContext>,
    mut call: Call,
) -> pingora::Result<Result<(), Rejection>> {
    if let Err(rejection) = credential::acquire(session.req_header(), context).await {
        return Ok(Err(rejection));
    }
    let mut client = ClientWatch::new(call.ends_with_client(route.settings.cancel_on_disconnect));
    loop {
        let endpoint = match choose(edge, session.req_header(), context, route, &mut call).await {
            Ok(endpoint) => endpoint,
            Err(rejection) => return Ok(Err(rejection)),
        };
        context.endpoint = Some(endpoint.begin());
        let (mut link, reused) = match Link::open(edge, &route.upstream, &endpoint, &session.req_header().method).await
        {
            Ok(connection) => connection,
            Err(error) => {
                // Nothing was sent, so any call may go to another endpoint.
                context.endpoint = None;
                endpoint.finished(EndpointResult::ConnectError);
                context.tried.push(endpoint.address());
                if context.tried.len() < limits::ATTEMPTS {
                    continue;
                }
                return Err(error.into_up());
            }
        };
        route.upstream.metrics().connected(reused);
        let limit = call.deadline.unwrap_or(route.upstream.settings().timeouts.response.0);
        let (whole, head) = match send(session, context, route, &mut link, (&call, limit), &mut client).await {
            Ok(answer) => answer,
            Err(error) => {
                // An idle connection that the replica had closed says nothing about the replica; anything else might, and a
                // session has no other replica to go to.
                let elsewhere = reused || call.session.is_none();
                let retry = call.is_repeatable()
                    && *error.esource() == ErrorSource::Upstream
                    && *error.etype() != ErrorType::ReadTimedout
                    && elsewhere
                    && !context.retried;
                if !retry {
                    link.abandon().await;
                    return Err(error);
                }
                context.retried = true;
                context.endpoint = None;
                endpoint.finished(EndpointResult::Failed);
                if !reused {
                    context.tried.push(endpoint.address());
                }
                // A signed assertion is for one request.
                if let Err(rejection) = credential::acquire(session.req_header(), context).await {
                    return Ok(Err(rejection));
                }
                continue;
            }
        };
        call.is_sent(route.settings.sessions.resume);
        let relayed = relay::relay(edge, session, context, route, &call, head, (&mut link, &mut client)).await;
        // With half a request on it, the next one would be taken for the rest.
        if whole && matches!(relayed, Ok(Ok(()))) {
            link.release(edge).await;
        } else {
            link.abandon().await;
        }
        return relayed;
    }
}

/// The endpoint of the call's session, or any other that the call has not failed on.
async fn choose(
    edge: &Edge,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &Arc<RouteContext>,
    call: &mut Call,
) -> Result<Arc<Endpoint>, Rejection> {
    let Some(open) = &mut call.session else { return peer::endpoint(client, context, route) };
    if route.settings.sessions.resume {
        edge.resumptions.follow(open).await;
    }
    let endpoint = route.upstream.endpoint(open.target.endpoint);
    let tried = |endpoint: &Arc<Endpoint>| context.tried.contains(&endpoint.address());
    match endpoint {
        Some(endpoint) if endpoint.is_healthy() && !tried(&endpoint) => Ok(endpoint),
        // It may come back, and nobody else could serve the client meanwhile.
        Some(endpoint) if !tried(&endpoint) && !route.upstream.is_healthy() => {
            Err(Rejection::new(Reason::NoEndpoint, "no endpoint of the upstream is healthy"))
        }
        // The session is gone with its endpoint, before a byte of this request was sent.
        _ if route.settings.sessions.resume && !context.retried && resume::is_possible(open, call.kind) => {
            // Boxed, because it is large and rare: else every request would carry room for it.
            Box::pin(resume::resume(edge, client, context, route, open)).await
        }
        _ => Err(mcp_session::unknown()),
    }
}

/// Sends the request and waits for the head of the answer. False beside it when the request was not sent whole.
async fn send(
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    link: &mut Link,
    (call, limit): (&Call, Duration),
    client: &mut ClientWatch,
) -> pingora::Result<(bool, Box<ResponseHeader>)> {
    let deadline = Instant::now() + limit;
    let open = call.session.as_ref().filter(|open| !open.legacy);
    let session_id = open.map(|open| open.target.id.as_str());
    if context.repeats && context.passed_on.is_none() && !route.upstream.settings().http2 {
        context.passed_on = Some(UpstreamHead::new(session.req_header(), context, route).client_fields());
    }
    let head = UpstreamHead::new(session.req_header(), context, route).with_session(session_id);
    let request = link.request(head, &call.body)?;
    let writing = link.send(request, context.snapshot.config.limits.write_timeout.0);
    let sending = attended(writing, session, client, deadline).await;
    let written = match sending {
        Err(error) if *error.esource() == ErrorSource::Downstream => return Err(error),
        written => written,
    };
    let read = attended(link.read_head(), session, client, deadline);
    let whole = written.is_ok();
    let head = match written {
        Ok(()) => read.await?,
        // A server may refuse a body before it has read all of it; then the answer is there already.
        Err(error) => match tokio::time::timeout(Duration::from_secs(1), read).await {
            Ok(Ok(head)) => head,
            _ => return Err(error),
        },
    };
    peer::answered(context, head.status.as_u16());
    Ok((whole, head))
}

/// Waits for `work` with the upstream as long as its client wants it and there is time. When the client leaves and its
/// request goes on, so does the work: some of it may be done.
async fn attended<T>(
    work: impl Future<Output = pingora::Result<T>>,
    session: &mut ClientSession<'_>,
    client: &mut ClientWatch,
    deadline: Instant,
) -> pingora::Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done.map_err(|error| error.into_up()),
            waited = client.waits(session, deadline) => if waited? == Waited::Enough {
                return Err(Error::explain(ErrorType::ReadTimedout, "no response in time").into_up());
            },
        }
    }
}

/// Writes the head of a request, in the version that the connection speaks.
pub(super) async fn write_head(upstream: &mut HttpSession, mut request: RequestHeader) -> pingora::Result<()> {
    if let HttpSession::H2(connection) = upstream {
        let is_tls = connection.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let scheme = if is_tls { "https" } else { "http" };
        let host = request.remove_header(&HOST).unwrap_or(HeaderValue::from_static(""));
        let target = String::from_utf8_lossy(request.raw_path()).into_owned();
        let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
        request.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "the target has no form in HTTP/2")?);
        request.set_version(Version::HTTP_2);
    }
    upstream.write_request_header(Box::new(request)).await
}

/// Writes the whole body, which was judged.
pub(super) async fn write_body(upstream: &mut HttpSession, body: Bytes) -> pingora::Result<()> {
    if !body.is_empty() {
        upstream.write_request_body(body, true).await?;
    }
    upstream.finish_request_body().await
}

/// Reads the head of the answer, and its status.
pub(super) async fn read_head(upstream: &mut HttpSession) -> pingora::Result<StatusCode> {
    loop {
        upstream.read_response_header().await?;
        match upstream.response_header().map(|head| head.status) {
            // MCP upgrades nothing.
            Some(StatusCode::SWITCHING_PROTOCOLS) | None => {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "the answer has no head, or switches protocols");
            }
            // 1xx is not the answer yet.
            Some(status) if status.is_informational() => {}
            Some(status) => return Ok(status),
        }
    }
}
