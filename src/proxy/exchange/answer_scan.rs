//! Looks at an answer on its way to the client, for the outcome of the call and for progress.

use http::StatusCode;

use crate::config::limits;
use crate::mcp::{EventScan, MessageScan, Scanned};
use crate::metrics::CallOutcome;
use crate::proxy::context::call::{Call, CallKind};

/// What was seen of one answer.
#[derive(Debug, Default)]
pub(super) struct AnswerScan {
    scanner: Scanner,
    /// The response to the call, once it was seen.
    result: Option<Scanned>,
    /// How many bytes were scanned.
    scanned: u64,
    /// True when a progress notification has come since the last time.
    progressed: bool,
}

#[derive(Debug, Default)]
enum Scanner {
    Json(MessageScan),
    Events(EventScan),
    #[default]
    Nothing,
}

impl AnswerScan {
    /// For an answer that is a JSON message, or a stream of events. The default looks at nothing.
    pub(super) fn new(json: bool, events: bool) -> Self {
        let scanner = match (json, events) {
            (true, _) => Scanner::Json(MessageScan::default()),
            (_, true) => Scanner::Events(EventScan::default()),
            _ => Scanner::Nothing,
        };
        Self { scanner, ..Self::default() }
    }

    /// True when the event stream is between two events.
    pub(super) fn is_between_events(&self) -> bool {
        matches!(&self.scanner, Scanner::Events(scan) if scan.is_between_events())
    }

    /// True when a progress notification has come since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Looks at a piece of what goes to the client.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.scanned += piece.len() as u64;
        let (result, progressed) = (&mut self.result, &mut self.progressed);
        match &mut self.scanner {
            Scanner::Json(_) if self.scanned > limits::SCAN_BYTES => self.scanner = Scanner::Nothing,
            Scanner::Json(scan) => scan.push(piece),
            Scanner::Events(scan) => scan.push(piece, &mut |seen| {
                *progressed |= seen == Scanned::Progress;
                *result = answered(seen).or(*result);
            }),
            Scanner::Nothing => {}
        }
    }

    /// The answer has ended.
    pub(super) fn finish(&mut self) {
        if let Scanner::Json(scan) = &mut self.scanner {
            self.result = answered(scan.finish());
        }
    }

    /// The outcome of the call.
    pub(super) fn outcome(&self, status: StatusCode, call: &Call) -> CallOutcome {
        match self.result {
            Some(Scanned::Result { is_error: true }) => CallOutcome::ToolError,
            Some(Scanned::Result { is_error: false }) => CallOutcome::Ok,
            Some(Scanned::Error) => CallOutcome::RpcError,
            _ if !status.is_success() => CallOutcome::Failed,
            // These have no response.
            _ if matches!(call.kind, CallKind::Other | CallKind::Batch { .. }) && status == StatusCode::ACCEPTED => {
                CallOutcome::Ok
            }
            _ => CallOutcome::OkUnscanned,
        }
    }
}

fn answered(seen: Scanned) -> Option<Scanned> {
    matches!(seen, Scanned::Result { .. } | Scanned::Error).then_some(seen)
}
