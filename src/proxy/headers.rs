//! The fields of requests to upstreams and of responses to clients.

use std::borrow::Cow;
use std::sync::Weak;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::admit::origin;
use super::context::RequestContext;
use super::context::credential_end::Ending;
use super::snapshot::RouteContext;
use crate::auth::Permit;
use crate::config::{HeaderChange, HostHeader, Identity};

/// True for fields that only the edge may write: clients and the proxies before the edge could lie in them.
fn is_of_the_edge(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-original-method"
            | "x-original-uri"
            | "x-original-url"
            | "x-real-ip"
            | "x-request-id"
    )
}

/// The media type of event streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// The fields of `headers` that speak of one connection only (RFC 9110 section 7.6.1), and those that `Connection` names.
pub(super) fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let standard = headers.keys().filter(|name| is_of_connection(name)).cloned();
    standard.chain(named_in_connection(headers).filter(|name| headers.contains_key(name))).collect()
}

/// True for the names that RFC 9110 section 7.6.1 lists, and those of old proxies.
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "close"
            | "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The names in `Connection`.
pub(super) fn named_in_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let options = named.flat_map(|value| value.split(',')).map(str::trim);
    // What most connections say is about themselves, and names no field that is not taken off anyway.
    let fields = options.filter(|option| !["keep-alive", "close"].iter().any(|own| option.eq_ignore_ascii_case(own)));
    fields.filter_map(|name| name.parse().ok())
}

/// Makes `request` what the upstream should see. Hop-by-hop fields were taken off before, so a client cannot name any of
/// the fields set here in `Connection`.
pub(super) fn to_upstream(
    request: &mut RequestHeader,
    context: &RequestContext,
    route: &RouteContext,
    permit: &Permit,
) -> pingora::Result<()> {
    request.set_raw_path(context.target.as_bytes())?;
    let gone: Vec<HeaderName> =
        request.headers.keys().filter(|name| stays_at_edge(name, context, route)).cloned().collect();
    for name in gone {
        request.remove_header(&name);
    }
    let mut set = Ok(());
    of_the_edge(context, route, permit, |name, value| {
        let inserted = match HeaderValue::from_bytes(value) {
            Ok(value) => request.insert_header(name.clone(), value),
            Err(error) => Err(Error::because(ErrorType::InvalidHTTPHeader, "a field for the upstream", error)),
        };
        set = std::mem::replace(&mut set, Ok(())).and(inserted);
    })?;
    set
}

/// True for fields of clients that no upstream sees: those that only the edge may write, in any spelling that a CGI-like
/// server would read as the same name, those that carry credentials, and those that the route takes off or sets itself.
pub(super) fn stays_at_edge(name: &HeaderName, context: &RequestContext, route: &RouteContext) -> bool {
    let settings = &route.settings;
    let Identity { subject_header, scopes_header } = &context.snapshot.config.identity;
    let plain = in_hyphens(name.as_str());
    // What an authentication server was shown in another spelling.
    let is_respelt = || {
        let shown: Option<HeaderName> = matches!(plain, Cow::Owned(_)).then(|| plain.parse().ok()).flatten();
        shown.is_some_and(|shown| route.authenticator.as_ref().is_some_and(|providers| providers.shows(&shown)))
    };
    is_of_the_edge(&plain)
        || is_respelt()
        || *plain == *subject_header.0.as_str()
        || *plain == *scopes_header.0.as_str()
        || settings.credential.as_ref().is_some_and(|credential| *plain == *credential.header.as_str())
        || (!settings.forward_token && carries_credential(name, route))
        || settings.request_headers.iter().any(|change| match change {
            HeaderChange::Set(changed, _) | HeaderChange::Remove(changed) => changed == name,
        })
}

fn carries_credential(name: &HeaderName, route: &RouteContext) -> bool {
    *name == AUTHORIZATION || route.authenticator.as_ref().is_some_and(|providers| providers.reads(name))
}

/// Hands the fields that the edge sets to `add`, each name once.
///
/// # Errors
/// The route has a credential, and none was acquired.
pub(super) fn of_the_edge(
    context: &RequestContext,
    route: &RouteContext,
    permit: &Permit,
    mut add: impl FnMut(&HeaderName, &[u8]),
) -> pingora::Result<()> {
    if route.credential.is_some() {
        let shown = context.credential.as_ref();
        let shown = shown.ok_or_else(|| Error::explain(ErrorType::InternalError, "there is no credential to show"))?;
        add(&shown.header, shown.value.as_bytes());
    }
    for change in &route.settings.request_headers {
        match change {
            HeaderChange::Set(name, value) if !SET_LAST.contains(name) => add(name, value.as_bytes()),
            HeaderChange::Set(..) | HeaderChange::Remove(_) => {}
        }
    }
    add(&HOST, upstream_host(route, context).as_bytes());
    let client = &context.client;
    let [forwarded_for, forwarded_proto, forwarded_host, request_id] = &SET_LAST;
    add(forwarded_for, client.forwarded_for.as_bytes());
    add(forwarded_proto, client.scheme.as_bytes());
    add(forwarded_host, client.authority.as_bytes());
    add(request_id, context.id.as_str().as_bytes());
    if let Some(principal) = permit.principal() {
        let identity = &context.snapshot.config.identity;
        add(&identity.subject_header.0, principal.subject().as_bytes());
        add(&identity.scopes_header.0, principal.grant().scopes_text().as_bytes());
    }
    Ok(())
}

/// Carries the request's id, both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every upstream is told, whatever a route sets.
static SET_LAST: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    REQUEST_ID,
];

/// The `Host` that the upstream sees.
pub(super) fn upstream_host<'a>(route: &'a RouteContext, context: &'a RequestContext) -> &'a str {
    match (&route.settings.host, &context.endpoint) {
        (HostHeader::Rewrite(host), _) => host.0.to_str().unwrap_or_default(),
        (HostHeader::Endpoint, Some(guard)) => guard.endpoint().authority(),
        _ => &context.client.authority,
    }
}

/// A field's name as a CGI-like server reads it.
fn in_hyphens(name: &str) -> Cow<'_, str> {
    if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) }
}

/// True for what an MCP server might take for something else than was judged: MCP's own fields in the spelling of CGI, and
/// those that some frameworks take another method from.
pub(super) fn misleads(name: &HeaderName) -> bool {
    let plain = in_hyphens(name.as_str());
    let respelt = || matches!(plain, Cow::Owned(_)) && (plain.starts_with("mcp-") || plain == "last-event-id");
    matches!(&*plain, "x-http-method" | "x-http-method-override" | "x-method-override") || respelt()
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
    response.insert_header(REQUEST_ID, context.id.to_header())
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
