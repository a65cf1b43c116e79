//! What the body of an upstream's answer goes through on its way to the client: untouched, but for lists that the policy
//! filters and the `endpoint` event of the 2024-11-05 transport; and looked at for what became of the call.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};

use crate::config::limits;
use crate::mcp::{
    Era, EventRewrite, EventScan, ListError, ListKind, MessageScan, Scanned, Verdict, filter_list, listed_tools,
};
use crate::metrics::{CallOutcome, RejectionReason as Reason};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Call, CallKind};
use crate::proxy::headers::{EVENT_STREAM, is_of_type};
use crate::proxy::held::HeldBytes;
use crate::proxy::mcp_session;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::types::Target;

/// The body of one answer.
#[derive(Debug)]
pub(crate) struct Answer {
    plan: Plan,
    scan: Scan,
    /// A copy of a list of tools that passes, to learn their names from.
    lesson: Option<Lesson>,
    /// What the answer to the call was, once it was seen.
    result: Option<Scanned>,
    /// Bytes that were looked at.
    scanned: u64,
    progressed: bool,
    /// The memory that is held back.
    held: HeldBytes,
    /// Whether filtered lists are marked as being for one caller only.
    private: bool,
    /// Whether the upstream says that it did not do what it was asked for.
    is_error: bool,
    is_event_stream: bool,
}

#[derive(Debug)]
enum Plan {
    Pass,
    /// A list in one JSON body: it is held until it is whole.
    HoldList(Vec<u8>),
    /// Events that may have to change.
    Events {
        rewrite: EventRewrite,
        /// Whether lists are filtered.
        filters: bool,
        /// Whether the next event may be the one that announces an endpoint: only the first can.
        announces: bool,
    },
}

#[derive(Debug)]
enum Scan {
    Json(MessageScan),
    Events(EventScan),
    Nothing,
}

#[derive(Debug)]
enum Lesson {
    Json(Vec<u8>),
    Events(EventRewrite),
}

