//! The only place that knows which HTTP status a refusal or failure has, and how the client is told.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::FailToProxy;

use super::admit::origin;
use super::client::session::{ClientSession, Follows};
use super::context::RequestContext;
use super::headers;
use super::snapshot::RouteContext;
use crate::config::{Protocol, limits};
use crate::mcp::{MessageId, error_message};
use crate::metrics::{Label, RejectionReason};

/// A refusal, with what the client is told.
#[derive(Clone, Debug)]
pub(super) struct Rejection {
    pub(super) reason: RejectionReason,
    pub(super) message: Cow<'static, str>,
    /// Fields `WWW-Authenticate`.
    pub(super) challenges: Vec<HeaderValue>,
    /// The JSON-RPC error code, where MCP or JSON-RPC has one for this.
    rpc_code: Option<i32>,
}

/// How long clients should wait when every endpoint is down, in seconds: about one probe interval.
const RETRY_AFTER_SECONDS: u16 = 5;

/// How long a client that is refused may go on sending, before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);

impl Rejection {
    /// A refusal for `reason`; the message must not hold anything that the client did not send or may not know.
    pub(super) fn new(reason: RejectionReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), challenges: Vec::new(), rpc_code: None }
    }

    /// A refusal of what a message says: it is told as a JSON-RPC error.
    pub(super) fn of_message(reason: RejectionReason, rpc_code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { rpc_code: Some(rpc_code), ..Self::new(reason, message) }
    }

    /// The body is larger than its route allows.
    pub(super) fn too_large(route: &RouteContext) -> Self {
        let limit = route.settings.body_bytes;
        Self::new(RejectionReason::BodyTooLarge, format!("the request body is larger than {limit} bytes"))
    }

    /// With one more `WWW-Authenticate` field.
    pub(super) fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.challenges.push(challenge);
        self
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        match self.reason {
            RejectionReason::BadRequest | RejectionReason::InvalidMessage | RejectionReason::HeaderMismatch => {
                StatusCode::BAD_REQUEST
            }
            RejectionReason::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RejectionReason::UriTooLong => StatusCode::URI_TOO_LONG,
            RejectionReason::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            RejectionReason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RejectionReason::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            RejectionReason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            RejectionReason::NotFound | RejectionReason::UnknownSession => StatusCode::NOT_FOUND,
            RejectionReason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            RejectionReason::Unauthenticated | RejectionReason::InvalidToken => StatusCode::UNAUTHORIZED,
            RejectionReason::InsufficientScope
            | RejectionReason::CredentialRefused
            | RejectionReason::ForbiddenOrigin => StatusCode::FORBIDDEN,
            RejectionReason::AuthUnavailable | RejectionReason::NoEndpoint | RejectionReason::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            RejectionReason::UpstreamFailed => StatusCode::BAD_GATEWAY,
            RejectionReason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            RejectionReason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// True for failures behind the edge: where the request was JSON-RPC, so is the answer.
    fn is_upstream_failure(&self) -> bool {
        use RejectionReason::{AuthUnavailable, NoEndpoint, UpstreamFailed, UpstreamTimeout};
        matches!(self.reason, AuthUnavailable | NoEndpoint | UpstreamFailed | UpstreamTimeout)
    }

    /// The code of a JSON-RPC error: MCP's where there is one, else one of the range that JSON-RPC 2.0 section 5.1 leaves
    /// to servers.
    pub(super) fn rpc_code(&self) -> i32 {
        self.rpc_code.unwrap_or(match self.reason {
            RejectionReason::InsufficientScope | RejectionReason::CredentialRefused => -32001,
            RejectionReason::NoEndpoint | RejectionReason::AuthUnavailable | RejectionReason::Overloaded => -32003,
            RejectionReason::UpstreamTimeout => -32004,
            RejectionReason::UnknownSession => -32005,
            _ => -32002,
        })
    }

    /// What a failed exchange means; `None` when the client is gone and nobody is there to be told.
    pub(super) fn from_error(error: &Error, context: &RequestContext) -> Option<Self> {
        use ErrorType::{
            ConnectTimedout, ConnectionClosed, H2Error, HTTPStatus, ReadError, ReadTimedout, WriteError, WriteTimedout,
        };
        let timeout = || Self::new(RejectionReason::UpstreamTimeout, "the upstream did not answer in time");
        if context.head_is_late() {
            return Some(timeout());
        }
        match (error.esource(), error.etype()) {
            (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout) => Some(timeout()),
            (ErrorSource::Upstream, _) => Some(Self::new(RejectionReason::UpstreamFailed, "the upstream failed")),
            (ErrorSource::Downstream, ReadTimedout) => {
                Some(Self::new(RejectionReason::BodyTimeout, "the request body did not come in time"))
            }
            // `H2Error` is how Pingora tells that a client has reset its stream.
            (ErrorSource::Downstream, WriteError | ReadError | ConnectionClosed | WriteTimedout | H2Error) => None,
            (ErrorSource::Downstream, _) | (_, HTTPStatus(400)) => {
                Some(Self::new(RejectionReason::BadRequest, "the request is malformed"))
            }
            _ => Some(Self::new(RejectionReason::Internal, "the edge failed")),
        }
    }
}

