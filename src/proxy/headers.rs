//! The header fields of requests to upstreams and of answers to clients.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE,
    HOST, SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};

use super::context::{Access, Attempt, Client, RequestContext};
use super::snapshot::{RouteContext, ServerContext};
use crate::auth::Authenticator;
use crate::config::{Forwarded, HeaderChange, HostHeader};
use crate::types::{TOLD_FIELDS, is_connection_field, is_edge_field};

/// The media type of event streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// Carries the request's id, to the upstream and to the client. As text, because Pingora makes a new name of a `HeaderName`.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// The names of [`TOLD_FIELDS`].
static TOLD: [HeaderName; 4] = {
    let [forwarded_for, forwarded_proto, forwarded_host, request_id] = TOLD_FIELDS;
    [
        HeaderName::from_static(forwarded_for),
        HeaderName::from_static(forwarded_proto),
        HeaderName::from_static(forwarded_host),
        HeaderName::from_static(request_id),
    ]
};

/// What a web page may read of an answer, beside its body.
const EXPOSED: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, X-Request-Id";

/// The fields of `headers` that belong to one connection only (RFC 9110 section 7.6.1), including those that `Connection`
/// names.
fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let standard = headers.keys().filter(|name| is_connection_field(name)).cloned();
    standard.chain(named_in_connection(headers).filter(|name| headers.contains_key(name))).collect()
}

/// Removes the fields of `response` that belong to the connection of its sender only.
pub(super) fn strip_connection_fields(response: &mut ResponseHeader) {
    for name in hop_by_hop(&response.headers) {
        response.remove_header(&name);
    }
}

/// Removes what may not stand in the trailers of an answer: fields about the connection, the length, authentication and cookies
/// (RFC 9110 section 6.5.1).
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let misplaced = |name: &HeaderName| {
        is_connection_field(name)
            || [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, SET_COOKIE, WWW_AUTHENTICATE].contains(name)
    };
    let found: Vec<HeaderName> = trailers.keys().filter(|name| misplaced(name)).cloned().collect();
    for name in found {
        trailers.remove(name);
    }
}

/// The field names in `Connection`.
pub(super) fn named_in_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let options = named.flat_map(|value| value.split(',')).map(str::trim);
    // These two are no field names to look for: `close` has no field, and `keep-alive` is removed anyway.
    let fields = options.filter(|option| !["keep-alive", "close"].iter().any(|own| option.eq_ignore_ascii_case(own)));
    fields.filter_map(|name| name.parse().ok())
}

/// True for fields of clients that no upstream sees: those that only the edge may write, in any spelling that a CGI-like
/// server would read as the same name; those that carry credentials; and those that the route removes or sets itself.
pub(super) fn stays_at_edge(name: &HeaderName, context: &RequestContext, route: &ServerContext) -> bool {
    let settings = &route.settings;
    let plain = in_hyphens(name.as_str());
    if matches!(plain, Cow::Owned(_)) && !context.client.keeps_underscores {
        return true;
    }
    let is_identity = context.snapshot.config.identity.names().any(|name| *plain == *name.as_str());
    // A field that the authentication server was shown, in another spelling.
    let is_respelt = || {
        let shown: Option<HeaderName> = matches!(plain, Cow::Owned(_)).then(|| plain.parse().ok()).flatten();
        shown.is_some_and(|shown| route.authenticator.as_ref().is_some_and(|providers| providers.shows(&shown)))
    };
    is_edge_field(&plain)
        || is_respelt()
        || is_identity
        || settings.credential.as_ref().is_some_and(|credential| *plain == *credential.header.as_str())
        || (!settings.forward_token && carries_credential(name, &context.access, route))
        || is_of_entrance(name, context, route)
        || settings.request_headers.iter().any(|change| match change {
            HeaderChange::Set(changed, _) | HeaderChange::Remove(changed) => *in_hyphens(changed.as_str()) == *plain,
        })
}

/// What the servers of a gateway get of a client's fields, beside those that the gateway's authentication servers decide by and those
/// that begin with `mcp-`. Others may hold something that is meant for one of the servers only, as cookies and keys do.
const THROUGH_GATEWAYS: [&str; 7] =
    ["accept", "accept-language", "baggage", "content-type", "traceparent", "tracestate", "user-agent"];

/// True for a field that a gateway keeps from its servers.
fn is_of_entrance(name: &HeaderName, context: &RequestContext, route: &ServerContext) -> bool {
    let entrance = context.route.as_ref().filter(|entrance| !Arc::ptr_eq(entrance, &route.route));
    entrance.is_some_and(|entrance| {
        let is_context = || {
            let mut names = entrance.authenticator.iter().flat_map(Authenticator::context_headers);
            names.any(|context| context == name)
        };
        let plain = name.as_str();
        let passes = THROUGH_GATEWAYS.contains(&plain) || plain.starts_with("mcp-") || is_context();
        !passes || carries_credential(name, &context.access, entrance)
    })
}

fn carries_credential(name: &HeaderName, access: &Access, route: &RouteContext) -> bool {
    (*name == AUTHORIZATION && !access.leaves_authorization)
        || route.authenticator.as_ref().is_some_and(|providers| providers.reads(name))
}

