//! An MCP request that was read and permitted, on its way to an upstream.

use std::time::Duration;

use bytes::Bytes;

use super::opened_session::OpenSession;
use crate::config::limits;
use crate::mcp::{Era, ListKind};
use crate::metrics::CallOutcome;
use crate::proxy::held::HeldBytes;
use crate::types::KnownMethod;

/// What the exchange with the upstream depends on.
#[derive(Debug)]
pub(crate) struct Call {
    /// Whether the request follows the rules with sessions or those without.
    pub(crate) era: Era,
    /// The body: exactly the bytes that were checked. Empty for GET and DELETE, and once the body was sent and is not needed
    /// any more.
    pub(crate) body: Bytes,
    /// The memory that a large body takes.
    pub(crate) held: Option<HeldBytes>,
    pub(crate) kind: CallKind,
    /// The MCP session that the request belongs to.
    pub(crate) session: Option<OpenSession>,
    /// True when the answer is a stream without an end, which clients open again by themselves.
    pub(crate) endless: bool,
    /// The longest time that the tool may take, from its start or from its last progress notification.
    pub(crate) deadline: Option<Duration>,
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// `initialize`: its answer opens a session.
    Initialize,
    /// A request for a list.
    List(ListKind),
    /// Any other JSON-RPC request.
    Request {
        /// True when the method only reads, so that the request may be sent again.
        only_reads: bool,
    },
    /// Several messages in one body (MCP 2025-03-26).
    Batch {
        /// True when one of them asks for a list.
        lists: bool,
    },
    /// Notifications and responses.
    Other,
    /// A GET: an event stream of the server, or whatever else the server offers.
    Get,
    /// Any other HTTP method. It carries no message.
    Bare,
}

impl Call {
    /// True when a client that leaves cancels its request. That is always so from revision 2026-07-28 on and for event
    /// streams, which can be resumed. For others the route decides (MCP 2025-11-25: "disconnection SHOULD NOT be interpreted
    /// as the client cancelling").
    pub(crate) fn ends_with_client(&self, cancel_on_disconnect: bool) -> bool {
        cancel_on_disconnect || self.era == Era::Stateless || matches!(self.kind, CallKind::Get | CallKind::Bare)
    }

    /// The request was sent. Frees the memory of the body, because the answer may be a stream without an end. Only an
    /// `initialize` keeps its body: where sessions resume (`resumes`), it may have to be sent again.
    pub(crate) fn is_sent(&mut self, resumes: bool) {
        let keeps = resumes && self.kind == CallKind::Initialize && self.body.len() <= limits::RESUME_MESSAGE_BYTES;
        if !keeps {
            (self.body, self.held) = (Bytes::new(), None);
        }
    }
}

/// What metrics and the access log say about an MCP message.
#[derive(Debug)]
pub(crate) struct CallRecord {
    /// The label of the method.
    pub(crate) method: KnownMethod,
    /// The tool's name as the client wrote it, cut when it is too long.
    pub(crate) tool: Option<Box<str>>,
    /// Known at the end.
    pub(crate) outcome: Option<CallOutcome>,
}

impl CallRecord {
    /// A tool's name, cut to the length that a line of the log has room for.
    pub(crate) fn tool(name: &str) -> Box<str> {
        match name.char_indices().nth(limits::LOGGED_NAME) {
            Some((end, _)) => format!("{}...", &name[..end]).into(),
            None => name.into(),
        }
    }
}
