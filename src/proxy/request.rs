//! What happens to a request before it may go to an upstream: bounds, host, path, route, caller, permission, body.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{EXPECT, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::hooks::Edge;
use super::listener::ListenerContext;
use super::reject::{self, Rejection};
use super::snapshot::RouteContext;
use super::wellknown::{self, ResourceUrl};
use crate::auth::{AuthError, Challenge, OriginalRequest};
use crate::config::{Authentication, Protocol, limits};
use crate::metrics::RejectionReason as Reason;
use crate::route::upstream_path;
use crate::types::{Authority, Operation, Permit, ScopeSet, canonical_path};

/// Whether Pingora should go on with a request.
pub(super) enum Admission {
    /// It is permitted.
    Proxy,
    /// It was answered here.
    Answered,
}

/// Decides on a request. Everything that it learns is in `context`.
///
/// # Errors
/// Why the request goes nowhere; the caller answers with it. The outer error is a lost connection.
pub(super) async fn admit(
    edge: &Edge,
    session: &mut Session,
    context: &mut RequestContext,
) -> pingora::Result<Result<Admission, Rejection>> {
    set_timeouts(session, context);
    let identified = match identify(edge, session, context) {
        Ok(identified) => identified,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let host =
        Authority::parse(&context.client.authority).map(|authority| authority.host().to_owned()).unwrap_or_default();
    if let Some(path) = wellknown::resource_path(&identified.path) {
        match wellknown::answer(session, context, &host, path).await? {
            Ok(true) => return Ok(Ok(Admission::Answered)),
            Ok(false) => {}
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    let snapshot = Arc::clone(&context.snapshot);
    let Some(route) = snapshot.router.find(&host, &identified.path) else {
        return Ok(Err(Rejection::new(Reason::NotFound, "no route matches this host and path")));
    };
    context.enter(route);
    let permit = match authorize(session, context, route, &identified).await {
        Ok(permit) => permit,
        Err(rejection) => return Ok(Err(rejection)),
    };
    context.permit = Some(permit);
    if let Err(rejection) = check_message(session, context, route) {
        return Ok(Err(rejection));
    }
    let path = upstream_path(&route.settings.rewrite, &route.settings.prefix, &identified.path);
    context.target = match &identified.query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    read_ahead(session, context, route).await
}

/// The target of a request, in its one canonical form.
struct Identified {
    path: String,
    query: Option<String>,
}

fn set_timeouts(session: &mut Session, context: &RequestContext) {
    let limits = &context.snapshot.config.limits;
    session.set_keepalive(Some(limits.keepalive_timeout.0.as_secs().max(1)));
    session.set_read_timeout(Some(limits.body_timeout.0));
    session.set_write_timeout(Some(limits.write_timeout.0));
}

/// Bounds, client, host and path.
fn identify(edge: &Edge, session: &Session, context: &mut RequestContext) -> Result<Identified, Rejection> {
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
    if header.method == Method::TRACE || header.method == Method::CONNECT {
        return Err(Rejection::new(Reason::MethodNotAllowed, "this method is not carried"));
    }
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    let bad = |message: String| Rejection::new(Reason::BadRequest, message);
    let path = canonical_path(path).map_err(|error| bad(error.to_string()))?.into_owned();
    let query = match query {
        Some(query) if query.iter().all(u8::is_ascii_graphic) => Some(String::from_utf8_lossy(query).into_owned()),
        Some(_) => return Err(bad("a query holds only the characters of RFC 3986; encode others as `%XX`".to_owned())),
        None => None,
    };
    context.client.path.clone_from(&path);
    let listener = session.server_addr().and_then(|address| address.as_inet()).and_then(|local| edge.listener(*local));
    let peer = session.client_addr().and_then(|address| address.as_inet()).copied();
    read_client(header, listener, peer, context)?;
    Ok(Identified { path, query })
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
    client.scheme = if listener.is_some_and(|listener| listener.tls) { "https" } else { "http" };
    let written = host(header)?;
    let authority = Authority::parse(&written).map_err(|_| bad("the Host is malformed"))?;
    if listener.is_some_and(|listener| !listener.serves(authority.host())) {
        return Err(Rejection::new(Reason::Misdirected, "this listener does not serve that host"));
    }
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
            Authority::parse(forwarded).map_err(|_| bad("the X-Forwarded-Host is malformed"))?;
            client.authority = forwarded.to_owned();
        }
    }
    let mut forwarded_for = chain.join(", ");
    if !forwarded_for.is_empty() {
        forwarded_for.push_str(", ");
    }
    forwarded_for.push_str(&peer.to_string());
    client.forwarded_for = HeaderValue::from_str(&forwarded_for).ok();
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

/// The caller's permission, or what it takes to get one.
async fn authorize(
    session: &Session,
    context: &RequestContext,
    route: &RouteContext,
    identified: &Identified,
) -> Result<Permit, Rejection> {
    let (authenticator, auth) = match (&route.authenticator, &route.settings.auth) {
        (Some(authenticator), Some(auth)) => (authenticator, auth),
        (None, None) => {
            return Permit::authorize(None, Operation::Request, None).map_err(|needed| insufficient(needed, None));
        }
        // Building a snapshot makes both or none; were it otherwise, nobody gets in.
        _ => return Err(Rejection::new(Reason::Internal, "the route is not ready")),
    };
    let header = session.req_header();
    let query = identified.query.as_ref();
    let uri = query.map_or_else(|| identified.path.clone(), |query| format!("{}?{query}", identified.path));
    let origin = format!("{}://{}", context.client.scheme, context.client.authority);
    let request =
        OriginalRequest { headers: &header.headers, method: header.method.as_str(), origin: &origin, uri: &uri };
    // Only those who are refused are told of it.
    let resource = || ResourceUrl::new(auth, &context.client, &identified.path);
    let principal = authenticator.authenticate(&request).await;
    let principal = principal.map_err(|error| unauthenticated(error, auth, &resource()))?;
    Permit::authorize(Some(principal), Operation::Request, Some(&auth.scopes))
        .map_err(|needed| insufficient(needed, Some(&resource())))
}

fn insufficient(needed: &ScopeSet, resource: Option<&ResourceUrl>) -> Rejection {
    let rejection = Rejection::new(Reason::InsufficientScope, format!("this needs the scopes `{needed}`"));
    match resource {
        Some(resource) => rejection.with_challenge(challenge(Some("insufficient_scope"), needed, resource)),
        None => rejection,
    }
}

fn unauthenticated(error: AuthError, auth: &Authentication, resource: &ResourceUrl) -> Rejection {
    let scopes = &auth.scopes;
    match error {
        AuthError::Missing => Rejection::new(Reason::Unauthenticated, "a bearer token is needed")
            .with_challenge(challenge(None, scopes, resource)),
        AuthError::Denied(message) => Rejection::new(Reason::InvalidToken, message).with_challenge(challenge(
            Some("invalid_token"),
            scopes,
            resource,
        )),
        AuthError::Forbidden(message) => Rejection::new(Reason::InsufficientScope, message).with_challenge(challenge(
            Some("insufficient_scope"),
            scopes,
            resource,
        )),
        AuthError::BadRequest(message) => Rejection::new(Reason::BadRequest, message),
        AuthError::Unavailable(message) => Rejection::new(Reason::AuthUnavailable, message),
    }
}

fn challenge(error: Option<&'static str>, scopes: &ScopeSet, resource: &ResourceUrl) -> HeaderValue {
    Challenge { error, scopes, resource_metadata: &resource.metadata }.to_header()
}

/// What the route says about bodies and upgrades.
fn check_message(session: &Session, context: &mut RequestContext, route: &RouteContext) -> Result<(), Rejection> {
    let header = session.req_header();
    if reject::content_length(session).is_some_and(|length| length > route.settings.body_bytes) {
        return Err(too_large(route));
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

/// The body is larger than its route allows.
pub(super) fn too_large(route: &RouteContext) -> Rejection {
    Rejection::new(Reason::BodyTooLarge, format!("the request body is larger than {} bytes", route.settings.body_bytes))
}

/// The body of a short MCP message is read before an upstream is chosen: then a slow client holds no endpoint, and any
/// error can carry the message's id.
async fn read_ahead(
    session: &mut Session,
    context: &mut RequestContext,
    route: &RouteContext,
) -> pingora::Result<Result<Admission, Rejection>> {
    let header = session.req_header();
    // A longer body would be cut by Pingora's retry buffer, and one that waits for `100 Continue` would not come.
    let short = reject::content_length(session).is_some_and(|length| length > 0 && length <= limits::PEEK_BYTES as u64);
    let message = route.settings.protocol == Protocol::Mcp && header.method == Method::POST;
    if !message || !short || header.headers.contains_key(EXPECT) {
        return Ok(Ok(Admission::Proxy));
    }
    session.enable_retry_buffering();
    let whole = async {
        while session.read_request_body().await?.is_some() {}
        Ok(())
    };
    match tokio::time::timeout(context.snapshot.config.limits.body_timeout.0, whole).await {
        Ok(read) => read.map(|()| Ok(Admission::Proxy)),
        Err(_) => Ok(Err(Rejection::new(Reason::BodyTimeout, "the request body did not come in time"))),
    }
}
