//! Web pages as callers: which may call at all, and what their browsers are told (CORS).
//!
//! MCP wants servers to check `Origin`, and those on loopback `Host` too, because a page can have its own name resolve to
//! any address (MCP 2025-11-25, "Transports", security warning). It is done here, before anything is rewritten: the
//! upstream sees hosts that the edge has chosen.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::Protocol;
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::session::ClientSession;
use crate::proxy::context::{Client, RequestContext};
use crate::proxy::listener::ListenerContext;
use crate::proxy::respond;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::types::{Authority, Origin, OriginPattern};

/// What pages may read of a response beside its body.
const EXPOSED: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, X-Request-Id";

/// Checks who the page behind a request is, if there is one.
///
/// # Errors
/// 421 for a host that a listener on loopback does not answer to, 403 for a page that may not call.
pub(crate) fn check(
    listener: Option<&ListenerContext>,
    route: &RouteContext,
    header: &RequestHeader,
    context: &mut RequestContext,
) -> Result<(), Rejection> {
    let mcp = route.settings.protocol == Protocol::Mcp;
    let on_loopback = listener.is_some_and(ListenerContext::is_on_loopback);
    let mut fields = header.headers.get_all(ORIGIN).iter();
    let field = fields.next();
    if field.is_none() && !(mcp && on_loopback) {
        return Ok(());
    }
    let Ok(authority) = Authority::parse(&context.client.authority) else {
        return Err(Rejection::new(Reason::BadRequest, "the Host is malformed"));
    };
    if mcp && on_loopback && !context.client.behind_proxy && !authority.is_loopback() {
        return Err(Rejection::new(
            Reason::Misdirected,
            "this listener is on loopback and answers to loopback hosts only: list others in its `hosts`",
        ));
    }
    let Some(field) = field else { return Ok(()) };
    let origin = field.to_str().ok().and_then(|text| text.parse::<Origin>().ok());
    let allows = |patterns: &[OriginPattern]| {
        patterns.iter().any(|pattern| match &origin {
            Some(origin) => pattern.matches(origin),
            // `null`: a page without an origin of its own.
            None => *pattern == OriginPattern::Any,
        })
    };
    let allowed_by_route = route.settings.cors.as_ref().is_some_and(|cors| allows(&cors.origins));
    if allowed_by_route {
        context.cors_origin = Some(field.clone());
    }
    let listed = listener.map(ListenerContext::origins).unwrap_or_default();
    // A name can be made to mean any address, so it is the listener's own only where the listener, or a proxy that is
    // trusted, has checked it.
    let checked = listener.is_some_and(ListenerContext::names_hosts) || context.client.behind_proxy;
    let checked = checked || authority.is_address() || authority.is_loopback();
    let own = |client: &Client| {
        origin.as_ref().is_some_and(|origin| {
            (checked && origin.same_as(client.scheme, &authority)) || (on_loopback && origin.is_loopback())
        })
    };
    let allowed = fields.next().is_none()
        && (allowed_by_route || allows(listed) || (listed.is_empty() && (!mcp || own(&context.client))));
    if allowed {
        Ok(())
    } else {
        context.cors_origin = None;
        Err(Rejection::new(
            Reason::ForbiddenOrigin,
            "pages of this origin may not call: name the host in `hosts` of the listener, or allow the origin in its \
             `origins` or in `cors` of the route",
        ))
    }
}

/// Answers a preflight of a page that may call (Fetch standard, "CORS protocol"). It carries no credential, and needs none.
/// False when the request is none, or the route leaves CORS to its upstream.
pub(crate) async fn answer_preflight(
    session: &mut ClientSession<'_>,
    context: &RequestContext,
    route: &RouteContext,
) -> pingora::Result<bool> {
    let header = session.req_header();
    let (Some(cors), true) = (&route.settings.cors, is_preflight(header)) else { return Ok(false) };
    let headers = header.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
    head.insert_header(ACCESS_CONTROL_ALLOW_METHODS, respond::methods(Some(route)))?;
    if let Some(headers) = headers {
        // A credential is checked on the request itself; which fields it has decides nothing.
        head.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, headers)?;
    }
    head.insert_header(ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs())?;
    respond::write_empty(session, context, head).await?;
    Ok(true)
}

/// True for a browser's question whether a page may call.
pub(crate) fn is_preflight(header: &RequestHeader) -> bool {
    header.method == Method::OPTIONS
        && header.headers.contains_key(ORIGIN)
        && header.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Tells the browser of a page that may call what the page may read. What an upstream says about that does not count.
pub(crate) fn expose(response: &mut ResponseHeader, context: &RequestContext) -> pingora::Result<()> {
    if context.route.as_ref().is_some_and(|route| route.settings.cors.is_some()) {
        response.append_header(VARY, HeaderValue::from_static("Origin"))?;
    }
    let Some(origin) = &context.cors_origin else { return Ok(()) };
    let theirs: Vec<HeaderName> =
        response.headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    for name in theirs {
        if ![ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_MAX_AGE].contains(&name) {
            response.remove_header(&name);
        }
    }
    response.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())?;
    response.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED))?;
    Ok(())
}
