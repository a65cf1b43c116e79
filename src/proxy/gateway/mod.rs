//! The gateway: one MCP endpoint for the tools, prompts and resources of several servers.
//!
//! The servers are routes, and their rules decide here as they decide there. Requests for one server pass through the exchange
//! (`forward`). What is about all servers, such as lists and the begin of a session, the gateway answers itself (`lists`, `greet`).

mod caller;
mod forward;
mod greet;
mod lists;
mod notify;
mod open;
mod own_tools;
mod resolve;
mod search;
mod source;
mod stream;
mod wanted;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use serde_json::json;

use self::caller::{Caller, STATELESS_VERSION};
use self::forward::{About, Request, forward, resume_stream};
use self::open::ClientSession;
use super::admit;
use super::client::downstream::Downstream;
use super::client::transfer::Seen;
use super::client::watch::ClientWatch;
use super::context::call::HeldBody;
use super::context::rejection::{Rejection, Stop};
use super::context::{Attempt, RequestContext};
use super::edge::Edge;
use super::gateway_memory::session::{GatewaySession, VERSIONS};
use super::mcp_session::{SESSION_HEADER, unknown};
use super::respond;
use super::snapshot::GatewayContext;
use crate::auth::Denial;
use crate::config::limits;
use crate::mcp::{
    Era, INVALID_PARAMS, INVALID_REQUEST, ListKind, METHOD_NOT_FOUND, Message, MessageId, ServerMark, Splice,
    VERSION_HEADER,
};
use crate::metrics::{CallOutcome, RejectionReason as Reason};
use crate::types::Target;

/// The JSON-RPC error for a protocol version that a server does not speak (MCP 2026-07-28, "Versioning").
const UNSUPPORTED_VERSION: i32 = -32022;

/// Serves a request that came to a gateway. `body`: that of a POST.
///
/// # Errors
/// The request is refused, or the exchange with a server broke off.
pub(super) async fn serve(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &Arc<GatewayContext>,
    body: Option<HeldBody>,
) -> Result<(), Stop> {
    let Some(body) = body else { return serve_bodiless(edge, downstream, context, gateway).await };
    let bytes = body.bytes.clone();
    let messages = admit::read_messages(&bytes, &mut context.message)?;
    let era = admit::note_call(&downstream.req_header().headers, &mut context.message, &messages)?;
    let Some(message) = messages.single() else {
        let text = "a gateway takes one message at a time: send each in its own request";
        return Err(Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, text).into());
    };
    let header = downstream.req_header();
    let claimed = header.headers.get(VERSION_HEADER).and_then(|version| version.to_str().ok());
    // A request with a version in `_meta` is one of the era without sessions, whatever the version is.
    if era == Era::Stateless || (message.meta_version.is_some() && !header.headers.contains_key(&SESSION_HEADER)) {
        check_version(claimed, message)?;
    }
    let session = match era {
        Era::Sessions if message.method() != Some("initialize") => {
            Some(open_session(edge, downstream, context, gateway).await?)
        }
        Era::Sessions | Era::Stateless => None,
    };
    let client = session.as_ref().map_or(ClientSession::Stateless, ClientSession::Open);
    let (Some(method), Some(id)) = (message.method(), message.id.clone()) else {
        if era == Era::Sessions {
            let request = downstream.req_header().clone();
            let caller = Caller { edge, gateway, context, request: &request };
            notify::pass_on(caller, client, message.method(), &bytes).await?;
        }
        return accepted(downstream, context).await;
    };
    let is_forwarded =
        !matches!(method, "server/discover" | "subscriptions/listen") && ListKind::of_method(method).is_none();
    if era == Era::Stateless && !is_forwarded {
        check_capabilities(&bytes)?;
    }
    if is_forwarded && !is_own(gateway, method, message) {
        let request = Request { client, message, method, era, body };
        return to_server(edge, downstream, context, gateway, request).await;
    }
    if (method, era) == ("subscriptions/listen", Era::Stateless) {
        return stream::listen(edge, downstream, context, gateway, &bytes, &id).await;
    }
    let head = downstream.req_header().clone();
    let caller = Caller { edge, gateway, context, request: &head };
    let work = own_answer(caller, client, message, (method, era), &bytes);
    let (result, session) = while_client_waits(downstream, work).await??;
    answer(downstream, context, &id, &result, session).await
}

/// True for requests that are about one server, and still for the gateway itself.
fn is_own(gateway: &GatewayContext, method: &str, message: &Message<'_>) -> bool {
    let tool = message.operations().next().and_then(|operation| operation.tool());
    let is_own_tool = method == "tools/call" && tool.is_some_and(|tool| own_tools::is_own_tool(gateway, tool));
    is_own_tool || matches!(method, "initialize" | "ping" | "logging/setLevel")
}

