//! The head of an answer, as the client may see it.

use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;

use super::answer::Answer;
use super::upstream_challenge;
use super::upstream_head::Upgrade;
use super::websocket_key::ACCEPT_FIELD;
use crate::mcp::{Era, pack};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Outgoing, OutgoingBody};
use crate::proxy::context::rejection::{Rejection, Stop};
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::ServerContext;
use crate::proxy::{headers, location, mcp_session};

/// The head of an answer with a body, or without one.
pub(super) fn head_for_client(
    mut head: Box<ResponseHeader>,
    answer: &Answer,
    downstream: &Downstream<'_>,
    context: &RequestContext,
    route: &ServerContext,
    outgoing: &Outgoing,
) -> Result<Box<ResponseHeader>, Stop> {
    upstream_challenge::check(&mut head, route, context)?;
    let is_chunked = head.headers.contains_key(TRANSFER_ENCODING);
    headers::strip_connection_fields(&mut head);
    if let Some(through) = outgoing.through_gateway() {
        // They are about the server's own host and would go to all servers.
        head.remove_header(&SET_COOKIE);
        let is_error = matches!(head.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
        let is_old = outgoing.call.as_ref().is_some_and(|call| call.era == Era::Sessions);
        if is_error && is_old && through.mark.is_none() && headers::is_of_type(&head.headers, "application/json") {
            // Up to 2025-11-25, a JSON-RPC error comes with 200. Clients take a 404 for the end of their session.
            head.set_status(StatusCode::OK)?;
        }
    }
    if let Some(call) = &outgoing.call {
        match call.era {
            // This era has no sessions, and the sessions of a gateway are its own.
            _ if call.gateway.is_some() => drop(head.remove_header(&SESSION_HEADER)),
            Era::Stateless => drop(head.remove_header(&SESSION_HEADER)),
            Era::Sessions => {
                mcp_session::seal_response(&mut head, route, context, call.session.as_ref(), &said(outgoing))?;
            }
        }
        if answer.is_event_stream() {
            // nginx in front of the edge would hold events back.
            head.insert_header("x-accel-buffering", "no")?;
        }
    }
    head.set_version(Version::HTTP_11);
    // A 204 never has a body, so its length could only be misread.
    if answer.changes_length() || is_chunked || head.status == StatusCode::NO_CONTENT {
        head.remove_header(&CONTENT_LENGTH);
    } else if head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
        && let Some(first) = head.remove_header(&CONTENT_LENGTH)
    {
        // The connection has checked that all say the same.
        let one = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().to_vec();
        head.insert_header(CONTENT_LENGTH, one)?;
    }
    let bodiless = downstream.req_header().method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let chunks = downstream.req_header().version != Version::HTTP_10;
    if !bodiless && chunks && !answer.holds_head() && !head.headers.contains_key(CONTENT_LENGTH) {
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    location::make_public(&mut head, route, &context.client, &context.attempt);
    headers::to_client(&mut head, context, route)?;
    Ok(head)
}

/// What the request said, packed, if it opens a session that may have to be opened again. The request has kept its body only then.
fn said(outgoing: &Outgoing) -> Vec<u8> {
    match &outgoing.body {
        OutgoingBody::Held(body) if !body.bytes.is_empty() => pack(&body.bytes).unwrap_or_default(),
        OutgoingBody::Held(_) | OutgoingBody::Streamed => Vec::new(),
    }
}

/// The head of an answer that opens a WebSocket, as the client may see it.
pub(super) fn head_of_tunnel(
    mut head: Box<ResponseHeader>,
    upgrade: Option<&Upgrade>,
    context: &RequestContext,
    route: &ServerContext,
) -> Result<Box<ResponseHeader>, Stop> {
    if let Some(key) = upgrade.and_then(|upgrade| upgrade.key.as_ref()) {
        if !key.is_accepted(&head.headers) {
            return Err(Rejection::new(Reason::UpstreamFailed, "the upstream did not accept the WebSocket").into());
        }
        head.remove_header(&ACCEPT_FIELD);
    }
    headers::strip_connection_fields(&mut head);
    head.remove_header(&CONTENT_LENGTH);
    headers::to_client(&mut head, context, route)?;
    Ok(head)
}
