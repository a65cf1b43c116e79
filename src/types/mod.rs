//! Newtypes that every other module may use, and that use none of them.

mod api_key;
mod client_certificate;
mod clock;
mod connection_field;
mod excerpt;
mod grant;
mod host;
mod method;
mod name_pattern;
mod operation;
mod origin;
mod path;
mod principal;
mod request_id;
mod resource_uri;
mod scope;
mod secret;
mod signing_key;

pub use api_key::{KeyHash, KeyHashError, api_key_id, is_api_key_id, new_api_key};
pub use client_certificate::ClientCertificate;
pub use clock::{UnixSeconds, unix_now};
pub use connection_field::is_connection_field;
pub(crate) use excerpt::excerpt;
pub use grant::Grant;
pub use host::{Authority, HostError, HostPattern};
pub use method::KnownMethod;
pub use name_pattern::{NamePattern, NamePatternError};
pub use operation::{Operation, Target};
pub use origin::{Origin, OriginError, OriginPattern};
pub use path::{PathError, canonical_path};
pub use principal::{Principal, PrincipalError};
pub use request_id::RequestId;
pub use resource_uri::is_plain_uri;
pub use scope::{Scope, ScopeError, ScopeSet};
pub use secret::Secret;
pub use signing_key::{SigningKey, SigningKeyError};
