//! Newtypes. All other modules may use them, and they depend on no other module.

mod api_key;
pub(crate) mod bounds;
mod client_certificate;
mod clock;
mod connection_field;
mod edge_field;
mod excerpt;
mod grant;
mod hex;
mod method;
mod name_pattern;
mod network;
mod operation;
mod principal;
mod request_id;
mod scope;
mod secret;
mod signing_key;
mod uri;

pub use api_key::{KeyHash, KeyHashError, api_key_id, is_api_key_id, new_api_key};
pub use client_certificate::ClientCertificate;
pub use clock::{UnixSeconds, unix_now};
pub use connection_field::is_connection_field;
pub use edge_field::{TOLD_FIELDS, is_edge_field};
pub(crate) use excerpt::excerpt;
pub use grant::Grant;
pub use hex::hex;
pub use method::KnownMethod;
pub use name_pattern::{NamePattern, NamePatternError};
pub use network::client_network;
pub use operation::{Operation, Target};
pub use principal::{Principal, PrincipalError};
pub use request_id::RequestId;
pub use scope::{Scope, ScopeError, ScopeSet};
pub use secret::Secret;
pub use signing_key::{SigningKey, SigningKeyError};
pub use uri::{
    Authority, HostError, HostPattern, Origin, OriginError, OriginPattern, PathError, PublicUrl, PublicUrlError,
    canonical_path, is_plain_uri,
};
