//! Who is calling, and may they? Providers validate credentials, one cache remembers what they said. And what is the
//! upstream shown in their place?

mod api_key;
mod authenticator;
mod bearer;
mod cache;
mod challenge;
mod choices;
mod claims;
mod client;
mod client_authentication;
mod crypto;
mod discovery;
mod error;
mod guard;
mod introspection;
mod jwks;
mod jwt;
mod lookup;
mod members;
mod mtls;
mod policy;
mod provider;
mod refusal;
mod revocation;
mod upstream;

pub use authenticator::{Asked, Authenticator};
pub use bearer::{BearerError, bearer};
pub use cache::TokenCache;
pub use challenge::{Challenge, Metadata};
pub use client::OutboundClient;
pub use crypto::install as install_crypto;
pub use error::AuthError;
pub use lookup::{AskedOperation, OriginalRequest};
pub use policy::{Denial, Permit, Policy};
pub use provider::Provider;
pub use refusal::Refusal;
pub use revocation::{Revocation, Revocations, TooManyRefusals, credential_digest};
pub use upstream::{ShownCredential, UpstreamCredential, UpstreamTokenError, UpstreamTokens};
