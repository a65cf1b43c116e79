//! Web pages as callers: which pages may call, and the answer to their browsers' questions (CORS preflights).
//!
//! MCP servers must check `Origin`, and servers on loopback should check `Host` too, because a page can make its own name
//! resolve to any address (MCP 2025-11-25, "Transports", security warning). The edge checks both before it rewrites
//! anything: the upstream sees a host that the edge has chosen.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::Protocol;
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::context::{Client, RequestContext};
use crate::proxy::listener::ListenerContext;
use crate::proxy::respond;
use crate::proxy::snapshot::RouteContext;
use crate::types::{Authority, Origin, OriginPattern};

/// Checks the web page behind a request, if there is one. Gives its origin when the page may read the answer.
///
/// # Errors
/// 421 for a host that a listener on loopback does not answer to, 403 for a page that may not call.
pub(crate) fn check(
    listener: Option<&ListenerContext>,
    route: &RouteContext,
    header: &RequestHeader,
    client: &Client,
) -> Result<Option<HeaderValue>, Rejection> {
    let is_mcp = route.settings.protocol == Protocol::Mcp;
    let on_loopback = listener.is_some_and(ListenerContext::is_on_loopback);
    let mut fields = header.headers.get_all(ORIGIN).iter();
    let field = fields.next();
    if field.is_none() && !(is_mcp && on_loopback) {
        return Ok(None);
    }
    let Ok(authority) = Authority::parse(&client.authority) else {
        return Err(Rejection::new(Reason::BadRequest, "the Host field is malformed"));
    };
    if is_mcp && on_loopback && !client.behind_proxy && !authority.is_loopback() {
        return Err(Rejection::new(
            Reason::Misdirected,
            "this listener is on loopback and answers to loopback hosts only: list other hosts in its `hosts`",
        ));
    }
    let Some(field) = field else { return Ok(None) };
    let page = Page { origin: field.to_str().ok().and_then(|text| text.parse().ok()), is_one: fields.next().is_none() };
    let allowed_by_route = route.settings.cors.as_ref().is_some_and(|cors| page.is_listed(&cors.origins));
    let edge = OwnOrigin {
        scheme: client.scheme,
        // A page can make its own name resolve to any address. So a name is the listener's own only if the listener, or a
        // trusted proxy, has checked it.
        is_checked: listener.is_some_and(ListenerContext::names_hosts)
            || client.behind_proxy
            || authority.is_address()
            || authority.is_loopback(),
        authority,
        on_loopback,
    };
    let listed = listener.map(ListenerContext::origins).unwrap_or_default();
    if page.is_one && (allowed_by_route || page.may_call(listed, &edge, is_mcp)) {
        return Ok(allowed_by_route.then(|| field.clone()));
    }
    Err(Rejection::new(
        Reason::ForbiddenOrigin,
        "pages of this origin may not call: name the host in `hosts` of the listener, or allow the origin in its \
         `origins` or in `cors` of the route",
    ))
}

/// What a request says about the page that it comes from.
struct Page {
    /// `None`: a page without an origin of its own (`null`), or a malformed origin.
    origin: Option<Origin>,
    /// False when there is more than one `Origin` field.
    is_one: bool,
}

/// The origin at which the edge itself was called.
struct OwnOrigin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
    /// True when the name cannot be that of a hostile page.
    is_checked: bool,
    on_loopback: bool,
}

impl Page {
    fn is_listed(&self, patterns: &[OriginPattern]) -> bool {
        patterns.iter().any(|pattern| match &self.origin {
            Some(origin) => pattern.matches(origin),
            None => *pattern == OriginPattern::Any,
        })
    }

    /// Whether the listener lets the page call: one of its `origins`, or else, on MCP routes, the edge's own origin.
    fn may_call(&self, listed: &[OriginPattern], edge: &OwnOrigin<'_>, is_mcp: bool) -> bool {
        if !listed.is_empty() {
            return self.is_listed(listed);
        }
        !is_mcp || self.origin.as_ref().is_some_and(|origin| edge.is(origin))
    }
}

