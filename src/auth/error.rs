//! Why a caller is not authenticated.

use std::sync::Arc;

use thiserror::Error;

use super::refusal::Refusal;

/// Why a caller is not authenticated. The texts reach logs and clients and contain no credential.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no credential: 401 without an error code (RFC 6750 section 3.1).
    #[error("no credential was sent")]
    Missing,
    /// The request's credentials are ambiguous: 400.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The credential is not valid here: 401 `invalid_token`.
    #[error("{0}")]
    Denied(&'static str),
    /// A claim of the token is missing, or has another value than the provider requires: 401 `invalid_token`.
    #[error("the claim `{name}` of the token {problem}")]
    Claim {
        /// The name of the claim, from the configuration or from a standard.
        name: Arc<str>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The provider knows the caller, but does not allow access: 403.
    #[error("{0}")]
    Forbidden(&'static str),
    /// An authentication server refuses the request: 401 or 403, with the server's challenge for the client.
    #[error("the authentication server refuses the request")]
    Refused(Arc<Refusal>),
    /// The provider cannot decide now: 503. This is never cached as a denial.
    #[error("{0}")]
    Unavailable(&'static str),
}
