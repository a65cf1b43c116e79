//! The exchange of a request with its upstream: of every request that the edge does not answer itself, over HTTP/1 and
//! HTTP/2, on MCP routes and on others.
//!
//! Pingora's proxy pipeline chooses an upstream before it has read a body, and has no place for timers within a stream. MCP
//! needs both. So this is one loop that can be read from top to bottom: acquire the credential, choose an endpoint, connect,
//! send the request while waiting for the head of the answer, pass the answer on.

mod alone;
mod answer;
mod answer_head;
mod answer_scan;
mod clock;
mod head_clock;
mod lasting;
mod link;
mod lists;
pub(super) mod own;
mod pump;
mod relay;
mod resume;
mod upload;
mod upstream_challenge;
mod upstream_head;
mod websocket_key;

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType};
use tokio::time::Instant;

use self::alone::go_on_alone;
use self::head_clock::{HeadClock, Late};
use self::link::{Link, is_answer, is_late, was_not_processed};
use self::pump::{Event, Limits, Pump, Wanted};
use self::relay::Passage;
use self::upload::Upload;
use self::upstream_head::{Upgrade, UpstreamHead};
use self::websocket_key::WebSocketKey;
use super::client::downstream::Downstream;
use super::client::watch::ClientWatch;
use super::context::call::{CallKind, Outgoing, OutgoingBody};
use super::context::rejection::{Rejection, Stop};
use super::context::{RequestContext, repeat};
use super::edge::Edge;
use super::snapshot::ServerContext;
use super::{credential, endpoint, headers, mcp_session};
use crate::config::{Refusals, limits};
use crate::http1::BodyLength;
use crate::metrics::{EndpointResult, RejectionReason as Reason};
use crate::upstream::Endpoint;

/// Sends a request to an endpoint, and the answer to the client.
///
/// # Errors
/// The request is refused, or the exchange broke off.
pub(super) async fn run(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &Arc<ServerContext>,
    mut outgoing: Outgoing,
) -> Result<(), Stop> {
    credential::acquire(downstream.req_header(), &mut context.access, route).await?;
    let mut client = ClientWatch::new(outgoing.ends_with_client(route.settings.cancel_on_disconnect));
    let mut upload = Upload::new(&outgoing, downstream, route.settings.body_bytes);
    let upgrade = outgoing.upgrades.then(|| Upgrade { key: downstream.is_http2().then(WebSocketKey::generate) });
    // Why the first endpoint that got the request has not answered.
    let mut first_error = None;
    loop {
        let endpoint = choose(edge, downstream.req_header(), context, route, &mut outgoing).await?;
        context.attempt.begin(&endpoint);
        let (mut link, reused) = match Link::open(edge, &route.upstream, &endpoint).await {
            Ok(connection) => connection,
            Err(error) => {
                unconnected(error, &endpoint, downstream.req_header(), context, route, &outgoing)
                    .map_err(|stop| first_error.take().map_or(stop, Stop::Broken))?;
                context.attempt.failed(EndpointResult::ConnectError);
                continue;
            }
        };
        context.attempt.connected = true;
        route.upstream.metrics().connected(reused);
        let request = Request { edge, route, outgoing: &outgoing, upgrade: upgrade.as_ref() };
        let mut pump = Pump { downstream, link: &mut link, upload: &mut upload, client: &mut client };
        let head = match send(&mut pump, context, request).await {
            Ok(head) => head,
            Err(Stop::Broken(error)) => {
                let failure = Failure { error: &error, reused, seen: link.has_seen() };
                let may_repeat = may_repeat(&failure, downstream, context, &outgoing, &upload);
                if is_late(&error) {
                    link.leave_connection();
                }
                link.abandon().await;
                // An idle connection that the replica had closed says nothing about the replica.
                if may_repeat && !reused && !was_not_processed(&error) {
                    context.attempt.tried.push(endpoint.address());
                }
                if !may_repeat || !has_another(downstream.req_header(), context, route, &outgoing) {
                    return Err(error.into());
                }
                // The error is kept only if the replica has failed: not if it had closed an idle connection, and not if it says
                // that it has not processed the request.
                if !reused && !was_not_processed(&error) {
                    first_error = Some(error);
                }
                context.attempt.retried = true;
                context.attempt.failed(EndpointResult::Failed);
                // A signed assertion may be used once.
                credential::acquire(downstream.req_header(), &mut context.access, route).await?;
                continue;
            }
            Err(stop) => {
                link.abandon().await;
                return Err(stop);
            }
        };
        if outgoing.through_gateway().is_some() && outgoing.session().is_some() && head.status == StatusCode::NOT_FOUND
        {
            // The server has lost the session. The gateway opens another one, and its client does not notice.
            link.abandon().await;
            return Err(mcp_session::unknown().into());
        }
        upload.is_answered();
        outgoing.is_sent(route.settings.sessions.resume && outgoing.through_gateway().is_none());
        let passage = Passage {
            route,
            outgoing: &outgoing,
            upgrade: upgrade.as_ref(),
            link: &mut link,
            upload: &mut upload,
            client: &mut client,
        };
        let relayed = relay::relay(edge, downstream, context, head, passage).await;
        // If the request was not sent whole, the connection cannot be used again: the next request would be taken for the
        // rest of this one.
        if upload.sent_at().is_some() && relayed.is_ok() {
            link.release();
        } else {
            link.abandon().await;
        }
        return relayed;
    }
}

