//! Lists of tools, prompts and resources in answers: what the policy shows of them, and the labels of metrics for tools.

use crate::config::limits;
use crate::mcp::{EventRewrite, ListError, ListKind, Verdict, filter_list, listed_tools};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::context::RequestContext;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::snapshot::ServerContext;

/// Gives metrics of their own to the tools that `message` lists.
pub(super) fn label_tools(message: &[u8], route: &ServerContext) {
    let names = listed_tools(message);
    route.metrics.calls.learn(names.iter().map(String::as_str));
}

/// Filters the lists in `message`, and gives metrics of their own to the tools.
pub(super) fn filter(
    message: &[u8],
    private: bool,
    route: &ServerContext,
    context: &RequestContext,
) -> Result<Option<Vec<u8>>, ListError> {
    // All names in one string, because most have metrics already and are only looked up.
    let (mut names, mut ends) = (String::new(), Vec::new());
    let mut shows = |list: ListKind, name: &str| {
        if ends.len() < limits::LISTED_LABELS && list.is_label(name) {
            names.push_str(name);
            ends.push(names.len());
        }
        context.access.permit.as_ref().is_some_and(|permit| route.policy.shows(permit, list.target(name)))
    };
    let filtered = filter_list(message, &mut shows, private)?;
    let begins = std::iter::once(0).chain(ends.iter().copied());
    route.metrics.calls.learn(begins.zip(&ends).map(|(begin, &end)| &names[begin..end]));
    Ok(filtered)
}

pub(super) fn too_long() -> Rejection {
    Rejection::new(Reason::UpstreamFailed, "the upstream sent a list that is too long to be filtered")
}

pub(super) fn unreadable() -> Rejection {
    Rejection::new(Reason::UpstreamFailed, "the upstream sent a list that is not JSON, or can be read in two ways")
}

/// A copy of a list of tools that passes unchanged, for the labels of metrics.
#[derive(Debug)]
pub(super) enum ToolNames {
    Json(Vec<u8>),
    Events(EventRewrite),
}

impl ToolNames {
    /// For a list that is a JSON message, or in a stream of events.
    pub(super) fn new(json: bool, events: bool) -> Option<Self> {
        match (json, events) {
            (true, _) => Some(Self::Json(Vec::new())),
            (_, true) => Some(Self::Events(EventRewrite::new(limits::TOOL_LIST_COPY_BYTES))),
            _ => None,
        }
    }

    /// Takes a piece of the answer. False when the list is too large for a copy.
    pub(super) fn push(&mut self, piece: &[u8], route: &ServerContext) -> bool {
        match self {
            Self::Json(list) => {
                list.extend_from_slice(piece);
                list.len() <= limits::TOOL_LIST_COPY_BYTES
            }
            Self::Events(events) => {
                let mut judge = |_: &str, data: &[u8]| {
                    label_tools(data, route);
                    Verdict::Keep
                };
                events.push(piece, &mut Vec::new(), &mut judge).is_ok()
            }
        }
    }

    /// The answer has ended.
    pub(super) fn finish(&self, route: &ServerContext) {
        if let Self::Json(list) = self {
            label_tools(list, route);
        }
    }
}
