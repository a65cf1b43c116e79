//! The fields of requests and answers that Pingora passes on.

use std::sync::Weak;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use crate::proxy::context::RequestContext;
use crate::proxy::context::credential_end::CredentialEnd;
use crate::proxy::headers::{EVENT_STREAM, is_of_type, of_the_edge, stays_at_edge};
use crate::proxy::snapshot::RouteContext;

/// Makes `request` what the upstream should see. Pingora has removed the fields of the connection before, so a client cannot
/// name any of the fields that are set here in `Connection`.
pub(crate) fn to_upstream(
    request: &mut RequestHeader,
    context: &RequestContext,
    route: &RouteContext,
) -> pingora::Result<()> {
    request.set_raw_path(context.target.as_bytes())?;
    let gone: Vec<HeaderName> =
        request.headers.keys().filter(|name| stays_at_edge(name, &context.snapshot, route)).cloned().collect();
    for name in gone {
        request.remove_header(&name);
    }
    let mut set = Ok(());
    of_the_edge(context, route, |name, value| {
        let inserted = match HeaderValue::from_bytes(value) {
            Ok(value) => request.insert_header(name.clone(), value),
            Err(error) => Err(Error::because(ErrorType::InvalidHTTPHeader, "a field for the upstream", error)),
        };
        set = std::mem::replace(&mut set, Ok(())).and(inserted);
    })?;
    set
}

/// Event streams and upgraded connections may be silent for as long as their route allows. They are counted, and end with the
/// credential of the caller.
pub(crate) fn mark_stream(session: &mut Session, response: &ResponseHeader, context: &mut RequestContext) {
    let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
    let content_type = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if upgraded {
        // The limit on silence within a request body would cut a quiet WebSocket.
        session.set_read_timeout(None);
    }
    if upgraded || is_of_type(&response.headers, EVENT_STREAM) || content_type.starts_with(b"application/grpc") {
        context.becomes_stream();
        let access = &context.access;
        let end = context
            .route
            .as_ref()
            .and_then(|route| CredentialEnd::of(access.permit.as_ref(), access.revocations_checked, route, true));
        // A gRPC call answers one request and shares its connection: for it the connection is not known here.
        context.opaque.credential_end = end.map(|end| end.guard(Weak::clone(&context.opaque.connection)));
    }
}
