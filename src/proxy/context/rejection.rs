//! A refusal: why the edge answers a request itself, and with which status.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};
use pingora::{Error, ErrorSource, ErrorType};

use crate::config::Limits;
use crate::metrics::RejectionReason;

/// A refusal, with what the client is told.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) reason: RejectionReason,
    pub(crate) message: Cow<'static, str>,
    /// The values of `WWW-Authenticate`.
    pub(crate) challenges: Vec<HeaderValue>,
    /// The JSON-RPC error code, where MCP or JSON-RPC defines one for this case.
    rpc_code: Option<i32>,
    /// `data` of the JSON-RPC error, where MCP defines its members.
    pub(crate) data: serde_json::Map<String, serde_json::Value>,
    told: Told,
}

/// How the client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// By the status that belongs to the reason.
    #[default]
    ByStatus,
    /// By a JSON-RPC error, as MCP servers tell it, with this status.
    ByError(StatusCode),
    /// Not at all: nobody waits for an answer to a notification.
    Nothing,
}

impl Rejection {
    /// A refusal for `reason`. The message goes to the client: it must not contain anything that the client may not know.
    pub(crate) fn new(reason: RejectionReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            challenges: Vec::new(),
            rpc_code: None,
            data: serde_json::Map::new(),
            told: Told::ByStatus,
        }
    }

    /// A refusal of an MCP message. The client gets a JSON-RPC error with this code.
    pub(crate) fn of_message(reason: RejectionReason, rpc_code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { rpc_code: Some(rpc_code), ..Self::new(reason, message) }
    }

    /// The JSON-RPC error has these members in `data`.
    pub(crate) fn with_data(self, data: serde_json::Map<String, serde_json::Value>) -> Self {
        Self { data, ..self }
    }

    /// The request body is larger than `limit` bytes.
    pub(crate) fn too_large(limit: u64) -> Self {
        Self::new(RejectionReason::BodyTooLarge, format!("the request body is larger than {limit} bytes"))
    }

    /// The target of the request is longer than `limits` allow.
    pub(crate) fn uri_too_long(limits: &Limits) -> Self {
        let bytes = limits.uri_bytes.0;
        Self::new(RejectionReason::UriTooLong, format!("the request target is longer than {bytes} bytes"))
    }

    /// The request has more or larger fields than `limits` allow.
    pub(crate) fn head_too_large(limits: &Limits) -> Self {
        let (count, bytes) = (limits.header_count, limits.header_bytes.0);
        let message = format!(
            "the request has more than {count} header fields, or its header fields are larger than {bytes} bytes"
        );
        Self::new(RejectionReason::HeadersTooLarge, message)
    }

    /// Adds a `WWW-Authenticate` field.
    pub(crate) fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.challenges.push(challenge);
        self
    }

    /// The client gets a JSON-RPC error with `code`, and the status that MCP servers send with it. Clients go on with their session
    /// then; many end it at any status but 200.
    pub(crate) fn told_by_error(self, code: i32, status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let (challenges, message) = (Vec::new(), message.into());
        Self { rpc_code: Some(code), told: Told::ByError(status), challenges, message, ..self }
    }

    /// The client is told that its notification was accepted: JSON-RPC has no other answer to one.
    pub(crate) fn in_silence(self) -> Self {
        Self { told: Told::Nothing, challenges: Vec::new(), ..self }
    }

    /// True when the client is not told.
    pub(crate) fn is_silent(&self) -> bool {
        self.told == Told::Nothing
    }

    /// The HTTP status. No other place in the edge maps refusals to statuses.
    pub(crate) fn status(&self) -> StatusCode {
        match self.told {
            Told::ByError(status) => return status,
            Told::Nothing => return StatusCode::ACCEPTED,
            Told::ByStatus => {}
        }
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
            RejectionReason::UpstreamFailed | RejectionReason::UpstreamRefused => StatusCode::BAD_GATEWAY,
            RejectionReason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            RejectionReason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// True for failures behind the edge. When the request was JSON-RPC, the answer is a JSON-RPC error too.
    pub(crate) fn is_upstream_failure(&self) -> bool {
        use RejectionReason::{AuthUnavailable, NoEndpoint, UpstreamFailed, UpstreamRefused, UpstreamTimeout};
        matches!(self.reason, AuthUnavailable | NoEndpoint | UpstreamFailed | UpstreamRefused | UpstreamTimeout)
    }

    /// True when MCP or JSON-RPC defines an error code for this case.
    pub(crate) fn has_rpc_code(&self) -> bool {
        self.rpc_code.is_some()
    }

    /// The code of the JSON-RPC error: the one that MCP defines, else one of the range that JSON-RPC 2.0 section 5.1
    /// reserves for servers.
    pub(crate) fn rpc_code(&self) -> i32 {
        self.rpc_code.unwrap_or(match self.reason {
            RejectionReason::InsufficientScope | RejectionReason::CredentialRefused => -32001,
            RejectionReason::NoEndpoint | RejectionReason::AuthUnavailable | RejectionReason::Overloaded => -32003,
            RejectionReason::UpstreamTimeout => -32004,
            _ => -32002,
        })
    }

    /// What the client is told about a failed exchange. `None` when the client has left.
    pub(crate) fn from_error(error: &Error) -> Option<Self> {
        use ErrorType::{
            ConnectTimedout, ConnectionClosed, H2Error, ReadError, ReadTimedout, WriteError, WriteTimedout,
        };
        match (error.esource(), error.etype()) {
            (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout) => {
                Some(Self::new(RejectionReason::UpstreamTimeout, "the upstream did not answer in time"))
            }
            (ErrorSource::Upstream, _) => Some(Self::new(RejectionReason::UpstreamFailed, "the upstream failed")),
            (ErrorSource::Downstream, ReadTimedout) => {
                Some(Self::new(RejectionReason::BodyTimeout, "the request body did not come in time"))
            }
            // Pingora reports a stream that the client has reset as `H2Error`.
            (ErrorSource::Downstream, WriteError | ReadError | ConnectionClosed | WriteTimedout | H2Error) => None,
            (ErrorSource::Downstream, _) => Some(Self::new(RejectionReason::BadRequest, "the request is malformed")),
            _ => Some(Self::new(RejectionReason::Internal, "the edge failed")),
        }
    }
}