/// Decides what follows when there is no connection to `endpoint`. Nothing was sent, so any request may go to another endpoint.
///
/// # Errors
/// No other attempt is made.
fn unconnected(
    error: Box<Error>,
    endpoint: &Endpoint,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &ServerContext,
    outgoing: &Outgoing,
) -> Result<(), Stop> {
    let is_slow = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
    let in_session = outgoing.session().is_some();
    if in_session && is_slow {
        // It says nothing of the session: the queue of the endpoint may be full for a moment. Nobody else has the session.
        if std::mem::replace(&mut context.attempt.connect_timed_out, true) {
            let message = "the endpoint of the session does not accept connections in time";
            return Err(Rejection::new(Reason::NoEndpoint, message).into());
        }
        return Ok(());
    }
    if in_session && !is_refused(&error) {
        // The edge itself may lack ports or descriptors.
        return Err(Rejection::new(Reason::NoEndpoint, "the endpoint of the session cannot be reached").into());
    }
    context.attempt.tried.push(endpoint.address());
    // An `initialize` is tried at one other endpoint only: a client that waits for its session is better told.
    let is_first = outgoing.call.as_ref().is_some_and(|call| call.kind == CallKind::Initialize);
    let most = if is_first { limits::INITIALIZE_ATTEMPTS } else { limits::ATTEMPTS };
    if context.attempt.tried.len() < most && has_another(client, context, route, outgoing) {
        Ok(())
    } else if is_refused(&error) {
        // The endpoints refuse connections: the client may come back.
        Err(Rejection::new(Reason::NoEndpoint, "no endpoint of the upstream can be reached").into())
    } else {
        Err(error.into_up().into())
    }
}

/// True when nobody accepts connections at an address.
fn is_refused(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::ConnectRefused | ErrorType::ConnectNoRoute)
}

/// True when there is another endpoint for a request that has failed on one.
fn has_another(client: &RequestHeader, context: &RequestContext, route: &ServerContext, outgoing: &Outgoing) -> bool {
    // `choose` decides where a session goes on.
    outgoing.session().is_some() || endpoint::choose(client, &context.client, &context.attempt, route).is_ok()
}

/// An attempt that has failed before the head of its answer.
struct Failure<'a> {
    error: &'a Error,
    /// Its connection was used before.
    reused: bool,
    /// Something of an answer has come.
    seen: bool,
}

/// True when the request may be sent once more.
fn may_repeat(
    failure: &Failure<'_>,
    downstream: &Downstream<'_>,
    context: &RequestContext,
    outgoing: &Outgoing,
    upload: &Upload,
) -> bool {
    let Failure { error, reused, seen } = *failure;
    if *error.esource() != ErrorSource::Upstream || context.attempt.retried || seen || !upload.is_repeatable() {
        return false;
    }
    if was_not_processed(error) {
        return true;
    }
    let kind = outgoing.call.as_ref().map(|call| call.kind);
    // What went wrong on a connection that was idle may be about that connection only. Anything else may be about the
    // replica, and a session has no other replica to go to.
    let elsewhere = reused || outgoing.session().is_none();
    repeat::is_safe(&downstream.req_header().method, kind) && !is_late(error) && elsewhere && !outgoing.upgrades
}

/// Ends the wait for the head when somebody is late.
fn check_time(
    clock: &HeadClock,
    pump: &mut Pump<'_, '_>,
    context: &mut RequestContext,
    request: Request<'_>,
) -> Result<(), Stop> {
    let (due, late) = clock.next(pump);
    if due > Instant::now() {
        return Ok(());
    }
    if late == Late::Answer {
        context.rejection = late_tool(context, request.route, request.outgoing);
    }
    Err(late.into_error(pump).into())
}

