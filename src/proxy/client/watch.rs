//! Notices when a client leaves while an upstream works for it.

use std::time::Duration;

use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::transfer::Seen;
use crate::config::limits;

/// Watches one client during one exchange.
#[derive(Debug)]
pub(crate) struct ClientWatch {
    /// True when a client that leaves cancels its request.
    ends: bool,
    /// The edge does not listen to the client any more: it has sent more than is read ahead, or has closed its side.
    silent: bool,
    /// The client has sent more than is read ahead.
    full: bool,
    /// The client does not read any more, and its request goes on.
    gone: bool,
    /// The client has left, its request goes on, and nobody has taken notice yet.
    left_behind: bool,
    /// How many bytes came although the client should wait.
    stray: usize,
    /// When a client that has closed its side has left.
    leaves: Option<Instant>,
}

impl ClientWatch {
    /// `ends`: a client that leaves cancels its request.
    pub(crate) fn new(ends: bool) -> Self {
        Self { ends, silent: false, full: false, gone: false, left_behind: false, stray: 0, leaves: None }
    }

    /// True when it still matters what the client does.
    pub(crate) fn listens(&self) -> bool {
        !self.silent
    }

    /// True when the client has sent more than is read ahead, so that its disconnect has to be looked for.
    pub(crate) fn is_full(&self) -> bool {
        self.full && self.ends && !self.gone
    }

    /// True when nobody reads the answer.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// True once after the client has left while its request goes on.
    pub(crate) fn takes_leave(&mut self) -> bool {
        std::mem::take(&mut self.left_behind)
    }

    /// The answer has begun: a client that has closed its side before gets it as long as it can be written to.
    pub(crate) fn is_answered(&mut self) {
        self.leaves = None;
    }

    /// When the client has left, if it has closed its side of the connection.
    pub(crate) fn leaves_at(&self) -> Option<Instant> {
        self.leaves
    }

    /// The client has done something. `patience`: how long a client that has closed its side may still get an answer; `None`:
    /// as long as it can be written to. (A client may close only its sending side after its request: RFC 9112 section 9.6.)
    ///
    /// # Errors
    /// The client has left, which cancels its request.
    pub(crate) fn saw(&mut self, seen: pingora::Result<Seen>, patience: Option<Duration>) -> pingora::Result<()> {
        match seen {
            Ok(Seen::Spoke) => {
                self.stray += 1;
                self.silent = self.stray >= limits::STRAY_BYTES;
                Ok(())
            }
            // The next requests are served after this one.
            Ok(Seen::Full) => {
                (self.silent, self.full) = (true, true);
                Ok(())
            }
            Ok(Seen::Closed | Seen::Reset) | Err(_) if !self.ends => {
                (self.silent, self.left_behind) = (true, true);
                Ok(())
            }
            Ok(Seen::Closed) => {
                (self.silent, self.full) = (true, false);
                self.leaves = patience.map(|patience| Instant::now() + patience);
                Ok(())
            }
            Ok(Seen::Reset) => Err(Self::has_left()),
            Err(error) => Err(error),
        }
    }

    /// The client that has closed its side has left.
    pub(crate) fn has_left() -> Box<Error> {
        Error::explain(ErrorType::ConnectionClosed, "the client has left").into_down()
    }

    /// The answer could not be written.
    ///
    /// # Errors
    /// `error`, when a client that leaves cancels its request.
    pub(crate) fn is_lost(&mut self, error: Box<Error>) -> pingora::Result<()> {
        self.left_behind |= !self.silent;
        (self.silent, self.gone) = (true, true);
        if self.ends { Err(error.into_down()) } else { Ok(()) }
    }
}