/// Hands the fields that the edge sets to `add`, each name once.
///
/// # Errors
/// The request has no permit, or the route has a `credential` and none was acquired.
pub(super) fn of_the_edge(
    context: &RequestContext,
    route: &ServerContext,
    mut add: impl FnMut(&HeaderName, &[u8]),
) -> pingora::Result<()> {
    let Access { permit, credential, .. } = &context.access;
    let internal = |message: &'static str| Error::explain(ErrorType::InternalError, message);
    let permit = permit.as_ref().ok_or_else(|| internal("the request has no permit"))?;
    if route.credential.is_some() {
        let shown = credential.as_ref().ok_or_else(|| internal("no credential for the upstream was acquired"))?;
        add(&shown.header, shown.value.as_bytes());
    }
    for change in &route.settings.request_headers {
        match change {
            HeaderChange::Set(name, value) => add(name, value.as_bytes()),
            HeaderChange::Remove(_) => {}
        }
    }
    let client = &context.client;
    add(&HOST, upstream_host(route, client, &context.attempt).as_bytes());
    let [forwarded_for, forwarded_proto, forwarded_host, request_id] = &TOLD;
    if route.upstream.settings().forwarded == Forwarded::Full {
        add(forwarded_for, client.forwarded_for.as_bytes());
        add(forwarded_proto, client.scheme.as_bytes());
        add(forwarded_host, client.authority.as_bytes());
    }
    add(request_id, context.id.as_bytes());
    if let Some(principal) = permit.principal() {
        let identity = &context.snapshot.config.identity;
        add(&identity.subject_header.0, principal.subject().as_bytes());
        add(&identity.scopes_header.0, principal.grant().scopes_text().as_bytes());
        add(&identity.provider_header.0, principal.provider().as_bytes());
    }
    Ok(())
}

/// The `Host` that the upstream sees.
pub(super) fn upstream_host<'a>(route: &'a ServerContext, client: &'a Client, attempt: &'a Attempt) -> &'a str {
    match (&route.settings.host, &attempt.endpoint) {
        (HostHeader::Rewrite(host), _) => host.0.to_str().unwrap_or_default(),
        (HostHeader::Endpoint, Some(guard)) => guard.endpoint().authority(),
        _ => &client.authority,
    }
}

/// A field's name as a CGI-like server reads it.
fn in_hyphens(name: &str) -> Cow<'_, str> {
    if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) }
}

/// True for fields that could make an MCP server read something else than the edge has checked: MCP's own fields in the
/// spelling of CGI, and those from which some frameworks take another method.
pub(super) fn misleads(name: &HeaderName) -> bool {
    let plain = in_hyphens(name.as_str());
    let respelt = || matches!(plain, Cow::Owned(_)) && (plain.starts_with("mcp-") || plain == "last-event-id");
    matches!(&*plain, "x-http-method" | "x-http-method-override" | "x-method-override") || respelt()
}

/// Makes `response` what the client should see.
pub(super) fn to_client(
    response: &mut ResponseHeader,
    context: &RequestContext,
    route: &ServerContext,
) -> pingora::Result<()> {
    for change in &route.settings.response_headers {
        match change {
            HeaderChange::Set(name, value) => response.insert_header(name.clone(), value.clone())?,
            HeaderChange::Remove(name) => drop(response.remove_header(name)),
        }
    }
    expose(response, context.route.as_deref(), &context.access)?;
    response.insert_header(REQUEST_ID, context.id.to_header())
}

/// Tells the browser what a page that may call may read (Fetch standard, "CORS protocol"). What the upstream says about that
/// is removed, except for its answer to a preflight.
pub(super) fn expose(
    response: &mut ResponseHeader,
    route: Option<&RouteContext>,
    access: &Access,
) -> pingora::Result<()> {
    if route.is_some_and(|route| route.settings.cors.is_some()) {
        response.append_header(VARY, HeaderValue::from_static("Origin"))?;
    }
    let Some(origin) = &access.cors_origin else { return Ok(()) };
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

/// True when a message has the media type `essence`, whatever its parameters and its case (RFC 9110 section 8.3.1).
pub(super) fn is_of_type(headers: &HeaderMap, essence: &str) -> bool {
    media_type(headers).eq_ignore_ascii_case(essence.as_bytes())
}

/// The media type of a message, without its parameters. Its case is as written.
pub(super) fn media_type(headers: &HeaderMap) -> &[u8] {
    let written = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let end = written.iter().position(|byte| *byte == b';').unwrap_or(written.len());
    written[..end].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn fields_of_the_connection_include_those_that_connection_names() {
        let fields =
            headers(&[("connection", "close, X-Own,te"), ("x-own", "1"), ("te", "trailers"), ("x-other", "1")]);
        let mut names: Vec<String> = hop_by_hop(&fields).into_iter().map(|name| name.to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, ["connection", "te", "x-own"]);
    }

    #[test]
    fn what_connection_says_about_itself_names_no_field() {
        let named = |value| named_in_connection(&headers(&[("connection", value)])).count();
        assert_eq!([named("keep-alive"), named("Close"), named("close, upgrade"), named("")], [0, 0, 1, 0]);
    }

    #[test]
    fn fields_that_only_the_edge_may_write_are_known_in_every_spelling() {
        for name in ["x_forwarded_for", "x-real_ip", "x-request-id", "forwarded", "x-original-host", "x_rewrite_url"] {
            assert!(is_edge_field(&in_hyphens(name)), "{name}");
        }
        assert!(!is_edge_field("x-forward") && !is_edge_field("x-user-agent"));
    }

    #[test]
    fn other_spellings_of_fields_of_mcp_mislead() {
        for name in ["mcp_session_id", "mcp_name", "last_event_id", "x-http-method-override", "x_method_override"] {
            assert!(misleads(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["mcp-session-id", "last-event-id", "x_team"] {
            assert!(!misleads(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        let is = |value| is_of_type(&headers(&[("content-type", value)]), EVENT_STREAM);
        assert!(is("text/event-stream") && is("Text/Event-Stream ; charset=utf-8"));
        assert!(!is("text/event-streams") && !is("") && !is("application/json; a=text/event-stream"));
    }
}