/// The result of a request that the gateway answers itself, and the id of the session that it has opened.
async fn own_answer(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    message: &Message<'_>,
    (method, era): (&str, Era),
    bytes: &Bytes,
) -> Result<(String, Option<HeaderValue>), Rejection> {
    let is_stateless = era == Era::Stateless;
    let result = match method {
        "initialize" if !is_stateless => {
            let params = Splice::new(bytes).and_then(|splice| splice.params().map(str::to_owned));
            let greeting = greet::initialize(caller, params.as_deref().unwrap_or("{}")).await?;
            return Ok((greeting.result, Some(greeting.session)));
        }
        "server/discover" => greet::discover(caller).await?,
        "ping" if !is_stateless => "{}".to_owned(),
        "logging/setLevel" if !is_stateless => {
            notify::set_log_level(caller, client, bytes).await?;
            "{}".to_owned()
        }
        "tools/call" => {
            let tool = message.operations().next().and_then(|operation| operation.tool());
            search::call(caller, client, tool.unwrap_or_default(), bytes).await
        }
        _ => match ListKind::of_method(method) {
            Some(kind) => {
                let splice = Splice::new(bytes);
                let cursor = splice.as_ref().and_then(|splice| splice.cursor()).filter(|cursor| *cursor != "null");
                lists::list(caller, client, kind, cursor).await?
            }
            None => {
                let refusal = admit::refuse(caller.context, &caller.gateway.route, Denial::default(), None, era);
                return Err(unknown_method(refusal, method, era));
            }
        },
    };
    Ok((result, None))
}

/// Does `work`, unless the client leaves meanwhile. What was begun in its name at servers is broken off then.
async fn while_client_waits<T>(downstream: &mut Downstream<'_>, work: impl Future<Output = T>) -> Result<T, Stop> {
    let mut work = pin!(work);
    let mut listens = true;
    loop {
        let seen = tokio::select! {
            done = &mut work => return Ok(done),
            seen = poll_fn(|cx| downstream.poll_idle(cx)), if listens => seen?,
        };
        match seen {
            Seen::Reset => return Err(ClientWatch::has_left().into()),
            // It may have closed only its own side, after its request.
            Seen::Closed => {
                let done = tokio::time::timeout(limits::HALF_CLOSED, &mut work).await;
                return done.map_err(|_| ClientWatch::has_left().into());
            }
            Seen::Spoke => {}
            Seen::Full => listens = false,
        }
    }
}

/// Passes a request on to the one server that it is for.
async fn to_server(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &Arc<GatewayContext>,
    request: Request<'_>,
) -> Result<(), Stop> {
    let Request { client, message, method, era, .. } = request;
    let target = message.operations().next().and_then(|operation| operation.target());
    let caller = Caller { edge, gateway, context, request: downstream.req_header() };
    let (about, found) = match target {
        Some(Target::Tool(name)) => (About::Tool, resolve::named(caller, client, ListKind::Tools, name).await?),
        Some(Target::Prompt(name)) => (About::Prompt, resolve::named(caller, client, ListKind::Prompts, name).await?),
        Some(Target::Resource(uri)) => (About::Resource, resolve::resource(caller, client, uri).await?),
        Some(Target::Task(id)) => (About::Task, resolve::task(caller, client, id).await),
        None => {
            let is_named = matches!(method, "tools/call" | "prompts/get" | "resources/read" | "completion/complete");
            let denial = Denial::default();
            return Err(if is_named {
                let text = "the name is missing";
                Rejection::new(Reason::InvalidMessage, text).told_by_error(INVALID_PARAMS, StatusCode::OK, text).into()
            } else {
                unknown_method(admit::refuse(context, &gateway.route, denial, None, era), method, era).into()
            });
        }
    };
    let Some(found) = found else {
        let denial = Denial::default();
        return Err(admit::refuse(context, &gateway.route, denial, Some(message), era).into());
    };
    forward(edge, downstream, context, gateway, request, (about, found)).await
}

fn unknown_method(refusal: Rejection, method: &str, era: Era) -> Rejection {
    let status = if era == Era::Stateless { StatusCode::NOT_FOUND } else { StatusCode::OK };
    refusal.told_by_error(METHOD_NOT_FOUND, status, format!("Method not found: {method}"))
}

/// A GET opens the stream of a session, and a DELETE ends a session. Clients of the era without sessions send neither.
async fn serve_bodiless(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &Arc<GatewayContext>,
) -> Result<(), Stop> {
    let header = downstream.req_header();
    let (method, has_session) = (header.method.clone(), header.headers.contains_key(&SESSION_HEADER));
    if !has_session || !matches!(method, Method::GET | Method::DELETE) {
        return Err(Rejection::new(Reason::MethodNotAllowed, "send messages with POST").into());
    }
    let session = open_session(edge, downstream, context, gateway).await?;
    if method == Method::GET {
        let last = downstream.req_header().headers.get("last-event-id").and_then(|last| last.to_str().ok());
        if let Some((mark, own)) = last.and_then(ServerMark::of_event)
            && let Ok(own) = HeaderValue::from_str(own)
        {
            let client = ClientSession::Open(&session);
            match resume_stream(edge, downstream, context, gateway, client, (mark, own)).await {
                // The server has lost its session, and with it the stream. The others go on.
                Err(Stop::Rejected(rejection)) if rejection.reason == Reason::UnknownSession => {
                    context.attempt = Attempt::default();
                }
                ended => return ended,
            }
        }
        return stream::open(edge, downstream, context, gateway, &session).await;
    }
    let caller = Caller { edge, gateway, context, request: downstream.req_header() };
    notify::end(caller, &session).await;
    let head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(4))?;
    Ok(respond::write_empty(downstream, context, head).await?)
}

