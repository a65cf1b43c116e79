//! Whether the client is still there while an upstream works for it.

use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::session::{ClientSession, Idle};

/// Watches one client during one exchange.
#[derive(Debug)]
pub(crate) struct ClientWatch {
    /// Whether the request ends when the client leaves.
    ends: bool,
    /// Nothing more is expected from the connection.
    silent: bool,
    /// The client has left, and its request goes on.
    gone: bool,
    /// Bytes that came although none were expected.
    stray: usize,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The deadline was reached.
    Enough,
    /// The client has done something that does not end its request.
    NotYet,
}

/// How many bytes may come before a request is answered until nobody listens any more.
const STRAY_BYTES: usize = 4 << 10;

impl ClientWatch {
    /// `ends`: a client that leaves ends its request.
    pub(crate) fn new(ends: bool) -> Self {
        Self { ends, silent: false, gone: false, stray: 0 }
    }

    /// True when nobody reads the answer any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Waits until `deadline`, or until the client does something.
    ///
    /// # Errors
    /// It has left, and its request ends with it.
    pub(crate) async fn waits(
        &mut self,
        session: &mut ClientSession<'_>,
        deadline: Instant,
    ) -> pingora::Result<Waited> {
        match session.idle(deadline, !self.silent).await {
            Ok(Idle::Late) => Ok(Waited::Enough),
            // It has sent the next request before the answer to this one: it is there, but the byte that was read is lost.
            Ok(Idle::Spoke) => {
                session.close_after();
                self.stray += 1;
                self.silent = self.stray >= STRAY_BYTES;
                Ok(Waited::NotYet)
            }
            // Whether it still reads shows when the answer is written.
            Ok(Idle::Left | Idle::Full) | Err(_) if !self.ends => {
                self.silent = true;
                Ok(Waited::NotYet)
            }
            Ok(Idle::Left) => Err(Error::explain(ErrorType::ConnectionClosed, "the client has left").into_down()),
            // Nobody could tell any more whether it is there, and its request ends when it is not.
            Ok(Idle::Full) => Err(Error::explain(ErrorType::ConnectionClosed, "the client does not wait").into_down()),
            Err(error) => Err(error),
        }
    }

    /// The answer could not be written.
    ///
    /// # Errors
    /// `error`, when the request ends with its client.
    pub(crate) fn is_lost(&mut self, error: Box<Error>) -> pingora::Result<()> {
        (self.silent, self.gone) = (true, true);
        if self.ends { Err(error.into_down()) } else { Ok(()) }
    }
}
