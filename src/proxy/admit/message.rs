//! Reads the MCP message of a request, and checks it before anything goes to an upstream.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use super::authorize;
use super::refusal::refuse;
use crate::auth::OperationFields;
use crate::config::{Protocol, limits};
use crate::mcp::{Era, HEADER_MISMATCH, INVALID_REQUEST, ListKind, Message, Messages, Misfit, encoded};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::call::{Call, CallKind, CallRecord, HeldBody, Outgoing, OutgoingBody};
use crate::proxy::context::rejection::{Rejection, Stop};
use crate::proxy::context::{MessageFacts, RequestContext};
use crate::proxy::edge::Edge;
use crate::proxy::held::{HeldBytes, Owner};
use crate::proxy::snapshot::RouteContext;
use crate::proxy::within::{at_once, within};
use crate::proxy::{headers, mcp_session};
use crate::types::{KnownMethod, client_network};

/// A body that was read before its sender is known, and what it asks for.
pub(crate) struct EarlyBody {
    pub(crate) body: HeldBody,
    pub(crate) operation: OperationFields,
}

/// Reads the body, if the provider that knows the caller has to be told what the message asks for (`lookup.operation`). Nothing
/// is read when the request carries no credential for such a provider.
///
/// # Errors
/// The body is refused, or the connection was lost.
pub(crate) async fn read_early(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
) -> Result<Option<EarlyBody>, Stop> {
    let Some(authenticator) = &route.authenticator else { return Ok(None) };
    let posted = route.settings.protocol == Protocol::Mcp && downstream.req_header().method == Method::POST;
    if !posted || !authenticator.asks_about_operation(&authorize::original(downstream, &context.client, None)) {
        return Ok(None);
    }
    check_form(downstream)?;
    // Boxed, because the future is large and rarely needed: otherwise every request would carry room for it.
    let body = Box::pin(read(edge, downstream, context, route, Sender::Unknown)).await?;
    let operation = operation_fields(&body.bytes, &mut context.message)?;
    Ok(Some(EarlyBody { body, operation }))
}

/// The one operation that `body` asks for.
fn operation_fields(body: &Bytes, facts: &mut MessageFacts) -> Result<OperationFields, Rejection> {
    let messages = read_messages(body, facts)?;
    let mut operations = messages.operations();
    let (Some(operation), None) = (operations.next(), operations.next()) else {
        let message =
            "the authentication server of this route decides on one operation at a time: send each in its own message";
        return Err(Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, message));
    };
    let field = |text: Option<&str>| match text {
        Some(text) if text.len() > limits::LOOKUP_NAME_BYTES => {
            let message = format!("a name is longer than {} bytes", limits::LOOKUP_NAME_BYTES);
            Err(Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, message))
        }
        text => Ok(text.map(encoded)),
    };
    Ok(OperationFields { method: field(operation.method())?, name: field(operation.name())? })
}

/// Reads the request's message and checks that the caller may do what it asks for. `early`: the body, if it was read before.
/// The permit for the operation is in `context` afterwards.
///
/// # Errors
/// The message is refused, or the connection was lost.
pub(crate) async fn receive(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    early: Option<HeldBody>,
) -> Result<Outgoing, Stop> {
    let (body, call) = match receive_body(edge, downstream, context, route, early).await? {
        Some(body) => {
            let call = check(&downstream.req_header().headers, context, route, &body.bytes)?;
            (body, call)
        }
        None => (HeldBody::default(), bare(downstream, context, route)?),
    };
    Ok(Outgoing { body: OutgoingBody::Held(body), call: Some(call), upgrades: false })
}

/// Reads the body of a POST; `None` for other methods, which have none. `early`: the body, if it was read before.
///
/// # Errors
/// The request does not have the form of an MCP request, or the connection was lost.
pub(crate) async fn receive_body(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    early: Option<HeldBody>,
) -> Result<Option<HeldBody>, Stop> {
    if !context.memo.is_plain {
        check_form(downstream)?;
    }
    if downstream.req_header().method != Method::POST {
        check_bodiless(downstream, context).await?;
        return Ok(None);
    }
    Ok(Some(match early {
        Some(early) => count_early(edge, context, early)?,
        None => read(edge, downstream, context, route, Sender::Known).await?,
    }))
}

/// Only a POST may have a body. What counts is the body and not its framing: a client may send an empty one.
async fn check_bodiless(downstream: &mut Downstream<'_>, context: &RequestContext) -> Result<(), Stop> {
    if downstream.is_body_done() {
        return Ok(());
    }
    let patience = context.snapshot.config.limits.body_timeout.0;
    let first = async {
        loop {
            match downstream.read_body().await {
                // An empty frame of HTTP/2.
                Ok(Some(piece)) if piece.is_empty() => {}
                read => return read,
            }
        }
    };
    match within(patience, first).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(_))) => Err(Rejection::new(Reason::BadRequest, "in MCP only a POST may have a body").into()),
        Ok(Err(error)) => Err(error.into_down().into()),
        Err(_) => Err(Rejection::new(Reason::BodyTimeout, "the request body did not come in time").into()),
    }
}

