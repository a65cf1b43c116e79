//! Why a caller is not let in.

use std::sync::Arc;

use thiserror::Error;

use super::refusal::Refusal;

/// The outcome of an authentication that is no principal. The texts reach logs and clients and hold no credential.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AuthError {
    /// There is no credential: 401 without an error code (RFC 6750 section 3.1).
    #[error("no credential was sent")]
    Missing,
    /// The request cannot be read without doubt: 400.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The credential is not valid here: 401 `invalid_token`.
    #[error("{0}")]
    Denied(&'static str),
    /// The provider knows the caller and refuses: 403.
    #[error("{0}")]
    Forbidden(&'static str),
    /// An authentication server does not let the request pass: 401 or 403, with what it says to the client.
    #[error("the authentication server refuses the request")]
    Refused(Arc<Refusal>),
    /// The provider cannot tell: 503, and never remembered as a denial.
    #[error("{0}")]
    Unavailable(&'static str),
}
