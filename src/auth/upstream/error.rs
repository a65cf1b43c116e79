//! Why there is nothing that an upstream could be shown.

use thiserror::Error;

/// Nothing is sent to the upstream then. The texts reach clients and hold no token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UpstreamTokenError {
    /// This caller gets none: 403.
    #[error("{0}")]
    Refused(&'static str),
    /// There is none now, whoever asks: 503.
    #[error("{0}")]
    Unavailable(&'static str),
}