/// Answers with `rejection`, and keeps the connection when that is safe.
pub(super) async fn respond(
    session: &mut ClientSession<'_>,
    context: &RequestContext,
    rejection: &Rejection,
) -> pingora::Result<()> {
    let id = context.id.as_str();
    let message_id = match &context.message_id {
        None if rejection.is_upstream_failure() => message_id(session, context).await,
        known => known.clone(),
    };
    let body = if message_id.is_some() || rejection.rpc_code.is_some() {
        error_message(message_id.as_ref(), rejection.rpc_code(), &rejection.message, id)
    } else {
        let (error, message) = (rejection.reason.label(), &rejection.message);
        serde_json::json!({"error": error, "message": message, "request_id": id}).to_string()
    };
    let mut head = ResponseHeader::build(rejection.status(), Some(8))?;
    for challenge in &rejection.challenges {
        head.append_header(WWW_AUTHENTICATE, challenge.clone())?;
    }
    if rejection.status() == StatusCode::SERVICE_UNAVAILABLE {
        head.insert_header(RETRY_AFTER, RETRY_AFTER_SECONDS)?;
    }
    if rejection.status() == StatusCode::METHOD_NOT_ALLOWED {
        head.insert_header(ALLOW, methods(context.route.as_deref()))?;
    }
    write(session, context, head, "application/json", body.into()).await
}

/// The methods that a route carries.
pub(super) fn methods(route: Option<&RouteContext>) -> &'static str {
    match route.map(|route| route.settings.protocol) {
        Some(Protocol::Mcp) => "GET, HEAD, POST, DELETE, OPTIONS",
        Some(Protocol::Http) | None => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    }
}

/// Writes an answer of the edge itself that has no body.
pub(super) async fn write_empty(
    session: &mut ClientSession<'_>,
    context: &RequestContext,
    mut head: ResponseHeader,
) -> pingora::Result<()> {
    head.insert_header(headers::REQUEST_ID, context.id.to_header())?;
    origin::expose(&mut head, context)?;
    keep_or_close(session).await;
    session.write_head(Box::new(head), Follows::Nothing).await
}

/// Writes an answer of the edge itself.
pub(super) async fn write(
    session: &mut ClientSession<'_>,
    context: &RequestContext,
    mut head: ResponseHeader,
    content_type: &'static str,
    body: Bytes,
) -> pingora::Result<()> {
    head.insert_header(CONTENT_TYPE, content_type)?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(headers::REQUEST_ID, context.id.to_header())?;
    origin::expose(&mut head, context)?;
    keep_or_close(session).await;
    let bodiless = session.req_header().method == Method::HEAD;
    if bodiless {
        session.write_head(Box::new(head), Follows::Nothing).await?;
    } else {
        session.write_head(Box::new(head), Follows::AtOnce).await?;
        session.write_body(body, true).await?;
    }
    if !session.can_answer_early() && !session.is_body_done() {
        // With unread bytes the connection would be reset, and the answer lost.
        let _ = tokio::time::timeout(LINGER, session.drain_body()).await;
    }
    Ok(())
}

/// True for a client that sends its body when it is told to, and was not (RFC 9110 section 10.1.1; HTTP/1.0 knows no such
/// thing).
pub(super) fn waits_for_continue(session: &ClientSession<'_>) -> bool {
    let header = session.req_header();
    let mut expected = header.headers.get_all(EXPECT).iter().map(HeaderValue::as_bytes);
    header.version != Version::HTTP_10
        && expected.any(|expected| expected.eq_ignore_ascii_case(b"100-continue"))
        && session.is_unanswered()
}

/// A connection can serve another request only if the rest of this one's body was read. A short rest is read; with a
/// long one the connection is closed instead.
async fn keep_or_close(session: &mut ClientSession<'_>) {
    if session.is_body_done() {
        return;
    }
    let short = !waits_for_continue(session)
        && content_length(session).is_some_and(|length| length <= limits::SMALL_BODY_BYTES as u64);
    let drained = short && {
        let drain = tokio::time::timeout(Duration::from_secs(1), session.drain_body());
        matches!(drain.await, Ok(Ok(())))
    };
    if !drained {
        session.close_after();
    }
}

/// The declared length of the request body.
pub(super) fn content_length(session: &ClientSession<'_>) -> Option<u64> {
    session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The id of the JSON-RPC request that failed, if it was one. A body that nobody has read is read for it, if it is small
/// and comes within a second.
async fn message_id(session: &mut ClientSession<'_>, context: &RequestContext) -> Option<MessageId> {
    let route = context.route.as_ref()?;
    let message = route.settings.protocol == Protocol::Mcp && session.req_header().method == Method::POST;
    if !message || waits_for_continue(session) || session.is_body_done() || session.bytes_in() > 0 {
        return None;
    }
    let mut body = BytesMut::new();
    let read = async {
        while let Ok(Some(piece)) = session.read_body().await {
            body.extend_from_slice(&piece);
            if body.len() > limits::SMALL_BODY_BYTES {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), read).await.ok()?;
    MessageId::of_request(&body)
}

/// The exchange failed: the client is told, unless it has seen a part of the response or is gone.
pub(super) async fn fail(session: &mut ClientSession<'_>, context: &mut RequestContext, error: &Error) -> FailToProxy {
    let rejection = context.rejection.take().or_else(|| Rejection::from_error(error, context));
    let mut outcome = FailToProxy { error_code: 0, can_reuse_downstream: false };
    // After the head there is no other way to say "broken off" than to break off.
    if let Some(rejection) = rejection
        && session.status().is_none()
    {
        outcome.error_code = rejection.status().as_u16();
        // An error says that the client is gone now; the log will show that.
        let written = respond(session, context, &rejection).await;
        outcome.can_reuse_downstream = written.is_ok() && session.is_body_done();
        context.rejection = Some(rejection);
    }
    outcome
}
