//! Why a gateway could not get something from one of its servers.

use std::fmt;

use http::StatusCode;
use pingora::{Error, ErrorType};

use crate::metrics::RejectionReason as Reason;
use crate::proxy::context::rejection::Rejection;

/// What went wrong with one server.
#[derive(Clone, Debug)]
pub(in crate::proxy) enum ServerError {
    /// The caller may not use it.
    Denied,
    /// No endpoint of it can be reached.
    Unreachable,
    /// It did not answer in time.
    Late,
    /// It has answered with this status, and not with a message.
    Status(StatusCode),
    /// Its answer makes no sense.
    Junk(&'static str),
    /// It does not know the session any more.
    Lost,
    /// It speaks only revisions without sessions.
    NoSessions,
    /// It says that it does not have the method: a JSON-RPC error.
    Refused(String),
    /// There is no credential for it.
    Credential(Rejection),
    /// The edge does not know what the client's `initialize` said, so no session can be opened.
    Forgotten,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("may not be used by this caller"),
            Self::Unreachable => f.write_str("cannot be reached: try again later"),
            Self::Late => f.write_str("did not answer in time: try again later"),
            Self::Status(status) => write!(f, "answered with the status {}: try again later", status.as_u16()),
            Self::Junk(what) => write!(f, "sent {what}"),
            Self::Lost => f.write_str("has lost the session: try again"),
            Self::NoSessions => f.write_str("speaks no protocol version that this client does"),
            Self::Refused(message) => write!(f, "refused the request: {message}"),
            Self::Credential(rejection) => f.write_str(&rejection.message),
            Self::Forgotten => f.write_str("needs a new session: initialize again"),
        }
    }
}

impl From<Box<Error>> for ServerError {
    fn from(error: Box<Error>) -> Self {
        match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::Late,
            _ => Self::Unreachable,
        }
    }
}

impl ServerError {
    /// What the client is told: a JSON-RPC error that names the server. Many clients end their session at any status but 200, and
    /// the other servers of the gateway can still be used.
    pub(in crate::proxy) fn rejection(&self, server: &str) -> Rejection {
        let reason = match self {
            Self::Denied => Reason::InsufficientScope,
            Self::Unreachable => Reason::NoEndpoint,
            Self::Late => Reason::UpstreamTimeout,
            Self::Credential(rejection) => rejection.reason,
            Self::Lost | Self::Forgotten => Reason::UnknownSession,
            Self::Status(_) | Self::Junk(_) | Self::NoSessions | Self::Refused(_) => Reason::UpstreamFailed,
        };
        told(&Rejection::new(reason, self.to_string()), server)
    }
}

/// `rejection` as a gateway tells it.
pub(in crate::proxy) fn told(rejection: &Rejection, server: &str) -> Rejection {
    let message = format!("the server `{server}`: {}", rejection.message);
    rejection.clone().told_by_error(rejection.rpc_code(), StatusCode::OK, message)
}
