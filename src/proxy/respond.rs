//! Answers of the edge itself.

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use pingora::Error;
use pingora::http::ResponseHeader;

use super::client::downstream::Downstream;
use super::client::transfer::Follows;
use super::context::RequestContext;
use super::context::rejection::Rejection;
use super::headers;
use super::snapshot::RouteContext;
use crate::config::{Protocol, limits};
use crate::http1::BodyLength;
use crate::mcp::{MessageId, error_with_data};
use crate::metrics::Label;

/// Answers with `rejection`, and keeps the connection when that is safe.
pub(super) async fn reject(
    downstream: &mut Downstream<'_>,
    context: &RequestContext,
    rejection: &Rejection,
) -> pingora::Result<()> {
    if rejection.is_silent() {
        let mut head = ResponseHeader::build(rejection.status(), Some(4))?;
        head.insert_header(CONTENT_LENGTH, 0)?;
        return write_empty(downstream, context, head).await;
    }
    let id = context.id.as_str();
    let message_id = match &context.message.id {
        None if rejection.is_upstream_failure() => message_id(downstream, context).await,
        known => known.clone(),
    };
    let body = if message_id.is_some() || rejection.has_rpc_code() {
        error_with_data(message_id.as_ref(), rejection.rpc_code(), &rejection.message, rejection.data.clone(), id)
    } else {
        let (error, message) = (rejection.reason.label(), &rejection.message);
        serde_json::json!({"error": error, "message": message, "request_id": id}).to_string()
    };
    let mut head = ResponseHeader::build(rejection.status(), Some(8))?;
    for challenge in &rejection.challenges {
        head.append_header(WWW_AUTHENTICATE, challenge.clone())?;
    }
    if rejection.status() == StatusCode::SERVICE_UNAVAILABLE {
        head.insert_header(RETRY_AFTER, limits::RETRY_AFTER.as_secs())?;
    }
    if rejection.status() == StatusCode::METHOD_NOT_ALLOWED {
        head.insert_header(ALLOW, methods(context.route.as_deref()))?;
    }
    write(downstream, context, head, "application/json", body.into()).await
}

/// Tells the client that the exchange failed, unless it has seen a part of the answer or has left. False when the client was
/// not told, so that its connection has to end.
pub(super) async fn fail(downstream: &mut Downstream<'_>, context: &mut RequestContext, error: &Error) -> bool {
    let rejection = context.rejection.take().or_else(|| Rejection::from_error(error));
    // After the head of an answer, only closing the connection can tell the client that the answer is broken.
    let Some(rejection) = rejection.filter(|_| !downstream.has_begun()) else {
        downstream.break_off();
        return false;
    };
    // If this fails, the client has left. The access line shows that.
    let written = reject(downstream, context, &rejection).await;
    context.rejection = Some(rejection);
    written.is_ok()
}

/// The value of `Allow` for a route.
pub(super) fn methods(route: Option<&RouteContext>) -> &'static str {
    match route.map(|route| route.settings.protocol) {
        Some(Protocol::Mcp) => "GET, HEAD, POST, DELETE, OPTIONS",
        Some(Protocol::Http) | None => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    }
}

/// Writes an answer without a body.
pub(super) async fn write_empty(
    downstream: &mut Downstream<'_>,
    context: &RequestContext,
    mut head: ResponseHeader,
) -> pingora::Result<()> {
    head.insert_header(headers::REQUEST_ID, context.id.to_header())?;
    headers::expose(&mut head, context.route.as_deref(), &context.access)?;
    keep_or_close(downstream).await;
    downstream.queue_head(Box::new(head), Follows::Nothing)?;
    downstream.flush().await
}

/// Writes an answer with a body.
pub(super) async fn write(
    downstream: &mut Downstream<'_>,
    context: &RequestContext,
    mut head: ResponseHeader,
    content_type: &'static str,
    body: Bytes,
) -> pingora::Result<()> {
    head.insert_header(CONTENT_TYPE, content_type)?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(headers::REQUEST_ID, context.id.to_header())?;
    headers::expose(&mut head, context.route.as_deref(), &context.access)?;
    keep_or_close(downstream).await;
    if downstream.req_header().method == Method::HEAD {
        downstream.queue_head(Box::new(head), Follows::Nothing)?;
    } else {
        downstream.queue_head(Box::new(head), Follows::Body)?;
        downstream.queue(body, true)?;
    }
    downstream.flush().await
}

/// A connection can serve another request only if the rest of this one's body was read. A short rest is read. With a long
/// one the connection is closed.
async fn keep_or_close(downstream: &mut Downstream<'_>) {
    if downstream.is_body_done() {
        return;
    }
    let short = !downstream.waits_for_continue()
        && matches!(downstream.length(), Ok(BodyLength::Exact(length)) if length <= limits::SMALL_BODY_BYTES as u64);
    if !(short && downstream.discard_body().await) {
        downstream.close_after();
    }
}

/// The id of the JSON-RPC request that failed, if it was one. A body that was not read yet is read for it, if it is small and
/// comes within [`limits::LINGER`].
async fn message_id(downstream: &mut Downstream<'_>, context: &RequestContext) -> Option<MessageId> {
    let route = context.route.as_ref()?;
    let is_message = route.settings.protocol == Protocol::Mcp && downstream.req_header().method == Method::POST;
    if !is_message || downstream.waits_for_continue() || downstream.is_body_done() || downstream.bytes_in() > 0 {
        return None;
    }
    let mut body = BytesMut::new();
    let read = async {
        while let Ok(Some(piece)) = downstream.read_body().await {
            body.extend_from_slice(&piece);
            if body.len() > limits::SMALL_BODY_BYTES {
                break;
            }
        }
    };
    tokio::time::timeout(limits::LINGER, read).await.ok()?;
    MessageId::of_request(&body)
}
