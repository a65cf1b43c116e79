//! The time limits until the head of an answer.

use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::pump::Pump;
use crate::config::limits;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Outgoing, OutgoingBody};
use crate::proxy::snapshot::ServerContext;

/// How long each side may take.
#[derive(Debug)]
pub(crate) struct HeadClock {
    begun: Instant,
    /// How long the upstream may take for the head, once it has the whole request; for requests that were read before, from
    /// their begin.
    answer: Duration,
    is_held: bool,
    /// How long the upstream may not read.
    write: Duration,
    /// How long the client may be silent within its body.
    silence: Duration,
    /// True when the client has to send at a minimum rate.
    is_paced: bool,
    /// Since when the client may send its body.
    continued: Instant,
}

/// Who is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// The upstream does not answer.
    Answer,
    /// The upstream does not read.
    Reading,
    /// The upstream has stopped reading, and has not said why.
    Refusal,
    /// The client does not send.
    Sending,
}

impl HeadClock {
    /// Starts now.
    pub(crate) fn start(
        context: &RequestContext,
        route: &ServerContext,
        outgoing: &Outgoing,
        downstream: &Downstream<'_>,
    ) -> Self {
        let (timeouts, limits) = (&route.upstream.settings().timeouts, &context.snapshot.config.limits);
        let deadline = outgoing.call.as_ref().and_then(|call| call.deadline);
        let idle = route.settings.idle.unwrap_or(timeouts.idle.0);
        let is_held = matches!(outgoing.body, OutgoingBody::Held(_));
        let content_type = || downstream.req_header().headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_call_stream = !is_held && content_type().is_some_and(|written| written.starts_with(b"application/grpc"));
        Self {
            begun: Instant::now(),
            answer: deadline.unwrap_or(timeouts.response.0),
            is_held,
            write: limits.write_timeout.0,
            // The messages of a gRPC client may come at any time.
            silence: if is_call_stream { idle } else { limits.body_timeout.0 },
            is_paced: !is_call_stream,
            continued: Instant::now(),
        }
    }

    /// The client is told to send its body, for which it has waited.
    pub(crate) fn client_continues(&mut self) {
        self.continued = Instant::now();
    }

    /// The next deadline, and who is late then.
    pub(crate) fn next(&self, pump: &Pump<'_, '_>) -> (Instant, Late) {
        let Pump { downstream, link, upload, .. } = pump;
        if let Some(at) = upload.refused_at() {
            return (at + limits::EARLY_ANSWER, Late::Refusal);
        }
        let answer = match upload.sent_at() {
            _ if self.is_held => Some(self.begun + self.answer),
            Some(at) => Some(at + self.answer),
            // The client waits for the upstream. Over HTTP/2 it is never told to continue, and begins to send by itself.
            None if downstream.waits_for_continue() && downstream.bytes_in() == 0 && !downstream.is_http2() => {
                Some(self.begun + self.answer)
            }
            None => None,
        };
        let reading = link.stalled_since().map(|since| since + self.write);
        match (answer, reading) {
            (Some(answer), Some(reading)) if reading < answer => (reading, Late::Reading),
            (Some(answer), _) => (answer, Late::Answer),
            (None, Some(reading)) => (reading, Late::Reading),
            (None, None) => {
                let earned = Duration::from_secs(downstream.bytes_in() / limits::UPLOAD_RATE);
                let paced = self.is_paced.then(|| self.continued + self.silence + earned);
                let silent = upload.last().max(self.continued) + self.silence;
                (paced.map_or(silent, |paced| paced.min(silent)), Late::Sending)
            }
        }
    }
}

impl Late {
    /// What ends the exchange.
    pub(crate) fn into_error(self, pump: &mut Pump<'_, '_>) -> Box<Error> {
        let error = |etype, message| Error::explain(etype, message);
        match self {
            Self::Answer => error(ErrorType::ReadTimedout, "no response in time").into_up(),
            Self::Reading => error(ErrorType::WriteTimedout, "the upstream does not read").into_up(),
            Self::Sending => error(ErrorType::ReadTimedout, "the client does not send").into_down(),
            Self::Refusal => {
                let reset = || error(ErrorType::WriteError, "the upstream does not take the request");
                pump.upload.take_refusal().unwrap_or_else(reset).into_up()
            }
        }
    }
}
