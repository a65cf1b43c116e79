//! A request that was permitted, on its way to an upstream.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::opened_session::OpenSession;
use crate::config::limits;
use crate::mcp::{Era, IdRestore, ListKind, ServerMark};
use crate::metrics::CallOutcome;
use crate::proxy::held::HeldBytes;
use crate::types::KnownMethod;

/// What is sent to the upstream, beside the head.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: OutgoingBody,
    /// What an MCP request asks for. `None` on routes with `protocol: http`.
    pub(crate) call: Option<Call>,
    /// The client asks for a WebSocket, and the route allows it.
    pub(crate) upgrades: bool,
}

/// The body of a request on its way.
#[derive(Debug)]
pub(crate) enum OutgoingBody {
    /// Read and checked before: exactly the bytes that are sent. Empty for GET and DELETE, and once the body was sent and is
    /// not needed any more.
    Held(HeldBody),
    /// It passes as the client sends it.
    Streamed,
}

/// The whole body of a request.
#[derive(Debug, Default)]
pub(crate) struct HeldBody {
    pub(crate) bytes: Bytes,
    /// The memory that a large body takes. It is given back when this is dropped.
    pub(crate) held: Option<HeldBytes>,
}

/// What the exchange of an MCP request depends on.
#[derive(Debug)]
pub(crate) struct Call {
    /// Whether the request follows the rules with sessions or those without.
    pub(crate) era: Era,
    pub(crate) kind: CallKind,
    /// The MCP session that the request belongs to.
    pub(crate) session: Option<OpenSession>,
    /// True when the answer is a stream without an end, which clients open again by themselves.
    pub(crate) endless: bool,
    /// The longest time that the tool may take, from its start or from its last progress notification.
    pub(crate) deadline: Option<Duration>,
    /// What is different because the request came to a gateway.
    pub(crate) gateway: Option<Box<ThroughGateway>>,
}

/// What is different for a request that a gateway passes on to one of its servers.
#[derive(Debug)]
pub(crate) struct ThroughGateway {
    /// The server gets these in place of the client's fields.
    pub(crate) fields: MessageFields,
    /// In the era of sessions: what the ids of the server's own requests to the client get, so that the client's answers find
    /// their way back.
    pub(crate) mark: Option<ServerMark>,
    /// Puts the client's id back, where the server has got another one.
    pub(crate) restore: Option<IdRestore>,
    /// Stands for the server in the memory of the edge.
    pub(crate) server: u64,
}

/// The header fields that describe an MCP message.
#[derive(Clone, Debug, Default)]
pub(crate) struct MessageFields {
    /// `MCP-Protocol-Version`.
    pub(crate) version: Option<HeaderValue>,
    /// `Mcp-Method`.
    pub(crate) method: Option<HeaderValue>,
    /// `Mcp-Name`.
    pub(crate) name: Option<HeaderValue>,
    /// `Last-Event-ID`: the id of the last event of a stream that broke off.
    pub(crate) last_event: Option<HeaderValue>,
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

impl MessageFields {
    /// The names of all fields that describe a message, in lower case.
    pub(crate) const NAMES: [&'static str; 4] = ["mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"];

    /// The fields that there are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static HeaderName, &HeaderValue)> {
        static NAMES: [HeaderName; 4] = [
            HeaderName::from_static("mcp-protocol-version"),
            HeaderName::from_static("mcp-method"),
            HeaderName::from_static("mcp-name"),
            HeaderName::from_static("last-event-id"),
        ];
        NAMES
            .iter()
            .zip([&self.version, &self.method, &self.name, &self.last_event])
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}

impl Outgoing {
    /// The fields about the message that the server of a gateway gets.
    pub(crate) fn message_fields(&self) -> Option<&MessageFields> {
        self.through_gateway().map(|through| &through.fields)
    }

    /// What is different because the request came to a gateway.
    pub(crate) fn through_gateway(&self) -> Option<&ThroughGateway> {
        self.call.as_ref()?.gateway.as_deref()
    }

    /// True when a client that leaves cancels its request. Of MCP requests the route decides on those of older revisions (MCP
    /// 2025-11-25: "disconnection SHOULD NOT be interpreted as the client cancelling"), except for event streams, which can be
    /// resumed.
    pub(crate) fn ends_with_client(&self, cancel_on_disconnect: bool) -> bool {
        self.call.as_ref().is_none_or(|call| {
            cancel_on_disconnect || call.era == Era::Stateless || matches!(call.kind, CallKind::Get | CallKind::Bare)
        })
    }

    /// The MCP session that the request belongs to.
    pub(crate) fn session(&self) -> Option<&OpenSession> {
        self.call.as_ref()?.session.as_ref()
    }

    /// The request was sent. Frees the memory of the body, because the answer may be a stream without an end. Only an
    /// `initialize` keeps its body: where sessions resume (`resumes`), it may have to be sent again.
    pub(crate) fn is_sent(&mut self, resumes: bool) {
        let OutgoingBody::Held(body) = &mut self.body else { return };
        let is_initialize = self.call.as_ref().is_some_and(|call| call.kind == CallKind::Initialize);
        let keeps = resumes && is_initialize && body.bytes.len() <= limits::RESUME_MESSAGE_BYTES;
        if !keeps {
            *body = HeldBody::default();
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
