//! Authentication and authorization. Providers validate credentials, and one cache remembers their decisions. A policy
//! decides what the caller may do. [`UpstreamCredential`] makes the credential that goes to the upstream instead of the
//! caller's.

mod authenticator;
mod bearer;
mod cache;
mod challenge;
mod choices;
mod crypto;
mod error;
mod outbound;
mod policy;
mod provider;
mod refusal;
mod revocation;
mod upstream;

pub use authenticator::{Authenticator, CachedLookup};
pub use bearer::{BearerError, bearer};
pub use cache::TokenCache;
pub use challenge::{Challenge, Metadata};
pub use crypto::install as install_crypto;
pub use error::AuthError;
pub use outbound::client::OutboundClient;
pub use policy::{Denial, Permit, Policy};
pub use provider::Provider;
pub use provider::lookup::{OperationFields, OriginalRequest};
pub use refusal::{Refusal, announced_metadata};
pub use revocation::{Revocation, Revocations, TooManyRefusals, credential_digest};
pub use upstream::{ShownCredential, UpstreamCredential, UpstreamTokenError, UpstreamTokens};