/// Why a request does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The edge refuses it. The client is still to be told.
    Rejected(Rejection),
    /// The exchange failed: a lost connection, a timeout, a malformed message.
    Broken(Box<Error>),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Box<Error>> for Stop {
    fn from(error: Box<Error>) -> Self {
        Self::Broken(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_error_status() {
        for reason in RejectionReason::ALL {
            let status = Rejection::new(*reason, "").status();
            assert!(status.is_client_error() || status.is_server_error(), "{reason:?}: {status}");
        }
    }

    #[test]
    fn failures_behind_the_edge_are_server_errors() {
        for reason in RejectionReason::ALL {
            let rejection = Rejection::new(*reason, "");
            if rejection.is_upstream_failure() {
                assert!(rejection.status().is_server_error(), "{reason:?}");
            }
        }
    }

    #[test]
    fn a_client_that_has_left_is_told_nothing() {
        for gone in [ErrorType::WriteError, ErrorType::ReadError, ErrorType::ConnectionClosed, ErrorType::H2Error] {
            let error = Error::new(gone.clone()).into_down();
            assert!(Rejection::from_error(&error).is_none(), "{gone:?}");
        }
    }

    #[test]
    fn what_failed_decides_on_the_status() {
        let status = |error: Box<Error>| Rejection::from_error(&error).map(|told| told.status().as_u16());
        for (error, expected) in [
            (Error::new(ErrorType::ConnectTimedout).into_up(), 504),
            (Error::new(ErrorType::ReadTimedout).into_up(), 504),
            (Error::new(ErrorType::ConnectionClosed).into_up(), 502),
            (Error::new(ErrorType::InvalidHTTPHeader).into_up(), 502),
            (Error::new(ErrorType::ReadTimedout).into_down(), 408),
            (Error::new(ErrorType::InvalidHTTPHeader).into_down(), 400),
            (Error::new(ErrorType::InternalError), 500),
        ] {
            let text = format!("{error}");
            assert_eq!(status(error), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_refusal_can_be_told_as_a_server_tells_it() {
        let refused = || {
            Rejection::new(RejectionReason::InsufficientScope, "no").with_challenge("Bearer".parse().expect("ASCII"))
        };
        let told = refused().told_by_error(-32602, StatusCode::OK, "Unknown tool: x");
        assert_eq!((told.status().as_u16(), told.rpc_code(), told.challenges.len()), (200, -32602, 0));
        let silent = refused().in_silence();
        assert!(silent.is_silent() && silent.status() == StatusCode::ACCEPTED && silent.challenges.is_empty());
        assert_eq!(refused().status().as_u16(), 403);
    }

    #[test]
    fn a_code_of_mcp_comes_before_the_codes_of_the_edge() {
        assert_eq!(Rejection::new(RejectionReason::UpstreamTimeout, "").rpc_code(), -32004);
        assert_eq!(Rejection::of_message(RejectionReason::InvalidMessage, -32600, "").rpc_code(), -32600);
    }
}
