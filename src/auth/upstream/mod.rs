//! The credentials that requests carry to upstreams: a secret, a token from a token endpoint, or an assertion that the
//! edge signs.

mod assertion;
mod credential;
mod endpoint;
mod error;
mod token;
mod tokens;

pub use credential::{ShownCredential, UpstreamCredential};
pub use error::UpstreamTokenError;
pub use tokens::UpstreamTokens;
