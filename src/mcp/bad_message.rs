//! Why a body is refused.

use super::cursor::Flaw;
use super::jsonrpc::{INVALID_REQUEST, MessageId, PARSE_ERROR};

/// A body that is not what an MCP client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// -32700 or -32600 (JSON-RPC 2.0 section 5.1).
    pub code: i32,
    /// What is wrong.
    pub reason: &'static str,
    /// The id of the message, as far as it could be read.
    pub id: Option<MessageId>,
}

impl BadMessage {
    pub(super) const fn unread(reason: &'static str) -> Self {
        Self { code: PARSE_ERROR, reason, id: None }
    }

    pub(super) const fn invalid(reason: &'static str) -> Self {
        Self { code: INVALID_REQUEST, reason, id: None }
    }
}

impl From<Flaw> for BadMessage {
    fn from(flaw: Flaw) -> Self {
        Self::unread(match flaw {
            Flaw::NotJson => "the body is not one JSON value",
            Flaw::TooDeep => "the body is nested more than 64 deep",
        })
    }
}
