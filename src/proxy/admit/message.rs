//! Reads the MCP message of a request, and judges it before anything goes to an upstream.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use super::authorize;
use crate::auth::AskedOperation;
use crate::config::{Protocol, limits};
use crate::mcp::{Era, HEADER_MISMATCH, INVALID_REQUEST, ListKind, Message, Messages, Misfit, encoded};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::session::ClientSession;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Call, CallKind, CallRecord};
use crate::proxy::edge::Edge;
use crate::proxy::held::HeldBytes;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::proxy::within::at_once;
use crate::proxy::{headers, mcp_session, respond};
use crate::types::KnownMethod;

/// The body of a request, whole.
pub(crate) struct Body {
    bytes: Bytes,
    held: Option<HeldBytes>,
}

/// A body that was read before its sender is known, and what it wants.
pub(crate) struct EarlyBody {
    pub(crate) body: Body,
    pub(crate) operation: AskedOperation,
}

/// Reads the body where whoever knows the caller has to be told what the message wants. Without a credential that such a
/// server would see nothing is read.
///
/// # Errors
/// Why the request goes nowhere. The outer error is a lost connection.
pub(crate) async fn read_early(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    query: Option<&str>,
) -> pingora::Result<Result<Option<EarlyBody>, Rejection>> {
    let Some(authenticator) = &route.authenticator else { return Ok(Ok(None)) };
    let posted = route.settings.protocol == Protocol::Mcp && session.req_header().method == Method::POST;
    if !posted || !authenticator.asks_about_operation(&authorize::original(session, context, query, None)) {
        return Ok(Ok(None));
    }
    if let Err(rejection) = check_form(session) {
        return Ok(Err(rejection));
    }
    // Boxed, because it is large and rare: else every request would carry room for it.
    let body = match Box::pin(read(edge, session, context, route, Sender::Unknown)).await? {
        Ok(body) => body,
        Err(rejection) => return Ok(Err(rejection)),
    };
    Ok(asked_operation(&body.bytes, context).map(|operation| Some(EarlyBody { body, operation })))
}

/// The one thing that `body` wants.
fn asked_operation(body: &Bytes, context: &mut RequestContext) -> Result<AskedOperation, Rejection> {
    let messages = read_messages(body, context)?;
    let mut operations = messages.operations();
    let (Some(operation), None) = (operations.next(), operations.next()) else {
        let message =
            "the authentication server of this route decides on one thing at a time: send it in its own message";
        return Err(Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, message));
    };
    let field = |text: Option<&str>| match text {
        Some(text) if text.len() > limits::LOOKUP_NAME_BYTES => {
            let message = format!("a name is longer than {} bytes", limits::LOOKUP_NAME_BYTES);
            Err(Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, message))
        }
        text => Ok(text.map(encoded)),
    };
    Ok(AskedOperation { method: field(operation.method())?, name: field(operation.name())? })
}

/// The request's message, permitted; `context.permit` is for what it does. `body` is what was read of it already.
///
/// # Errors
/// Why it goes nowhere. The outer error is a lost connection.
pub(crate) async fn receive(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    query: Option<&str>,
    body: Option<Body>,
) -> pingora::Result<Result<Call, Rejection>> {
    if let Err(rejection) = check_form(session) {
        return Ok(Err(rejection));
    }
    if session.req_header().method != Method::POST {
        return Ok(bare(session, context, route, query));
    }
    let Body { bytes, held } = match body {
        Some(early) => match known(edge, context, early) {
            Ok(body) => body,
            Err(rejection) => return Ok(Err(rejection)),
        },
        None => match read(edge, session, context, route, Sender::Known).await? {
            Ok(body) => body,
            Err(rejection) => return Ok(Err(rejection)),
        },
    };
    Ok(judge(&session.req_header().headers, context, route, bytes, query).map(|call| Call { held, ..call }))
}

