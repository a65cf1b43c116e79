//! The error for bodies that are not valid MCP messages.

use super::cursor::Flaw;
use super::jsonrpc::{INVALID_REQUEST, MessageId, PARSE_ERROR};

/// Why the body of a client's request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// The error code: -32700 or -32600 (JSON-RPC 2.0 section 5.1).
    pub code: i32,
    /// The error message for the client.
    pub reason: &'static str,
    /// The id of the message, if it could be read.
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
            Flaw::NotJson => "the body is not valid JSON, or has text after the JSON value",
            Flaw::TooDeep => "the body is nested more than 64 levels deep",
        })
    }
}
