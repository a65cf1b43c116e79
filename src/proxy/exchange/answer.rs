//! The body of an upstream's answer on its way to the client. It passes unchanged, except for lists that the policy filters
//! and the `endpoint` event of the 2024-11-05 transport. Meanwhile it is scanned for the outcome of the call.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::borrow::Cow;
use tokio::time::Instant;

use super::answer_scan::AnswerScan;
use super::lists::{ToolNames, filter, too_long, unreadable};
use crate::config::limits;
use crate::mcp::{Era, EventRewrite, IdRestore, ListError, ListKind, ServerMark, Verdict, answers_another};
use crate::metrics::{CallOutcome, RejectionReason as Reason};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Call, CallKind};
use crate::proxy::context::rejection::Rejection;
use crate::proxy::headers::{EVENT_STREAM, is_of_type, media_type};
use crate::proxy::held::HeldBytes;
use crate::proxy::mcp_session;
use crate::proxy::snapshot::ServerContext;

/// The body of one answer.
#[derive(Debug)]
pub(crate) struct Answer {
    plan: Plan,
    scan: AnswerScan,
    /// Collects the names of tools from a list that passes unchanged.
    tool_names: Option<ToolNames>,
    /// The memory for what is held back.
    held: HeldBytes,
    /// When it was last empty, once something is held back.
    held_since: Option<Instant>,
    /// True when filtered lists are marked as valid for one caller only.
    private: bool,
    /// True when the status of the answer is not a success.
    is_error: bool,
    is_event_stream: bool,
    /// True for gRPC.
    is_call_stream: bool,
    /// Puts the client's id back.
    restore: Option<IdRestore>,
    /// True when the server of a gateway has said that one of its lists has changed.
    changes_list: bool,
}

#[derive(Debug)]
enum Plan {
    Pass,
    /// A list in one JSON body. It is held until it is whole.
    HoldList(Vec<u8>),
    /// Events that may have to change.
    Events {
        rewrite: EventRewrite,
        /// True when lists are filtered.
        filters: bool,
        announces: Announces,
    },
    /// Events of one of the servers of a gateway. The ids of its requests are marked.
    Marked {
        rewrite: EventRewrite,
        mark: ServerMark,
        /// True when lists are filtered.
        filters: bool,
    },
}

/// Which events may announce the endpoint of a 2024-11-05 session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announces {
    /// None of them, or none any more.
    Nothing,
    /// The next one.
    Next,
    /// Every one, because clients have credentials that they must not take elsewhere. Some clients take an announcement at any
    /// time.
    Any,
}