/// Method, content type and coding: what cannot be read without doubt is not read at all.
fn check_form(session: &mut ClientSession<'_>) -> Result<(), Rejection> {
    let has_body = !session.is_body_empty();
    let header = session.req_header();
    let mut named = headers::named_in_connection(&header.headers);
    if named.any(|name| is_judged(&name) && header.headers.contains_key(&name)) {
        let message = "`Connection` names a field that is not of the connection";
        return Err(Rejection::new(Reason::BadRequest, message));
    }
    match header.method {
        Method::POST => {}
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS if has_body => {
            return Err(Rejection::new(Reason::BadRequest, "only POST carries a body in MCP"));
        }
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS => return Ok(()),
        _ => return Err(Rejection::new(Reason::MethodNotAllowed, "MCP has no such method")),
    }
    let unsupported = |message| Err(Rejection::new(Reason::UnsupportedMediaType, message));
    // Every field counts: an `identity` in front of another coding does not hide it.
    let mut codings = header.headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    if codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return unsupported("an MCP message is not compressed: send it without Content-Encoding");
    }
    if !is_json(&header.headers) {
        return unsupported("an MCP message is JSON in UTF-8: send `Content-Type: application/json`");
    }
    Ok(())
}

/// True for the fields that say what a message is: the upstream must see them too.
fn is_judged(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-") || *name == CONTENT_TYPE || *name == CONTENT_ENCODING
}

/// `application/json`, once, in UTF-8.
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

/// A request that carries no message: the route's own scopes have decided on it.
fn bare(
    session: &ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    query: Option<&str>,
) -> Result<Call, Rejection> {
    let header = session.req_header();
    let era = Era::of_headers(&header.headers).map_err(|misfit| misfit_of(misfit, context))?;
    let kind = if header.method == Method::GET { CallKind::Get } else { CallKind::Bare };
    let endless = kind == CallKind::Get;
    let call = Call { era, body: Bytes::new(), held: None, kind, session: None, endless, deadline: None };
    enter_session(call, &header.headers, context, route, query)
}

fn enter_session(
    mut call: Call,
    headers: &HeaderMap,
    context: &mut RequestContext,
    route: &RouteContext,
    query: Option<&str>,
) -> Result<Call, Rejection> {
    if call.era == Era::Sessions {
        call.session = mcp_session::open(headers, query, route, context)?;
        if let Some(session) = call.session.as_ref().filter(|session| session.legacy) {
            context.target.clone_from(&session.target.id);
        }
    }
    Ok(call)
}

/// Whether it is known who sends a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Known,
    /// Anybody could: there is less time, and memory apart from that of others, from the first byte on.
    Unknown,
}

/// A body that was read early, now that its sender is known: it takes from the memory for all.
fn known(edge: &Edge, context: &RequestContext, early: Body) -> Result<Body, Rejection> {
    let Body { bytes, held: _ } = early;
    let size = bytes.len() as u64;
    if size <= limits::SMALL_BODY_BYTES as u64 {
        return Ok(Body { bytes, held: None });
    }
    let mut held = edge.held.begin();
    match held.take(size, context.snapshot.config.limits.held_bytes.0) {
        true => Ok(Body { bytes, held: Some(held) }),
        false => Err(no_memory()),
    }
}

fn no_memory() -> Rejection {
    Rejection::new(Reason::Overloaded, "there is no memory for another large message")
}

