//! May this request go anywhere? What is decided before it may go to an upstream.

mod authorize;
mod forwarded;
mod identify;
mod message;
mod origin;
mod refusal;
mod wellknown;

pub(super) use authorize::denied;
pub(super) use identify::identify_refused;
pub(super) use message::{note_call, read_messages};
pub(super) use refusal::refuse;

use std::sync::Arc;

use http::Method;
use http::header::{EXPECT, ORIGIN, UPGRADE};

use super::client::downstream::Downstream;
use super::context::call::{HeldBody, Outgoing, OutgoingBody};
use super::context::rejection::{Rejection, Stop};
use super::context::{Client, RequestContext};
use super::edge::Edge;
use super::listener::ListenerContext;
use super::snapshot::{Destination, GatewayContext, RouteContext, ServerContext};
use crate::config::Protocol;
use crate::http1::BodyLength;
use crate::metrics::RejectionReason as Reason;
use crate::route::upstream_path;

/// What happens with a request that was not refused.
pub(super) enum Admission {
    /// The edge has answered it.
    Answered,
    /// It is permitted, and is exchanged with the upstream of its route.
    Exchange(Arc<ServerContext>, Outgoing),
    /// Its caller may use the gateway. What the message asks for is still to be decided. The body is that of a POST.
    Gateway(Arc<GatewayContext>, Option<HeldBody>),
}

/// Where a request came in, and the route that it belongs to.
pub(super) struct Located<'e> {
    listener: Option<&'e ListenerContext>,
    destination: Option<Destination>,
}

/// Finds the route of a request. `known`: what was found about the client of the same head before, under the same snapshot.
///
/// # Errors
/// The head exceeds a limit or is malformed.
pub(super) fn locate<'e>(
    edge: &'e Edge,
    downstream: &Downstream<'_>,
    context: &mut RequestContext,
    known: Option<Client>,
) -> Result<Located<'e>, Rejection> {
    let listener = downstream.local().and_then(|local| edge.listener(local));
    match known {
        Some(client) => context.client = client,
        None => {
            let limits = &context.snapshot.config.limits;
            let identified = identify::identify(downstream, listener, limits, &mut context.client);
            identified.inspect_err(|_| identify_refused(downstream, &mut context.client))?;
        }
    }
    if let Some(listener) = listener.filter(|_| context.client.behind_proxy)
        && let Some(id) = forwarded::request_id(&downstream.req_header().headers, listener.trusted_fields())
    {
        context.id = id;
    }
    downstream.length().map_err(|reason| Rejection::new(Reason::BadRequest, reason))?;
    let Client { host, path, .. } = &context.client;
    let destination = context.snapshot.router.find(host, path).cloned();
    Ok(Located { listener, destination })
}

/// Decides on a request. The order of the decisions:
///
/// 1. Metadata of a route is public: everybody may read it, before anything else is asked.
/// 2. There must be a route.
/// 3. A web page must be allowed to call, before it learns anything about credentials; its browser may ask that first.
/// 4. The caller must be known and allowed to use the route. Nothing of the body is read before that, unless the provider has
///    to be told what the message asks for.
/// 5. The size of the body and an upgrade must be what the route allows.
/// 6. On MCP routes the message is read, and what it asks for must be permitted.
///
/// # Errors
/// The request is refused, or its connection was lost.
pub(super) async fn decide(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    located: Located<'_>,
) -> Result<Admission, Stop> {
    if wellknown::answer(downstream, context).await? {
        return Ok(Admission::Answered);
    }
    let destination = located.destination.ok_or_else(no_route)?;
    let route = destination.route();
    context.enter(route);
    if !context.memo.is_plain {
        context.access.cors_origin = origin::check(located.listener, route, downstream.req_header(), &context.client)?;
        if origin::answer_preflight(downstream, context, route).await? {
            return Ok(Admission::Answered);
        }
        authorize::check_fields(downstream, route)?;
    }
    let early = message::read_early(edge, downstream, context, route).await?;
    let (body, operation) = early.map_or((None, None), |early| (Some(early.body), Some(early.operation)));
    authorize::authorize(downstream, context, route, operation.as_ref()).await?;
    check_size(downstream, route)?;
    let upgrades = !context.memo.is_plain && check_upgrade(downstream, route)?;
    let server = match destination {
        Destination::Server(server) => server,
        Destination::Gateway(gateway) => {
            let body = message::receive_body(edge, downstream, context, &gateway.route, body).await?;
            passed(downstream, context);
            return Ok(Admission::Gateway(gateway, body));
        }
    };
    context.target = target(&context.client, &server);
    let outgoing = match server.settings.protocol {
        Protocol::Http => Outgoing { body: OutgoingBody::Streamed, call: None, upgrades },
        Protocol::Mcp => message::receive(edge, downstream, context, &server, body).await?,
    };
    passed(downstream, context);
    Ok(Admission::Exchange(server, outgoing))
}

/// The head has passed all checks. Notes that for the next request with the same head, if the head asks for nothing special.
fn passed(downstream: &Downstream<'_>, context: &mut RequestContext) {
    // A head that has not been repeated yet may never be: then this would be for nothing.
    if !context.memo.is_plain && context.memo.repeats {
        let header = downstream.req_header();
        let is_special = [ORIGIN, EXPECT, UPGRADE].iter().any(|name| header.headers.contains_key(name));
        context.memo.is_plain = header.method == Method::POST && !is_special;
    }
}

fn no_route() -> Rejection {
    Rejection::new(Reason::NotFound, "no route matches this host and path")
}

/// The length that the request declares must be within the route's limit.
fn check_size(downstream: &Downstream<'_>, route: &RouteContext) -> Result<(), Rejection> {
    let limit = route.settings.body_bytes;
    match downstream.length() {
        Ok(BodyLength::Exact(length)) if length > limit => Err(Rejection::too_large(limit)),
        _ => Ok(()),
    }
}

/// True when the client asks for WebSocket. The route must allow it.
fn check_upgrade(downstream: &Downstream<'_>, route: &RouteContext) -> Result<bool, Rejection> {
    if !downstream.asks_for_websocket() {
        return Ok(false);
    }
    let is_get = downstream.is_http2() || downstream.req_header().method == Method::GET;
    if !route.settings.websocket || !is_get {
        return Err(Rejection::new(Reason::BadRequest, "this route does not carry WebSocket"));
    }
    Ok(true)
}

/// Path and query for the upstream.
fn target(client: &Client, route: &RouteContext) -> String {
    let path = upstream_path(&route.settings.rewrite, &route.settings.prefix, &client.path);
    match &client.query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    }
}
