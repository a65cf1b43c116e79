//! Newtypes that every other module may use, and that use none of them.

mod clock;
mod host;
mod path;
mod permit;
mod principal;
mod request_id;
mod scope;
mod secret;

pub use clock::{UnixSeconds, unix_now};
pub use host::{Authority, HostError, HostPattern};
pub use path::{PathError, canonical_path};
pub use permit::{Operation, Permit};
pub use principal::{Principal, PrincipalError};
pub use request_id::RequestId;
pub use scope::{Scope, ScopeError, ScopeSet};
pub use secret::Secret;
