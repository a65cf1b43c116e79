//! Who is calling, and may they? Providers validate credentials, one cache remembers what they said. And what is the
//! upstream shown in their place?

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
pub use refusal::Refusal;
pub use revocation::{Revocation, Revocations, TooManyRefusals, credential_digest};
pub use upstream::{ShownCredential, UpstreamCredential, UpstreamTokenError, UpstreamTokens};