impl Answer {
    /// For an answer with this head.
    ///
    /// # Errors
    /// It is, or may hold, a list that has to be filtered, in a form that cannot be.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        call: &Call,
        route: &RouteContext,
        held: HeldBytes,
    ) -> Result<Self, Rejection> {
        let coded = headers.contains_key(CONTENT_ENCODING);
        let is_event_stream = is_of_type(headers, EVENT_STREAM);
        let (json, events) = (!coded && is_of_type(headers, "application/json"), !coded && is_event_stream);
        let filtered = match call.kind {
            CallKind::List(list) => route.policy.filters(target(list, "")),
            // A stream may repeat any answer, and a batch may hold some.
            CallKind::Get | CallKind::Batch { .. } | CallKind::Other => {
                ListKind::ALL.iter().any(|list| route.policy.filters(target(*list, "")))
            }
            _ => false,
        };
        // What asks for no list may be answered with anything.
        let lists = match call.kind {
            CallKind::List(_) | CallKind::Batch { lists: true } => true,
            CallKind::Get => is_event_stream,
            _ => false,
        };
        let plan = if filtered && events {
            Plan::Events {
                rewrite: EventRewrite::new(limits::LIST_BYTES),
                filters: true,
                announces: may_announce(call),
            }
        } else if filtered && json && call.kind != CallKind::Get {
            Plan::HoldList(Vec::new())
        } else if filtered && lists && status.is_success() && status != StatusCode::ACCEPTED {
            // 202 is no answer: that comes on another stream.
            return Err(Rejection::new(
                Reason::UpstreamFailed,
                "the upstream sent a list in a form that cannot be filtered",
            ));
        } else if may_announce(call) && events {
            let rewrite = EventRewrite::only_first(ENDPOINT_EVENT, limits::ENDPOINT_EVENT_BYTES);
            Plan::Events { rewrite, filters: false, announces: true }
        } else {
            Plan::Pass
        };
        let scan = match (json, events) {
            (true, _) => Scan::Json(MessageScan::default()),
            (_, true) => Scan::Events(EventScan::default()),
            _ => Scan::Nothing,
        };
        let lesson = match (call.kind, &plan) {
            (CallKind::List(ListKind::Tools), Plan::Pass) if json => Some(Lesson::Json(Vec::new())),
            (CallKind::List(ListKind::Tools), Plan::Pass) if events => {
                Some(Lesson::Events(EventRewrite::new(limits::LESSON_BYTES)))
            }
            _ => None,
        };
        let (private, is_error) = (call.era == Era::Stateless, !status.is_success());
        Ok(Self {
            plan,
            scan,
            lesson,
            result: None,
            scanned: 0,
            progressed: false,
            held,
            private,
            is_error,
            is_event_stream,
        })
    }

    /// True when the upstream calls its answer an event stream, however that is coded.
    pub(crate) fn is_event_stream(&self) -> bool {
        self.is_event_stream
    }

    /// True when the body is known only at its end, and the head has to wait for it.
    pub(crate) fn holds_head(&self) -> bool {
        matches!(self.plan, Plan::HoldList(_))
    }

    /// True when the length of the body may change.
    pub(crate) fn changes_length(&self) -> bool {
        !matches!(self.plan, Plan::Pass)
    }

    /// True where a comment can stand in an event stream without damage.
    pub(crate) fn is_between_events(&self) -> bool {
        matches!(&self.scan, Scan::Events(scan) if scan.is_between_events())
    }

    /// Whether the server has told of progress since the last time.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// What goes on to the client for a piece that came in.
    ///
    /// # Errors
    /// It cannot be filtered: it is too large, or no JSON.
    pub(crate) fn push(
        &mut self,
        piece: Bytes,
        route: &RouteContext,
        context: &RequestContext,
    ) -> Result<Bytes, Rejection> {
        self.learn(&piece, route);
        let out = match &mut self.plan {
            Plan::Pass => piece,
            Plan::HoldList(held) if held.len() + piece.len() > limits::LIST_BYTES => return Err(too_long()),
            Plan::HoldList(held) => {
                held.extend_from_slice(&piece);
                self.hold(context)?;
                return Ok(Bytes::new());
            }
            Plan::Events { rewrite, filters, announces } => {
                let (mut out, mut failed, private) = (Vec::with_capacity(piece.len()), false, self.private);
                let mut judge = |event: &str, data: &[u8]| {
                    let announced = std::mem::take(announces) && event == ENDPOINT_EVENT;
                    let changed = if announced {
                        Ok(public_endpoint(data, route, context))
                    } else if event != MESSAGE_EVENT && !matches!(data.trim_ascii_start(), [b'{' | b'[', ..]) {
                        // Some servers send a `ping` with the time: it lists nothing.
                        Ok(None)
                    } else {
                        filter(data, private, route, context)
                    };
                    failed |= changed.is_err();
                    match (changed, &*filters) {
                        (Ok(Some(data)), true) => Verdict::Replace(data),
                        (Ok(Some(data)), false) => Verdict::ReplaceAndStop(data),
                        (_, true) => Verdict::Keep,
                        (_, false) => Verdict::KeepAndStop,
                    }
                };
                rewrite.push(&piece, &mut out, &mut judge).map_err(|_| too_long())?;
                if failed {
                    return Err(unreadable());
                }
                out.into()
            }
        };
        self.hold(context)?;
        self.look_at(&out);
        Ok(out)
    }

    /// Counts what is held back against what all requests together may hold.
    fn hold(&mut self, context: &RequestContext) -> Result<(), Rejection> {
        let bytes = match &self.plan {
            Plan::Pass => return Ok(()),
            // A vector may have grown to twice what is in it.
            Plan::HoldList(held) => held.capacity(),
            Plan::Events { rewrite, .. } => rewrite.held(),
        };
        let bytes = if bytes > limits::SMALL_BODY_BYTES { bytes as u64 } else { 0 };
        if self.held.set(bytes, context.snapshot.config.limits.held_bytes.0) {
            return Ok(());
        }
        Err(Rejection::new(Reason::Overloaded, "there is no memory to filter another large list"))
    }

    /// What goes to the client at the end of the body.
    ///
    /// # Errors
    /// As of [`push`](Self::push).
    pub(crate) fn finish(&mut self, route: &RouteContext, context: &RequestContext) -> Result<Bytes, Rejection> {
        let rest = match &mut self.plan {
            Plan::Pass => Bytes::new(),
            Plan::HoldList(held) => {
                let held = std::mem::take(held);
                let filtered = match filter(&held, self.private, route, context) {
                    // Servers call errors JSON that are plain text, or empty, and clients tell by them what to do.
                    Err(ListError::NotJson) if self.is_error || held.is_empty() => None,
                    filtered => filtered.map_err(|_| unreadable())?,
                };
                filtered.unwrap_or(held).into()
            }
            Plan::Events { rewrite, .. } => {
                let mut out = Vec::new();
                rewrite.finish(&mut out);
                out.into()
            }
        };
        self.look_at(&rest);
        if let Scan::Json(scan) = &mut self.scan {
            self.result = answered(scan.finish());
        }
        if let Some(Lesson::Json(list)) = &self.lesson {
            learn(list, route);
        }
        Ok(rest)
    }

    /// What became of the call.
    pub(crate) fn outcome(&self, status: StatusCode, call: &Call) -> CallOutcome {
        match self.result {
            Some(Scanned::Result { is_error: true }) => CallOutcome::ToolError,
            Some(Scanned::Result { is_error: false }) => CallOutcome::Ok,
            Some(Scanned::Error) => CallOutcome::RpcError,
            _ if !status.is_success() => CallOutcome::Failed,
            // Nothing more is expected.
            _ if matches!(call.kind, CallKind::Other | CallKind::Batch { .. }) && status == StatusCode::ACCEPTED => {
                CallOutcome::Ok
            }
            _ => CallOutcome::OkUnscanned,
        }
    }

    fn look_at(&mut self, piece: &[u8]) {
        self.scanned += piece.len() as u64;
        let (result, progressed) = (&mut self.result, &mut self.progressed);
        match &mut self.scan {
            Scan::Json(_) if self.scanned > limits::SCAN_BYTES => self.scan = Scan::Nothing,
            Scan::Json(scan) => scan.push(piece),
            Scan::Events(scan) => scan.push(piece, &mut |seen| {
                *progressed |= seen == Scanned::Progress;
                *result = answered(seen).or(*result);
            }),
            Scan::Nothing => {}
        }
    }

    /// Keeps a copy of a list of tools.
    fn learn(&mut self, piece: &[u8], route: &RouteContext) {
        let done = match &mut self.lesson {
            None => return,
            Some(Lesson::Json(list)) => {
                list.extend_from_slice(piece);
                list.len() > limits::LESSON_BYTES
            }
            Some(Lesson::Events(events)) => {
                let mut judge = |_: &str, data: &[u8]| {
                    learn(data, route);
                    Verdict::Keep
                };
                events.push(piece, &mut Vec::new(), &mut judge).is_err()
            }
        };
        if done {
            self.lesson = None;
        }
    }
}

