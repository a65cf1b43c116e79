//! One MCP request that was read and permitted, on its way to an upstream.

use std::time::Duration;

use bytes::Bytes;

use crate::config::limits;
use crate::mcp::{Era, ListKind};
use crate::metrics::CallOutcome;
use crate::proxy::held::HeldBytes;
use crate::proxy::mcp_session::OpenSession;
use crate::types::KnownMethod;

/// What the exchange with the upstream depends on.
#[derive(Debug)]
pub(crate) struct Call {
    /// Which rules it follows.
    pub(crate) era: Era,
    /// The request's body, exactly as it was judged; empty for GET and DELETE, and once nobody needs it any more.
    pub(crate) body: Bytes,
    /// The memory that a large body takes.
    pub(crate) held: Option<HeldBytes>,
    pub(crate) kind: CallKind,
    /// The session that the request belongs to.
    pub(crate) session: Option<OpenSession>,
    /// Whether its answer is a stream without an end, which clients open again by themselves.
    pub(crate) endless: bool,
    /// The most that a tool's response may take, from the start or its last progress.
    pub(crate) deadline: Option<Duration>,
}

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// `initialize`: its answer opens a session.
    Initialize,
    /// A request for a list.
    List(ListKind),
    /// Any other request of the protocol that is answered.
    Request {
        /// Whether it only reads, so that it may be sent again.
        only_reads: bool,
    },
    /// Several messages in one (MCP 2025-03-26).
    Batch {
        /// Whether one of them asks for a list.
        lists: bool,
    },
    /// Notifications and answers.
    Other,
    /// A GET: an event stream of the server, or whatever else it offers.
    Get,
    /// Any other method without a message.
    Bare,
}

impl Call {
    /// True when a client that leaves ends its request: always from 2026-07-28 on and for event streams, which can be
    /// resumed; else only where the route says so (MCP 2025-11-25: "disconnection SHOULD NOT be interpreted as the client
    /// cancelling").
    pub(crate) fn ends_with_client(&self, route_says_so: bool) -> bool {
        route_says_so || self.era == Era::Stateless || matches!(self.kind, CallKind::Get | CallKind::Bare)
    }

    /// Gives the memory of the body back: an answer may be a stream without end. Only an `initialize` may still have to be
    /// remembered.
    pub(crate) fn is_sent(&mut self, resumes: bool) {
        let remembered =
            resumes && self.kind == CallKind::Initialize && self.body.len() <= limits::RESUME_MESSAGE_BYTES;
        if !remembered {
            (self.body, self.held) = (Bytes::new(), None);
        }
    }

    /// True when nothing happens if the upstream sees it twice.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.kind, CallKind::List(_) | CallKind::Request { only_reads: true } | CallKind::Get)
    }
}

/// What metrics and the log tell of an MCP message.
#[derive(Debug)]
pub(crate) struct CallRecord {
    /// As it is labelled.
    pub(crate) method: KnownMethod,
    /// As the client wrote it, but for the rest of one that is too long.
    pub(crate) tool: Option<Box<str>>,
    /// Known at the end.
    pub(crate) outcome: Option<CallOutcome>,
}

impl CallRecord {
    /// A tool's name for the record, of a length that a line of the log can have.
    pub(crate) fn tool(name: &str) -> Box<str> {
        match name.char_indices().nth(limits::LOGGED_NAME) {
            Some((end, _)) => format!("{}...", &name[..end]).into(),
            None => name.into(),
        }
    }
}