/// The session that the request names.
///
/// # Errors
/// It names none, or one that is not the caller's, was ended, or was made up.
async fn open_session(
    edge: &Edge,
    downstream: &Downstream<'_>,
    context: &mut RequestContext,
    gateway: &GatewayContext,
) -> Result<GatewaySession, Rejection> {
    let request = downstream.req_header();
    let mut fields = request.headers.get_all(&SESSION_HEADER).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        let text = "a request needs one Mcp-Session-Id: initialize first, and send the id that the answer has";
        return Err(Rejection::of_message(Reason::InvalidMessage, INVALID_REQUEST, text));
    };
    let caller = Caller { edge, gateway, context, request };
    let session = field
        .to_str()
        .ok()
        .and_then(|sealed| GatewaySession::open(sealed, &caller.context.snapshot.session_keys, greet::owner(&caller)));
    match session {
        Some(session) if edge.gateways.ended.get(&session.key).await.is_none() => Ok(session),
        _ => {
            if let Some(call) = &mut context.message.call {
                call.outcome = Some(CallOutcome::Denied);
            }
            Err(unknown())
        }
    }
}

/// A request without a session must have a version that the gateway speaks (MCP 2026-07-28, "Versioning").
fn check_version(claimed: Option<&str>, message: &Message<'_>) -> Result<(), Rejection> {
    if claimed == Some(STATELESS_VERSION) {
        return match message.meta_version {
            None if message.method().is_some() && message.id.is_some() => Err(missing_meta("protocolVersion")),
            _ => Ok(()),
        };
    }
    let supported: Vec<&str> = std::iter::once(STATELESS_VERSION).chain(VERSIONS).collect();
    let data = [("supported", json!(supported)), ("requested", json!(claimed.unwrap_or_default()))];
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let refusal = Rejection::of_message(Reason::InvalidMessage, UNSUPPORTED_VERSION, "Unsupported protocol version");
    Err(refusal.with_data(data))
}

/// A request that the gateway answers itself must say what its client can do (MCP 2026-07-28, "Overview", `_meta`).
fn check_capabilities(message: &[u8]) -> Result<(), Rejection> {
    #[derive(serde::Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
        capabilities: Option<serde::de::IgnoredAny>,
    }
    #[derive(serde::Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Option<Meta>,
    }
    #[derive(serde::Deserialize)]
    struct Request {
        params: Option<Params>,
    }
    let request: Option<Request> = serde_json::from_slice(message).ok();
    let meta = request.and_then(|request| request.params?.meta);
    match meta.and_then(|meta| meta.capabilities) {
        Some(_) => Ok(()),
        None => Err(missing_meta("clientCapabilities")),
    }
}

fn missing_meta(name: &str) -> Rejection {
    let text = format!("`_meta` of the request has no `io.modelcontextprotocol/{name}`");
    Rejection::of_message(Reason::InvalidMessage, INVALID_PARAMS, text)
}

/// Answers a request with a result of the gateway itself. `session`: the id of the session that it has opened.
async fn answer(
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    id: &MessageId,
    result: &str,
    session: Option<HeaderValue>,
) -> Result<(), Stop> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
    if let Some(session) = session {
        head.insert_header(SESSION_HEADER.clone(), session)?;
    }
    if let Some(call) = &mut context.message.call {
        call.outcome = Some(CallOutcome::Ok);
    }
    let mut body = String::with_capacity(result.len() + 64);
    for part in [r#"{"jsonrpc":"2.0","id":"#, id.as_json(), r#","result":"#, result, "}"] {
        body.push_str(part);
    }
    Ok(respond::write(downstream, context, head, "application/json", Bytes::from(body)).await?)
}

/// Tells the client that its notification or answer was taken.
async fn accepted(downstream: &mut Downstream<'_>, context: &mut RequestContext) -> Result<(), Stop> {
    if let Some(call) = &mut context.message.call {
        call.outcome = Some(CallOutcome::Ok);
    }
    let mut head = ResponseHeader::build(StatusCode::ACCEPTED, Some(4))?;
    head.insert_header(http::header::CONTENT_LENGTH, 0)?;
    Ok(respond::write_empty(downstream, context, head).await?)
}
