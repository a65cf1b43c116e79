//! Notices when a client leaves while an upstream works for it.

use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::downstream::Downstream;
use super::transfer::Idle;
use crate::config::limits;

/// Watches one client during one exchange.
#[derive(Debug)]
pub(crate) struct ClientWatch {
    /// True when a client that leaves cancels its request.
    ends: bool,
    /// The edge has stopped reading, so that nothing can be noticed any more.
    silent: bool,
    /// The client has left, and its request goes on.
    gone: bool,
    /// How many bytes came although the client should wait.
    stray: usize,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The deadline is over.
    Enough,
    /// The client has done something that does not cancel its request.
    NotYet,
}

impl ClientWatch {
    /// `ends`: a client that leaves cancels its request.
    pub(crate) fn new(ends: bool) -> Self {
        Self { ends, silent: false, gone: false, stray: 0 }
    }

    /// True when nobody reads the answer.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Waits until `deadline`, or until the client does something.
    ///
    /// # Errors
    /// The client has left, which cancels its request.
    pub(crate) async fn waits(
        &mut self,
        downstream: &mut Downstream<'_>,
        deadline: Instant,
    ) -> pingora::Result<Waited> {
        match downstream.idle(deadline, !self.silent).await {
            Ok(Idle::Late) => Ok(Waited::Enough),
            // The client has sent its next request before the answer to this one. It is there, but the byte that was read is
            // lost, so the connection cannot serve that request.
            Ok(Idle::Spoke) => {
                downstream.close_after();
                self.stray += 1;
                self.silent = self.stray >= limits::STRAY_BYTES;
                Ok(Waited::NotYet)
            }
            // Writing the answer will show whether the client still reads.
            Ok(Idle::Left | Idle::Full) | Err(_) if !self.ends => {
                self.silent = true;
                Ok(Waited::NotYet)
            }
            Ok(Idle::Left) => Err(Error::explain(ErrorType::ConnectionClosed, "the client has left").into_down()),
            // The edge has stopped reading, so a disconnect, which would cancel the request, would go unnoticed.
            Ok(Idle::Full) => Err(Error::explain(ErrorType::ConnectionClosed, "the client does not wait").into_down()),
            Err(error) => Err(error),
        }
    }

    /// The answer could not be written.
    ///
    /// # Errors
    /// `error`, when a client that leaves cancels its request.
    pub(crate) fn is_lost(&mut self, error: Box<Error>) -> pingora::Result<()> {
        (self.silent, self.gone) = (true, true);
        if self.ends { Err(error.into_down()) } else { Ok(()) }
    }
}