impl OwnOrigin<'_> {
    fn is(&self, origin: &Origin) -> bool {
        (self.is_checked && origin.same_as(self.scheme, &self.authority)) || (self.on_loopback && origin.is_loopback())
    }
}

/// Answers the preflight of a page that may call (Fetch standard, "CORS protocol"). A preflight carries no credential and needs
/// none. False when the request is not a preflight, or the route has no `cors`.
pub(crate) async fn answer_preflight(
    downstream: &mut Downstream<'_>,
    context: &RequestContext,
    route: &RouteContext,
) -> pingora::Result<bool> {
    let header = downstream.req_header();
    let (Some(cors), true) = (&route.settings.cors, is_preflight(header)) else { return Ok(false) };
    let headers = header.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
    head.insert_header(ACCESS_CONTROL_ALLOW_METHODS, respond::methods(Some(route)))?;
    if let Some(headers) = headers {
        // All fields that the page asks for: the request itself is checked later.
        head.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, headers)?;
    }
    head.insert_header(ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs())?;
    respond::write_empty(downstream, context, head).await?;
    Ok(true)
}

/// True for a preflight: a browser asks whether a page may call.
pub(crate) fn is_preflight(header: &RequestHeader) -> bool {
    header.method == Method::OPTIONS
        && header.headers.contains_key(ORIGIN)
        && header.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(origin: &str) -> Page {
        Page { origin: origin.parse().ok(), is_one: true }
    }

    fn edge(authority: &str, is_checked: bool, on_loopback: bool) -> OwnOrigin<'_> {
        let authority = Authority::parse(authority).expect("legal");
        OwnOrigin { scheme: "https", authority, is_checked, on_loopback }
    }

    fn patterns(written: &[&str]) -> Vec<OriginPattern> {
        written.iter().map(|pattern| pattern.parse().expect("legal")).collect()
    }

    #[test]
    fn a_page_of_the_edges_own_origin_may_call_if_the_name_was_checked() {
        let (own, other) = (page("https://edge.example"), page("https://evil.example"));
        for (is_checked, expected) in [(true, true), (false, false)] {
            let edge = edge("edge.example", is_checked, false);
            assert_eq!(own.may_call(&[], &edge, true), expected);
            assert!(!other.may_call(&[], &edge, true));
        }
        assert!(!page("http://edge.example").may_call(&[], &edge("edge.example", true, false), true), "another scheme");
    }

    #[test]
    fn origins_that_are_listed_replace_the_edges_own() {
        let edge = edge("edge.example", true, false);
        let listed = patterns(&["https://app.example"]);
        assert!(page("https://app.example").may_call(&listed, &edge, true));
        assert!(!page("https://edge.example").may_call(&listed, &edge, true));
    }

    #[test]
    fn a_listener_on_loopback_trusts_pages_of_this_machine() {
        let local = page("http://localhost:5173");
        assert!(local.may_call(&[], &edge("127.0.0.1:8080", true, true), true));
        assert!(!local.may_call(&[], &edge("192.0.2.1:8080", true, false), true));
    }

    #[test]
    fn a_page_without_an_origin_is_allowed_only_where_all_are() {
        let edge = edge("edge.example", true, true);
        assert!(!page("null").may_call(&[], &edge, true));
        assert!(!page("null").may_call(&patterns(&["https://app.example"]), &edge, true));
        assert!(page("null").may_call(&[OriginPattern::Any], &edge, true));
    }

    #[test]
    fn opaque_routes_leave_pages_to_their_servers() {
        let edge = edge("edge.example", false, false);
        assert!(page("https://evil.example").may_call(&[], &edge, false));
        assert!(!page("https://evil.example").may_call(&patterns(&["https://app.example"]), &edge, false));
    }
}
