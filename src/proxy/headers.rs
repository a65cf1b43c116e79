//! The fields of requests to upstreams and of responses to clients.

use std::sync::Weak;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::ending::Ending;
use super::origin;
use super::snapshot::RouteContext;
use crate::auth::{Authenticator, Permit};
use crate::config::{HeaderChange, HostHeader, Identity};

/// Fields that only the edge may write: clients and the proxies before the edge could lie in them.
const EDGE_ONLY: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
];

/// The media type of event streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// The fields of `headers` that speak of one connection only (RFC 9110 section 7.6.1), and those that `Connection` names.
pub(super) fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    const STANDARD: &[&str] = &[
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let standard = STANDARD.iter().map(|name| HeaderName::from_static(name));
    standard.chain(named_in_connection(headers)).filter(|name| headers.contains_key(name)).collect()
}

/// The names in `Connection`.
pub(super) fn named_in_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok())
}

/// Makes `request` what the upstream should see. Hop-by-hop fields were taken off before, so a client cannot name any of
/// the fields set here in `Connection`.
pub(super) fn to_upstream(
    request: &mut RequestHeader,
    context: &RequestContext,
    route: &RouteContext,
    permit: &Permit,
) -> pingora::Result<()> {
    let identity = &context.snapshot.config.identity;
    request.set_raw_path(context.target.as_bytes())?;
    remove_untrusted(request, identity, route);
    if !route.settings.forward_token {
        request.remove_header(&AUTHORIZATION);
        for name in route.authenticator.iter().flat_map(Authenticator::credential_headers) {
            request.remove_header(name);
        }
    }
    if route.credential.is_some() {
        let shown = context.credential.as_ref();
        let shown = shown.ok_or_else(|| Error::explain(ErrorType::InternalError, "there is no credential to show"))?;
        request.insert_header(shown.header.clone(), shown.value.clone())?;
    }
    apply(&route.settings.request_headers, request)?;
    request.insert_header(HOST, upstream_host(route, context))?;
    if let Some(forwarded_for) = &context.client.forwarded_for {
        request.insert_header("x-forwarded-for", forwarded_for.clone())?;
    }
    request.insert_header("x-forwarded-proto", context.client.scheme)?;
    request.insert_header("x-forwarded-host", header_value(&context.client.authority))?;
    request.insert_header("x-request-id", context.id.to_header())?;
    if let Some(principal) = permit.principal() {
        request.insert_header(identity.subject_header.0.clone(), principal.subject_header().clone())?;
        request.insert_header(identity.scopes_header.0.clone(), principal.scopes_header().clone())?;
    }
    Ok(())
}

/// The `Host` that the upstream sees.
pub(super) fn upstream_host(route: &RouteContext, context: &RequestContext) -> HeaderValue {
    match (&route.settings.host, &context.endpoint) {
        (HostHeader::Rewrite(host), _) => host.0.clone(),
        (HostHeader::Endpoint, Some(guard)) => header_value(guard.endpoint().authority()),
        _ => header_value(&context.client.authority),
    }
}

/// Takes off what only the edge may say, in any spelling that a CGI-like server would read as the same name.
fn remove_untrusted(request: &mut RequestHeader, identity: &Identity, route: &RouteContext) {
    let ours = |name: &str| {
        EDGE_ONLY.contains(&name)
            || route.settings.credential.as_ref().is_some_and(|credential| name == credential.header.as_str())
            || name == identity.subject_header.0.as_str()
            || name == identity.scopes_header.0.as_str()
    };
    // What an authentication server was shown in another spelling.
    let shown = |name: &HeaderName, plain: &str| {
        let plain: Option<HeaderName> = (plain != name.as_str()).then(|| plain.parse().ok()).flatten();
        plain.is_some_and(|plain| route.authenticator.as_ref().is_some_and(|providers| providers.shows(&plain)))
    };
    let spoofs = |name: &&HeaderName| {
        let plain = name.as_str().replace('_', "-");
        ours(&plain) || shown(name, &plain)
    };
    let spoofed: Vec<HeaderName> = request.headers.keys().filter(spoofs).cloned().collect();
    for name in spoofed {
        request.remove_header(&name);
    }
}

/// Takes off what an MCP server might take for something else than was judged: MCP's own fields in the spelling of CGI,
/// and those that some frameworks take another method from.
pub(super) fn remove_lookalikes(request: &mut RequestHeader) {
    const OVERRIDES: &[&str] = &["x-http-method", "x-http-method-override", "x-method-override"];
    let misleads = |name: &str| {
        let plain = name.replace('_', "-");
        OVERRIDES.contains(&&*plain) || (plain != name && (plain.starts_with("mcp-") || plain == "last-event-id"))
    };
    let misleading: Vec<HeaderName> = request.headers.keys().filter(|name| misleads(name.as_str())).cloned().collect();
    for name in misleading {
        request.remove_header(&name);
    }
}

/// Makes `response` what the client should see.
pub(super) fn to_client(
    response: &mut ResponseHeader,
    context: &RequestContext,
    route: &RouteContext,
) -> pingora::Result<()> {
    for change in &route.settings.response_headers {
        match change {
            HeaderChange::Set(name, value) => response.insert_header(name.clone(), value.clone())?,
            HeaderChange::Remove(name) => drop(response.remove_header(name)),
        }
    }
    origin::expose(response, context)?;
    response.insert_header("x-request-id", context.id.to_header())
}

fn apply(changes: &[HeaderChange], request: &mut RequestHeader) -> pingora::Result<()> {
    for change in changes {
        match change {
            HeaderChange::Set(name, value) => request.insert_header(name.clone(), value.clone())?,
            HeaderChange::Remove(name) => drop(request.remove_header(name)),
        }
    }
    Ok(())
}

/// Authorities were checked where they came from: they hold nothing that a field's value cannot.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// True when a message has the media type `essence`, whatever its parameters. Case does not count (RFC 9110 section 8.3.1).
pub(super) fn is_of_type(headers: &HeaderMap, essence: &str) -> bool {
    let written = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let end = written.iter().position(|byte| *byte == b';').unwrap_or(written.len());
    written[..end].trim_ascii().eq_ignore_ascii_case(essence.as_bytes())
}

/// Event streams and upgraded connections may be silent for as long as their route allows, and are counted.
pub(super) fn mark_stream(session: &mut Session, response: &ResponseHeader, context: &mut RequestContext) {
    let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
    let content_type = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if upgraded {
        // The limit on silence within a request body would cut a quiet WebSocket.
        session.set_read_timeout(None);
    }
    if upgraded || is_of_type(&response.headers, EVENT_STREAM) || content_type.starts_with(b"application/grpc") {
        context.becomes_stream();
        // A gRPC call is the answer to one question, and shares its connection.
        let watched = context.route.as_ref().and_then(|route| Ending::of(context, route, true));
        context.ending = watched.map(|ending| ending.guard(Weak::clone(&context.connection)));
    }
}
