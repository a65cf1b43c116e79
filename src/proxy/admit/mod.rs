//! What happens to a request before it may go to an upstream: bounds, host, path, route, page, caller, permission.

pub(super) mod authorize;
pub(super) mod message;
pub(super) mod origin;
pub(super) mod wellknown;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};

use super::client::session::ClientSession;
use super::context::{Client, RequestContext};
use super::edge::Edge;
use super::listener::ListenerContext;
use super::respond::Rejection;
use super::snapshot::RouteContext;
use super::text::push_address;
use super::{exchange, respond};
use crate::config::Protocol;
use crate::metrics::RejectionReason as Reason;
use crate::route::upstream_path;
use crate::types::{Authority, canonical_path};
use message::Body;

/// Whether Pingora should go on with a request.
pub(super) enum Admission {
    /// It is permitted.
    Proxy,
    /// It was answered here.
    Answered,
}

/// Finds the route of a request. Everything that it learns is in `context`; `known` is what the same head has told before,
/// under the same snapshot.
///
/// # Errors
/// The request is out of bounds or malformed.
pub(super) fn locate<'e>(
    edge: &'e Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    known: Option<Client>,
) -> Result<Located<'e>, Rejection> {
    let limits = &context.snapshot.config.limits;
    session.set_timeouts(limits.write_timeout.0, limits.body_timeout.0, limits.keepalive_timeout.0);
    let listener = session.local().and_then(|local| edge.listener(local));
    match known {
        Some(client) => context.client = client,
        None => identify(listener, session, context)?,
    }
    let Client { host, path, .. } = &context.client;
    let route = context.snapshot.router.find(host, path).map(Arc::clone);
    // Some have no route of their own, and then go to that of their path.
    let is_metadata = wellknown::resource_path(path).is_some();
    let is_opaque = is_metadata || route.as_ref().is_some_and(|route| route.settings.protocol == Protocol::Http);
    Ok(Located { listener, route, is_opaque })
}

/// Where a request came in, and the route that carries it.
pub(super) struct Located<'e> {
    listener: Option<&'e ListenerContext>,
    route: Option<Arc<RouteContext>>,
    /// Only Pingora's proxy can pass it on.
    pub(super) is_opaque: bool,
}