/// The event of the 2024-11-05 transport that says where messages are posted.
const ENDPOINT_EVENT: &str = "endpoint";

/// The type of the events that carry MCP messages, and of those that name none.
const MESSAGE_EVENT: &str = "message";

/// True when the answer may be the stream of the 2024-11-05 transport.
fn may_announce(call: &Call) -> bool {
    call.kind == CallKind::Get && call.era == Era::Sessions && call.session.is_none()
}

fn public_endpoint(data: &[u8], route: &RouteContext, context: &RequestContext) -> Option<Vec<u8>> {
    let announced = std::str::from_utf8(data).ok()?;
    mcp_session::public_endpoint(announced, &context.snapshot.session_keys, route, context).map(String::into_bytes)
}

fn answered(seen: Scanned) -> Option<Scanned> {
    matches!(seen, Scanned::Result { .. } | Scanned::Error).then_some(seen)
}

fn learn(message: &[u8], route: &RouteContext) {
    let names = listed_tools(message);
    route.metrics.calls.learn(names.iter().map(String::as_str));
}

fn target(list: ListKind, name: &str) -> Target<'_> {
    match list {
        ListKind::Tools => Target::Tool(name),
        ListKind::Prompts => Target::Prompt(name),
        // A template is judged by its text, as rules are written.
        ListKind::Resources | ListKind::ResourceTemplates => Target::Resource(name),
    }
}

/// Filters the lists in `message`, and learns what tools there are.
fn filter(
    message: &[u8],
    private: bool,
    route: &RouteContext,
    context: &RequestContext,
) -> Result<Option<Vec<u8>>, ListError> {
    // All names in one text: most are known, and are only looked up.
    let (mut names, mut ends) = (String::new(), Vec::new());
    let mut shows = |list: ListKind, name: &str| {
        if ends.len() < ListKind::LABELS && list.is_label(name) {
            names.push_str(name);
            ends.push(names.len());
        }
        context.permit.as_ref().is_some_and(|permit| route.policy.shows(permit, target(list, name)))
    };
    let filtered = filter_list(message, &mut shows, private)?;
    let begins = std::iter::once(0).chain(ends.iter().copied());
    route.metrics.calls.learn(begins.zip(&ends).map(|(begin, &end)| &names[begin..end]));
    Ok(filtered)
}

fn too_long() -> Rejection {
    Rejection::new(Reason::UpstreamFailed, "the upstream sent a list that is too long to be filtered")
}

fn unreadable() -> Rejection {
    let message: Cow<'static, str> = "the upstream sent a list that cannot be read without doubt".into();
    Rejection::new(Reason::UpstreamFailed, message)
}