/// Reads the whole body, within the route's limit, in bounded time and bounded memory.
async fn read(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    sender: Sender,
) -> pingora::Result<Result<Body, Rejection>> {
    if respond::waits_for_continue(session) {
        session.write_continue().await?;
    }
    let (limit, patience) = (route.settings.body_bytes, context.snapshot.config.limits.body_timeout.0);
    let mut begun = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut held: Option<HeldBytes> = None;
    loop {
        // Most bodies are there with their heads.
        let mut reading = pin!(session.read_body());
        let piece = match at_once(reading.as_mut()).await {
            Some(piece) => piece,
            None => {
                let now = Instant::now();
                let begun = *begun.get_or_insert(now);
                let earned = Duration::from_secs(context.received / limits::MESSAGE_RATE);
                let deadline = match sender {
                    // Time that was earned is for what comes slowly. Silence has one limit, and HTTP/2 has no other timer
                    // for it.
                    Sender::Known => (begun + earned).min(now) + patience,
                    Sender::Unknown => begun + patience,
                };
                let Ok(piece) = tokio::time::timeout_at(deadline, reading).await else {
                    return Ok(Err(Rejection::new(Reason::BodyTimeout, "the request body did not come in time")));
                };
                piece
            }
        };
        let Some(piece) = piece.map_err(|error| error.into_down())? else { break };
        context.received += piece.len() as u64;
        if context.received > limit {
            return Ok(Err(Rejection::too_large(route)));
        }
        if sender == Sender::Unknown || context.received > limits::SMALL_BODY_BYTES as u64 {
            let more = if held.is_some() { piece.len() as u64 } else { context.received };
            let (all, budget) = match sender {
                Sender::Known => (&edge.held, context.snapshot.config.limits.held_bytes.0),
                Sender::Unknown => (&edge.held_early, limits::EARLY_BYTES),
            };
            if !held.get_or_insert_with(|| all.begin()).take(more, budget) {
                return Ok(Err(no_memory()));
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
    Ok(Ok(Body { bytes: if rest.is_empty() { first } else { rest.freeze() }, held }))
}

/// What `body` says, without doubt.
fn read_messages<'b>(body: &'b Bytes, context: &mut RequestContext) -> Result<Messages<'b>, Rejection> {
    let messages = Messages::read(body).map_err(|bad| {
        context.message_id = bad.id;
        Rejection::of_message(Reason::InvalidMessage, bad.code, bad.reason)
    })?;
    context.message_id = messages.single().and_then(|message| message.id.clone());
    Ok(messages)
}

/// Reads the messages in `body`, compares them with the header fields, asks the policy, and finds their session.
fn judge(
    headers: &HeaderMap,
    context: &mut RequestContext,
    route: &RouteContext,
    body: Bytes,
    query: Option<&str>,
) -> Result<Call, Rejection> {
    let messages = read_messages(&body, context)?;
    let single = messages.single();
    let method = single.and_then(|message| message.method());
    let first = messages.operations().next();
    let tool = single.and(first).and_then(|operation| operation.tool());
    let is_call = messages.iter().any(|message| message.method().is_some());
    if is_call {
        let method = method.map_or(KnownMethod::Unknown, KnownMethod::of);
        context.call = Some(CallRecord { method, tool: tool.map(CallRecord::tool), outcome: None });
    }
    let era = Era::check(headers, &messages).map_err(|misfit| misfit_of(misfit, context))?;
    let principal = context.permit.as_ref().and_then(|permit| permit.principal()).cloned();
    let permit = route.policy.authorize(principal, messages.operations());
    context.permit = Some(permit.map_err(|denial| authorize::denied(&denial, route, context))?);
    let lists = || messages.iter().filter_map(Message::method).any(|method| ListKind::of_method(method).is_some());
    let kind = match method {
        _ if single.is_none() => CallKind::Batch { lists: lists() },
        Some("initialize") => CallKind::Initialize,
        Some(method) if context.message_id.is_some() => match ListKind::of_method(method) {
            Some(list) => CallKind::List(list),
            None => CallKind::Request { only_reads: KnownMethod::only_reads(method) },
        },
        _ => CallKind::Other,
    };
    let endless = method == Some("subscriptions/listen");
    let deadline = tool.and_then(|tool| route.policy.timeout(tool));
    drop(messages);
    let call = Call { era, body, held: None, kind, session: None, endless, deadline };
    enter_session(call, headers, context, route, query)
}

fn misfit_of(misfit: Misfit, context: &RequestContext) -> Rejection {
    match misfit {
        Misfit::Mismatch(reason) if context.call.is_some() => {
            Rejection::of_message(Reason::HeaderMismatch, HEADER_MISMATCH, reason)
        }
        Misfit::Mismatch(reason) => Rejection::new(Reason::HeaderMismatch, reason),
        Misfit::Form(reason) => Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, reason),
    }
}