/// Checks method, content type and coding. What could be read in two ways is not read at all.
fn check_form(downstream: &Downstream<'_>) -> Result<(), Rejection> {
    let header = downstream.req_header();
    let mut named = headers::named_in_connection(&header.headers);
    if named.any(|name| describes_message(&name) && header.headers.contains_key(&name)) {
        let message = "`Connection` names a field that describes the message";
        return Err(Rejection::new(Reason::BadRequest, message));
    }
    match header.method {
        Method::POST => {}
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS => return Ok(()),
        _ => return Err(Rejection::new(Reason::MethodNotAllowed, "MCP does not use this method")),
    }
    let unsupported = |message| Err(Rejection::new(Reason::UnsupportedMediaType, message));
    // All fields are checked: an `identity` does not hide another coding after it.
    let mut codings = header.headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    if codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return unsupported("an MCP message must not be compressed: send it without Content-Encoding");
    }
    if !is_json(&header.headers) {
        return unsupported("an MCP message must be JSON in UTF-8: send `Content-Type: application/json`");
    }
    Ok(())
}

/// True for fields that say what a message is. The upstream must see the same fields as the edge.
fn describes_message(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-") || *name == CONTENT_TYPE || *name == CONTENT_ENCODING
}

/// True for one `Content-Type` field with `application/json` in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let (Some(Ok(text)), None) = (fields.next().map(HeaderValue::to_str), fields.next()) else { return false };
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

/// A request without a message. The route's own scopes have decided on it.
fn bare(downstream: &Downstream<'_>, context: &mut RequestContext, route: &RouteContext) -> Result<Call, Rejection> {
    let header = downstream.req_header();
    let era = Era::of_headers(&header.headers).map_err(|misfit| misfit_of(misfit, &context.message))?;
    let kind = if header.method == Method::GET { CallKind::Get } else { CallKind::Bare };
    let endless = kind == CallKind::Get;
    let call = Call { era, kind, session: None, endless, deadline: None, gateway: None };
    enter_session(call, &header.headers, context, route)
}

/// Finds the MCP session that the call belongs to.
fn enter_session(
    mut call: Call,
    headers: &HeaderMap,
    context: &mut RequestContext,
    route: &RouteContext,
) -> Result<Call, Rejection> {
    if call.era == Era::Sessions {
        let query = context.client.query.clone();
        call.session = mcp_session::open(headers, query.as_deref(), route, context)?;
        if let Some(session) = call.session.as_ref().filter(|session| session.legacy) {
            context.target.clone_from(&session.target.id);
        }
    }
    Ok(call)
}

/// Who sends a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Known,
    /// Anybody. There is less time, and the body takes memory of its own kind from the first byte on, apart from the bodies of
    /// known senders.
    Unknown,
}

/// A body that was read early, now that its sender is known: it counts against the memory for known senders.
fn count_early(edge: &Edge, context: &RequestContext, early: HeldBody) -> Result<HeldBody, Rejection> {
    let HeldBody { bytes, held: _ } = early;
    let size = bytes.len() as u64;
    if size <= limits::SMALL_BODY_BYTES as u64 {
        return Ok(HeldBody { bytes, held: None });
    }
    let mut held = edge.held.begin(owner(context));
    match held.take(size, context.snapshot.config.limits.held_bytes.0) {
        true => Ok(HeldBody { bytes, held: Some(held) }),
        false => Err(no_memory()),
    }
}

/// Who the message of a known sender counts for. On an open route, clients are told apart by their addresses.
fn owner(context: &RequestContext) -> Owner {
    match context.access.principal() {
        Some(principal) => Owner::of("caller", (principal.provider(), principal.subject())),
        None => Owner::of("address", client_network(context.client.address)),
    }
}

fn no_memory() -> Rejection {
    Rejection::new(Reason::Overloaded, "there is no memory left for another large message")
}