/// How a client is told that a tool has missed its own deadline: as a server would, so that the session goes on.
fn late_tool(context: &RequestContext, route: &ServerContext, outgoing: &Outgoing) -> Option<Rejection> {
    outgoing.call.as_ref()?.deadline?;
    context.message.id.as_ref().filter(|_| route.settings.refusals != Refusals::Http)?;
    let message = "the tool did not answer in time";
    let rejection = Rejection::new(Reason::UpstreamTimeout, message);
    let code = rejection.rpc_code();
    Some(rejection.told_by_error(code, StatusCode::OK, message))
}

/// The endpoint that has the request's session; without a session, any endpoint that the request has not failed on.
async fn choose(
    edge: &Edge,
    client: &RequestHeader,
    context: &mut RequestContext,
    route: &Arc<ServerContext>,
    outgoing: &mut Outgoing,
) -> Result<Arc<Endpoint>, Rejection> {
    let through_gateway = outgoing.through_gateway().is_some();
    let call = outgoing.call.as_mut();
    let Some((open, kind)) = call.and_then(|call| Some((call.session.as_mut()?, call.kind))) else {
        return endpoint::choose(client, &context.client, &context.attempt, route);
    };
    // A gateway opens lost sessions again itself.
    let resumes = route.settings.sessions.resume && !through_gateway;
    if resumes && !edge.resumptions.follow(open).await {
        return Err(mcp_session::unknown());
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
        _ if resumes && !context.attempt.retried && resume::is_possible(open, kind) => {
            // Boxed, because the future is large and rarely needed: otherwise every request would carry room for it.
            Box::pin(resume::resume(edge, client, context, route, open)).await
        }
        _ => Err(mcp_session::unknown()),
    }
}

/// What is sent.
#[derive(Clone, Copy)]
struct Request<'a> {
    edge: &'a Edge,
    route: &'a ServerContext,
    outgoing: &'a Outgoing,
    upgrade: Option<&'a Upgrade>,
}

/// Sends the request until the head of the answer comes. Informational answers are passed on.
async fn send(
    pump: &mut Pump<'_, '_>,
    context: &mut RequestContext,
    request: Request<'_>,
) -> Result<Box<ResponseHeader>, Stop> {
    let Request { edge, route, outgoing, upgrade } = request;
    if route.upstream.settings().http2 && outgoing.call.is_none() && pump.downstream.waits_for_continue() {
        // Informational answers over HTTP/2 are not shown by `h2`.
        pump.downstream.write_continue().await?;
    }
    let (first, end) = poll_fn(|cx| Poll::Ready(pump.upload.begin(cx, pump.downstream))).await?;
    let length = match &outgoing.body {
        OutgoingBody::Held(body) => BodyLength::Exact(body.bytes.len() as u64),
        OutgoingBody::Streamed if upgrade.is_some() => BodyLength::Exact(0),
        OutgoingBody::Streamed => pump.downstream.length().unwrap_or(BodyLength::Exact(0)),
    };
    let header = pump.downstream.req_header();
    let fields = outgoing.message_fields();
    let keeps = context.memo.repeats && fields.is_none() && !route.upstream.settings().http2;
    if keeps && context.memo.client_fields.is_none() {
        context.memo.client_fields = Some(UpstreamHead::new(header, context, route, length).client_fields());
    }
    let session_id = outgoing.session().filter(|open| !open.legacy).map(|open| open.target.id.as_str());
    let head = UpstreamHead::new(header, context, route, length)
        .with_session(session_id)
        .with_upgrade(upgrade)
        .with_message(fields);
    pump.link.begin(head, first, end).map_err(|error| error.into_up())?;
    let mut clock = HeadClock::start(context, route, outgoing, pump.downstream);
    let mut never = pin!(pending());
    loop {
        let (deadline, _) = clock.next(pump);
        let limits = Limits { deadline, patience: Some(limits::HALF_CLOSED) };
        match pump.next(Wanted::Head, limits, never.as_mut()).await? {
            Event::Head(head) if is_answer(head.status) => {
                context.answered(head.status.as_u16());
                return Ok(head);
            }
            Event::Head(mut head) => {
                headers::strip_connection_fields(&mut head);
                // The edge has sent 100 itself where it reads the body.
                if outgoing.call.is_none() {
                    if head.status == StatusCode::CONTINUE {
                        clock.client_continues();
                    }
                    pump.downstream.queue_informational(*head);
                }
                // If the upstream sends one such answer after the other, nothing else compares the time with the deadline.
                check_time(&clock, pump, context, request)?;
            }
            Event::Left => return Err(ClientWatch::has_left().into()),
            Event::Late => check_time(&clock, pump, context, request)?,
            Event::Abandoned => go_on_alone(edge, pump.downstream, context)?,
            Event::Piece(_) | Event::End | Event::Written | Event::CredentialEnded => {}
        }
    }
}
