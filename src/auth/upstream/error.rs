//! Why a request has no credential for its upstream.

use thiserror::Error;

/// Why a request has no credential for its upstream. The request is then not sent to the upstream. The texts are shown
/// to clients and contain no token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UpstreamTokenError {
    /// This caller gets no credential: 403.
    #[error("{0}")]
    Refused(&'static str),
    /// No caller can get a credential now: 503.
    #[error("{0}")]
    Unavailable(&'static str),
}
