//! Whether the client is still there while an upstream works for it.

use pingora::{Error, ErrorType};
use pingora_proxy::Session;

/// Watches one client during one exchange.
#[derive(Debug)]
pub(super) struct ClientWatch {
    /// Whether the request ends when the client leaves.
    ends: bool,
    /// Nothing more is expected from the connection.
    silent: bool,
    /// The client has left, and its request goes on.
    gone: bool,
    /// Bytes that came although none were expected.
    stray: usize,
}

/// How many bytes may come before a request is answered until nobody listens any more.
const STRAY_BYTES: usize = 4 << 10;

impl ClientWatch {
    /// `ends`: a client that leaves ends its request.
    pub(super) fn new(ends: bool) -> Self {
        Self { ends, silent: false, gone: false, stray: 0 }
    }

    /// True when nobody reads the answer any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Waits until the client leaves; for ever when that changes nothing.
    ///
    /// # Errors
    /// It has left, and its request ends with it.
    pub(super) async fn leaves(&mut self, session: &mut Session) -> pingora::Result<()> {
        if self.silent {
            return std::future::pending().await;
        }
        let read = session.read_body_or_idle(true).await;
        match read {
            // It has sent the next request before the answer to this one: it is there, but the byte that was read is lost.
            Err(error) if *error.etype() == ErrorType::ConnectError => {
                session.set_keepalive(None);
                self.stray += 1;
                self.silent = self.stray >= STRAY_BYTES;
                return Ok(());
            }
            _ => self.silent = true,
        }
        match read {
            // Whether it still reads shows when the answer is written.
            Ok(_) | Err(_) if !self.ends => Ok(()),
            Ok(_) => Err(Error::explain(ErrorType::ConnectionClosed, "the client has left").into_down()),
            Err(error) => Err(error.into_down()),
        }
    }

    /// The answer could not be written.
    ///
    /// # Errors
    /// `error`, when the request ends with its client.
    pub(super) fn is_lost(&mut self, error: Box<Error>) -> pingora::Result<()> {
        (self.silent, self.gone) = (true, true);
        if self.ends { Err(error.into_down()) } else { Ok(()) }
    }
}