/// Decides on a request.
///
/// # Errors
/// Why the request goes nowhere; the caller answers with it. The outer error is a lost connection.
pub(super) async fn admit(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    Located { listener, route, .. }: Located<'_>,
) -> pingora::Result<Result<Admission, Rejection>> {
    if let Some(path) = wellknown::resource_path(&context.client.path) {
        match wellknown::answer(session, context, path).await? {
            Ok(true) => return Ok(Ok(Admission::Answered)),
            Ok(false) => {}
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    let Some(route) = &route else {
        return Ok(Err(Rejection::new(Reason::NotFound, "no route matches this host and path")));
    };
    context.enter(route);
    if let Err(rejection) = origin::check(listener, route, session.req_header(), context) {
        return Ok(Err(rejection));
    }
    if origin::answer_preflight(session, context, route).await? {
        return Ok(Ok(Admission::Answered));
    }
    if let Some(authenticator) = &route.authenticator {
        context.revocations_checked = authenticator.revocations().generation();
    }
    let query = context.client.query.clone();
    let query = query.as_deref();
    if let Err(rejection) = authorize::check_fields(session, route) {
        return Ok(Err(rejection));
    }
    let body = match message::read_early(edge, session, context, route, query).await? {
        Ok(body) => body,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let operation = body.as_ref().map(|body| &body.operation);
    match authorize::request(&authorize::original(session, context, query, operation), context, route).await {
        Ok((permit, asked)) => (context.permit, context.asked) = (Some(permit), asked),
        Err(rejection) => return Ok(Err(rejection)),
    }
    if let Err(rejection) = check_message(session, context, route) {
        return Ok(Err(rejection));
    }
    let path = upstream_path(&route.settings.rewrite, &route.settings.prefix, &context.client.path);
    context.target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    match route.settings.protocol {
        Protocol::Http => Ok(Ok(Admission::Proxy)),
        Protocol::Mcp => serve(edge, session, context, route, query, body.map(|early| early.body)).await,
    }
}

/// An MCP request is read and judged before an upstream is chosen, and then exchanged with it.
async fn serve(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &Arc<RouteContext>,
    query: Option<&str>,
    body: Option<Body>,
) -> pingora::Result<Result<Admission, Rejection>> {
    let call = match message::receive(edge, session, context, route, query, body).await? {
        Ok(call) => call,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let exchanged = exchange::run(edge, session, context, route, call).await?;
    Ok(exchanged.map(|()| Admission::Answered))
}

/// Bounds, client, host and path.
fn identify(
    listener: Option<&ListenerContext>,
    session: &ClientSession<'_>,
    context: &mut RequestContext,
) -> Result<(), Rejection> {
    let limits = &context.snapshot.config.limits;
    let header = session.req_header();
    let target = header.raw_path();
    if target.len() as u64 > limits.uri_bytes.0 {
        return Err(Rejection::new(
            Reason::UriTooLong,
            format!("the request target is longer than {} bytes", limits.uri_bytes.0),
        ));
    }
    let bytes: usize = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header.headers.len() > limits.header_count || bytes as u64 > limits.header_bytes.0 {
        let (count, bytes) = (limits.header_count, limits.header_bytes.0);
        return Err(Rejection::new(
            Reason::HeadersTooLarge,
            format!("the request has more than {count} header fields or {bytes} bytes of them"),
        ));
    }
    // HTTP/2 carries it (RFC 9113 section 8.2.1 forbids it), HTTP/1 takes it off: the upstream would read another value.
    if header.headers.values().map(HeaderValue::as_bytes).any(|value| value.trim_ascii() != value) {
        return Err(Rejection::new(Reason::BadRequest, "the value of a field begins or ends with white space"));
    }
    if header.method == Method::TRACE || header.method == Method::CONNECT {
        return Err(Rejection::new(Reason::MethodNotAllowed, "this method is not carried"));
    }
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    let bad = |message: String| Rejection::new(Reason::BadRequest, message);
    let path = canonical_path(path).map_err(|error| bad(error.to_string()))?.into_owned();
    let query: Option<Arc<str>> = match query {
        Some(query) if query.iter().all(u8::is_ascii_graphic) => Some(String::from_utf8_lossy(query).into()),
        Some(_) => return Err(bad("a query holds only the characters of RFC 3986; encode others as `%XX`".to_owned())),
        None => None,
    };
    (context.client.path, context.client.query) = (path, query);
    read_client(header, listener, session.peer(), context)
}

/// Who the client is and which host it means, through proxies that are trusted.
fn read_client(
    header: &pingora::http::RequestHeader,
    listener: Option<&ListenerContext>,
    peer: Option<SocketAddr>,
    context: &mut RequestContext,
) -> Result<(), Rejection> {
    let bad = |message: &'static str| Rejection::new(Reason::BadRequest, message);
    let client = &mut context.client;
    let peer = peer.map_or(client.address, |peer| peer.ip().to_canonical());
    let trusted = listener.is_some_and(|listener| listener.trusts(peer));
    client.address = peer;
    client.behind_proxy = trusted;
    client.scheme = if listener.is_some_and(|listener| listener.tls) { "https" } else { "http" };
    let written = host(header)?;
    let authority = Authority::parse(&written).map_err(|_| bad("the Host is malformed"))?;
    if listener.is_some_and(|listener| !listener.serves(authority.host())) {
        return Err(Rejection::new(Reason::Misdirected, "this listener does not serve that host"));
    }
    let mut host = authority.host().to_owned();
    client.authority = written;
    let chain: Vec<&str> = if trusted { list(&header.headers, "x-forwarded-for") } else { Vec::new() };
    if trusted {
        // From the right: what trusted proxies added. The first that none of them vouches for is the client.
        let mut hops = chain.iter().rev().map_while(|hop| hop.parse::<IpAddr>().ok());
        let untrusted = hops.find(|hop| !listener.is_some_and(|listener| listener.trusts(*hop)));
        client.address = untrusted.map_or(peer, |hop| hop.to_canonical());
        match header.headers.get("x-forwarded-proto").map(HeaderValue::as_bytes) {
            Some(b"https") => client.scheme = "https",
            Some(b"http") => client.scheme = "http",
            _ => {}
        }
        if let Some(forwarded) = header.headers.get("x-forwarded-host").and_then(|value| value.to_str().ok()) {
            let authority = Authority::parse(forwarded).map_err(|_| bad("the X-Forwarded-Host is malformed"))?;
            authority.host().clone_into(&mut host);
            client.authority = forwarded.to_owned();
        }
    }
    let mut forwarded_for = String::with_capacity(40);
    forwarded_for.push_str(&chain.join(", "));
    if !forwarded_for.is_empty() {
        forwarded_for.push_str(", ");
    }
    push_address(&mut forwarded_for, peer);
    client.forwarded_for = forwarded_for;
    client.host = host;
    Ok(())
}

/// The one host of a request: `:authority`, an absolute target's, or the `Host` field; all that are there must agree.
fn host(header: &pingora::http::RequestHeader) -> Result<String, Rejection> {
    let bad = |message: &'static str| Rejection::new(Reason::BadRequest, message);
    let mut fields = header.headers.get_all(HOST).iter();
    let field = fields.next().map(|value| value.to_str().map_err(|_| bad("the Host is malformed"))).transpose()?;
    if fields.next().is_some() {
        return Err(bad("there is more than one Host field"));
    }
    match (header.uri.authority().map(http::uri::Authority::as_str), field) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => {
            Err(bad("the Host field and the request target name different hosts"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host.to_owned()),
        (None, None) => Err(bad("there is no Host field")),
    }
}

/// The items of a comma-separated field.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let fields = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// What the route says about bodies and upgrades.
fn check_message(
    session: &ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
) -> Result<(), Rejection> {
    let header = session.req_header();
    if respond::content_length(session).is_some_and(|length| length > route.settings.body_bytes) {
        return Err(Rejection::too_large(route));
    }
    let wanted = header.headers.get(UPGRADE).map(HeaderValue::as_bytes);
    if wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(b"websocket")) && session.is_upgrade_req() {
        if !route.settings.websocket || header.method != Method::GET {
            return Err(Rejection::new(Reason::BadRequest, "this route does not carry WebSocket"));
        }
        context.upgrade = true;
    }
    Ok(())
}