impl Answer {
    /// For an answer with this status and these fields. `call`: what it answers, on MCP routes; other answers pass unread.
    ///
    /// # Errors
    /// The answer is a list that has to be filtered, or may contain one, in a form that cannot be filtered.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        call: Option<&Call>,
        route: &ServerContext,
        held: HeldBytes,
    ) -> Result<Self, Rejection> {
        let Some(call) = call else { return Ok(Self::unread(headers, held)) };
        let coded = headers.contains_key(CONTENT_ENCODING);
        let media_type = media_type(headers);
        let is_event_stream = media_type.eq_ignore_ascii_case(EVENT_STREAM.as_bytes());
        let is_json = media_type.eq_ignore_ascii_case(b"application/json");
        let (json, events) = (!coded && is_json, !coded && is_event_stream);
        let filtered = match call.kind {
            CallKind::List(list) => route.policy.filters(list.target("")),
            // A stream may repeat any response, and a batch may contain several.
            CallKind::Get | CallKind::Batch { .. } | CallKind::Other => {
                ListKind::ALL.iter().any(|list| route.policy.filters(list.target("")))
            }
            _ => false,
        };
        // A request that asks for no list may be answered in any form.
        let lists = match call.kind {
            CallKind::List(_) | CallKind::Batch { lists: true } => true,
            CallKind::Get => is_event_stream,
            _ => false,
        };
        let announces = announces(call, route);
        let mark = call.gateway.as_ref().and_then(|through| through.mark).filter(|_| events);
        let plan = if let Some(mark) = mark {
            Plan::Marked {
                rewrite: EventRewrite::new(limits::LIST_BYTES).with_id_mark(&mark.event_mark()),
                mark,
                filters: filtered,
            }
        } else if filtered && events {
            Plan::Events { rewrite: EventRewrite::new(limits::LIST_BYTES), filters: true, announces }
        } else if filtered && json && call.kind != CallKind::Get {
            Plan::HoldList(Vec::new())
        } else if filtered && lists && status.is_success() && status != StatusCode::ACCEPTED {
            // After 202 the response comes on another stream.
            return Err(Rejection::new(
                Reason::UpstreamFailed,
                "the upstream sent a list in a form that cannot be filtered",
            ));
        } else if events {
            let rewrite = match announces {
                Announces::Any => Some(EventRewrite::new(limits::LIST_BYTES)),
                Announces::Next => Some(EventRewrite::only_first(ENDPOINT_EVENT, limits::ENDPOINT_EVENT_BYTES)),
                Announces::Nothing => None,
            };
            rewrite.map_or(Plan::Pass, |rewrite| Plan::Events { rewrite, filters: false, announces })
        } else {
            Plan::Pass
        };
        let tool_names = match (call.kind, &plan) {
            (CallKind::List(ListKind::Tools), Plan::Pass) => ToolNames::new(json, events),
            _ => None,
        };
        let (private, is_error) = (call.era == Era::Stateless, !status.is_success());
        Ok(Self {
            plan,
            scan: AnswerScan::new(json, events),
            tool_names,
            held,
            held_since: None,
            private,
            is_error,
            is_event_stream,
            is_call_stream: false,
            restore: call.gateway.as_ref().and_then(|through| through.restore.clone()),
            changes_list: false,
        })
    }

    fn unread(headers: &HeaderMap, held: HeldBytes) -> Self {
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        Self {
            plan: Plan::Pass,
            scan: AnswerScan::default(),
            tool_names: None,
            held,
            held_since: None,
            private: false,
            is_error: false,
            is_event_stream: is_of_type(headers, EVENT_STREAM),
            is_call_stream: content_type.starts_with(b"application/grpc"),
            restore: None,
            changes_list: false,
        }
    }

    /// True for the answer to a gRPC call.
    pub(crate) fn is_call_stream(&self) -> bool {
        self.is_call_stream
    }

    /// True when the upstream says that its answer is an event stream, also when the stream is compressed.
    pub(crate) fn is_event_stream(&self) -> bool {
        self.is_event_stream
    }

    /// True when the length of the body is known only at its end, so that the head has to wait.
    pub(crate) fn holds_head(&self) -> bool {
        matches!(self.plan, Plan::HoldList(_))
    }

    /// True when the length of the body may change.
    pub(crate) fn changes_length(&self) -> bool {
        !matches!(self.plan, Plan::Pass) || self.restore.is_some()
    }

    /// True when the event stream is between two events, so that the edge may write a comment or an event of its own.
    pub(crate) fn is_between_events(&self) -> bool {
        self.scan.is_between_events()
    }

    /// True when a progress notification has come since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        self.scan.take_progress()
    }

    /// True when a list has changed since the last call.
    pub(crate) fn takes_list_change(&mut self) -> bool {
        std::mem::take(&mut self.changes_list)
    }

    /// Takes a piece of the body, and gives what goes to the client now.
    ///
    /// # Errors
    /// A list cannot be filtered: it is too large, or not JSON.
    pub(crate) fn push(
        &mut self,
        piece: Bytes,
        route: &ServerContext,
        context: &RequestContext,
    ) -> Result<Bytes, Rejection> {
        if self.tool_names.as_mut().is_some_and(|names| !names.push(&piece, route)) {
            self.tool_names = None;
        }
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
                let mut misleads = false;
                let goes_on = *filters || *announces == Announces::Any;
                let mut judge = |event: &str, data: &[u8]| {
                    let announced = *announces != Announces::Nothing && event == ENDPOINT_EVENT;
                    if *announces == Announces::Next {
                        *announces = Announces::Nothing;
                    }
                    let changed = if announced {
                        let public = public_endpoint(data, route, context);
                        misleads |= public.is_none() && *announces == Announces::Any;
                        Ok(public)
                    } else if !*filters {
                        Ok(None)
                    } else if event != MESSAGE_EVENT && !matches!(data.trim_ascii_start(), [b'{' | b'[', ..]) {
                        // Some servers send `ping` events with the time. They contain no list.
                        Ok(None)
                    } else {
                        filter(data, private, route, context)
                    };
                    failed |= changed.is_err();
                    match (changed, goes_on) {
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
                if misleads {
                    route.metrics.misleading.inc();
                    let message = "the upstream has announced an endpoint that is at another host, or is not valid";
                    return Err(Rejection::new(Reason::UpstreamFailed, message));
                }
                out.into()
            }
            Plan::Marked { rewrite, mark, filters } => {
                let (mut out, mut failed, private) = (Vec::with_capacity(piece.len()), false, self.private);
                let changes_list = &mut self.changes_list;
                let sent_id = self.restore.as_ref().map(|restore| Cow::Owned(restore.token()));
                let own_id = context.message.id.as_ref().map(|id| Cow::Borrowed(id.as_json()));
                let id = sent_id.or(own_id);
                let mut judge = |event: &str, data: &[u8]| {
                    let is_message = event == MESSAGE_EVENT || matches!(data.trim_ascii_start(), [b'{' | b'[', ..]);
                    *changes_list |= is_message && has_list_change(data);
                    // The client would take it for the answer of another server.
                    if is_message && id.as_ref().is_some_and(|id| answers_another(data, id)) {
                        return Verdict::Drop;
                    }
                    let filtered =
                        if *filters && is_message { filter(data, private, route, context) } else { Ok(None) };
                    failed |= filtered.is_err();
                    let filtered = filtered.ok().flatten();
                    let marked = mark.marked(filtered.as_deref().unwrap_or(data));
                    marked.or(filtered).map_or(Verdict::Keep, Verdict::Replace)
                };
                rewrite.push(&piece, &mut out, &mut judge).map_err(|_| too_long())?;
                if failed {
                    return Err(unreadable());
                }
                out.into()
            }
        };
        let out = match &mut self.restore {
            Some(restore) => {
                let mut restored = Vec::with_capacity(out.len());
                restore.push(&out, &mut restored);
                restored.into()
            }
            None => out,
        };
        if !out.is_empty() {
            // What was held before has gone out.
            self.held_since = None;
        }
        self.hold(context)?;
        self.scan.push(&out);
        Ok(out)
    }

    /// Counts what is held back against the memory that all requests together may take.
    fn hold(&mut self, context: &RequestContext) -> Result<(), Rejection> {
        let bytes = match &self.plan {
            Plan::Pass => return Ok(()),
            // The memory of a vector may be twice its length.
            Plan::HoldList(held) => held.capacity(),
            Plan::Events { rewrite, .. } | Plan::Marked { rewrite, .. } => rewrite.held(),
        };
        match (bytes, self.held_since) {
            (0, _) => self.held_since = None,
            (_, None) => self.held_since = Some(Instant::now()),
            (_, Some(since)) if since.elapsed() > limits::HELD_TIME => {
                let message = "the upstream sends a list too slowly to be filtered";
                return Err(Rejection::new(Reason::UpstreamTimeout, message));
            }
            (_, Some(_)) => {}
        }
        let bytes = if bytes > limits::SMALL_BODY_BYTES { bytes as u64 } else { 0 };
        if self.held.set(bytes, context.snapshot.config.limits.held_bytes.0) {
            return Ok(());
        }
        Err(Rejection::new(Reason::Overloaded, "there is no memory to filter another large list"))
    }

    /// The body has ended. Gives what goes to the client at the end.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn finish(&mut self, route: &ServerContext, context: &RequestContext) -> Result<Bytes, Rejection> {
        let rest = match &mut self.plan {
            Plan::Pass => Bytes::new(),
            Plan::HoldList(held) => {
                let held = std::mem::take(held);
                let filtered = match filter(&held, self.private, route, context) {
                    // Some servers send errors as plain text, or empty, with the media type of JSON. Clients need to see them.
                    Err(ListError::NotJson) if self.is_error || held.is_empty() => None,
                    filtered => filtered.map_err(|_| unreadable())?,
                };
                filtered.unwrap_or(held).into()
            }
            Plan::Events { rewrite, .. } | Plan::Marked { rewrite, .. } => {
                let mut out = Vec::new();
                rewrite.finish(&mut out);
                out.into()
            }
        };
        let rest = match &mut self.restore {
            Some(restore) => {
                let mut restored = Vec::new();
                restore.push(&rest, &mut restored);
                restore.finish(&mut restored);
                restored.into()
            }
            None => rest,
        };
        self.scan.push(&rest);
        self.scan.finish();
        if let Some(names) = &self.tool_names {
            names.finish(route);
        }
        Ok(rest)
    }

    /// The outcome of the call.
    pub(crate) fn outcome(&self, status: StatusCode, call: &Call) -> CallOutcome {
        self.scan.outcome(status, call)
    }
}

/// The event of the 2024-11-05 transport that tells the client where to post its messages.
const ENDPOINT_EVENT: &str = "endpoint";

/// The type of events that carry MCP messages, and of events without a type.
const MESSAGE_EVENT: &str = "message";

/// True when the message may be a notification that a list has changed. One too many makes a list be read again.
fn has_list_change(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| text.contains("/list_changed\""))
}

fn announces(call: &Call, route: &ServerContext) -> Announces {
    // Only the stream of a 2024-11-05 session begins without a session.
    match call.kind == CallKind::Get && call.era == Era::Sessions && call.session.is_none() {
        true if route.settings.auth.is_some() => Announces::Any,
        true => Announces::Next,
        false => Announces::Nothing,
    }
}

fn public_endpoint(data: &[u8], route: &ServerContext, context: &RequestContext) -> Option<Vec<u8>> {
    let announced = std::str::from_utf8(data).ok()?;
    mcp_session::public_endpoint(announced, route, context).map(String::into_bytes)
}