/// Reads the whole body, within the route's limit, in bounded time and bounded memory.
async fn read(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    sender: Sender,
) -> Result<HeldBody, Stop> {
    if !context.memo.is_plain && downstream.waits_for_continue() {
        downstream.write_continue().await?;
    }
    let (limit, patience) = (route.settings.body_bytes, context.snapshot.config.limits.body_timeout.0);
    let owner = || match sender {
        Sender::Known => owner(context),
        Sender::Unknown => Owner::of("address", client_network(context.client.address)),
    };
    let (mut begun, mut received) = (None, 0_u64);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut held: Option<HeldBytes> = None;
    loop {
        // Most bodies come together with their heads, and need no timer.
        let mut reading = pin!(downstream.read_body());
        let piece = match at_once(reading.as_mut()).await {
            Some(piece) => piece,
            None => {
                let now = Instant::now();
                let begun = *begun.get_or_insert(now);
                let earned = Duration::from_secs(received / limits::MESSAGE_RATE);
                let deadline = match sender {
                    // A body that comes slowly may take longer, but silence is always limited by `patience`. HTTP/2 has no other
                    // limit on silence.
                    Sender::Known => {
                        ((begun + earned).min(now) + patience).min(begun + limits::HELD_TIME.max(patience))
                    }
                    Sender::Unknown => begun + patience,
                };
                let Ok(piece) = tokio::time::timeout_at(deadline, reading).await else {
                    return Err(Rejection::new(Reason::BodyTimeout, "the request body did not come in time").into());
                };
                piece
            }
        };
        let Some(piece) = piece.map_err(|error| error.into_down())? else { break };
        received += piece.len() as u64;
        if received > limit {
            return Err(Rejection::too_large(limit).into());
        }
        if sender == Sender::Unknown || received > limits::SMALL_BODY_BYTES as u64 {
            let is_small = received <= limits::SMALL_BODY_BYTES as u64;
            let (all, budget) = match sender {
                Sender::Known => (&edge.held, context.snapshot.config.limits.held_bytes.0),
                Sender::Unknown if is_small => (&edge.held_early_small, limits::EARLY_BYTES),
                Sender::Unknown => (&edge.held_early, limits::EARLY_BYTES),
            };
            // A message that is not small any more leaves the room for small ones.
            let was_small = received - piece.len() as u64 <= limits::SMALL_BODY_BYTES as u64;
            if sender == Sender::Unknown && was_small && !is_small {
                held = None;
            }
            let more = if held.is_some() { piece.len() as u64 } else { received };
            if !held.get_or_insert_with(|| all.begin(owner())).take(more, budget) {
                return Err(no_memory().into());
            }
        }
        if first.is_empty() && rest.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&piece);
        }
    }
    Ok(HeldBody { bytes: if rest.is_empty() { first } else { rest.freeze() }, held })
}

/// The messages in `body`. What two parsers could read differently is refused.
///
/// # Errors
/// The body is refused.
pub(crate) fn read_messages<'b>(body: &'b Bytes, facts: &mut MessageFacts) -> Result<Messages<'b>, Rejection> {
    let messages = Messages::read(body).map_err(|bad| {
        facts.id = bad.id;
        Rejection::of_message(Reason::InvalidMessage, bad.code, bad.reason)
    })?;
    facts.id = messages.single().and_then(|message| message.id.clone());
    Ok(messages)
}

/// Notes the call in `messages` for metrics and log, and compares the messages with the header fields.
///
/// # Errors
/// The header fields say something else than the messages.
pub(crate) fn note_call(
    headers: &HeaderMap,
    facts: &mut MessageFacts,
    messages: &Messages<'_>,
) -> Result<Era, Rejection> {
    let single = messages.single();
    if messages.iter().any(|message| message.method().is_some()) {
        let method = single.and_then(|message| message.method()).map_or(KnownMethod::Unknown, KnownMethod::of);
        let first = messages.operations().next();
        let tool = single.and(first).and_then(|operation| operation.tool());
        facts.call = Some(CallRecord { method, tool: tool.map(CallRecord::tool), outcome: None });
    }
    Era::check(headers, messages).map_err(|misfit| misfit_of(misfit, facts))
}

/// Reads the messages in `body`, compares them with the header fields, asks the policy, and finds their session.
fn check(
    headers: &HeaderMap,
    context: &mut RequestContext,
    route: &RouteContext,
    body: &Bytes,
) -> Result<Call, Rejection> {
    let messages = read_messages(body, &mut context.message)?;
    let era = note_call(headers, &mut context.message, &messages)?;
    let single = messages.single();
    let permit = route.policy.authorize(context.access.principal().cloned(), messages.operations());
    context.access.permit = Some(permit.map_err(|denial| refuse(context, route, denial, single, era))?);
    let method = single.and_then(|message| message.method());
    let first = messages.operations().next();
    let tool = single.and(first).and_then(|operation| operation.tool());
    let lists = || messages.iter().filter_map(Message::method).any(|method| ListKind::of_method(method).is_some());
    let kind = match method {
        _ if single.is_none() => CallKind::Batch { lists: lists() },
        Some("initialize") => CallKind::Initialize,
        Some(method) if context.message.id.is_some() => match ListKind::of_method(method) {
            Some(list) => CallKind::List(list),
            None => CallKind::Request { only_reads: KnownMethod::only_reads(method) },
        },
        _ => CallKind::Other,
    };
    let endless = method == Some("subscriptions/listen");
    let deadline = tool.and_then(|tool| route.policy.timeout(tool));
    let call = Call { era, kind, session: None, endless, deadline, gateway: None };
    match kind {
        // It opens a session. The id of one that has ended does not matter, and is not sent on. In the 2024-11-05 transport, the
        // session is in the query.
        CallKind::Initialize => enter_session(call, &HeaderMap::new(), context, route),
        _ => enter_session(call, headers, context, route),
    }
}

fn misfit_of(misfit: Misfit, facts: &MessageFacts) -> Rejection {
    match misfit {
        Misfit::Mismatch(reason) if facts.call.is_some() => {
            Rejection::of_message(Reason::HeaderMismatch, HEADER_MISMATCH, reason)
        }
        Misfit::Mismatch(reason) => Rejection::new(Reason::HeaderMismatch, reason),
        Misfit::Form(reason) => Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, reason),
    }
}
