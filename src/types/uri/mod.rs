//! Hosts, origins, paths and URLs.

mod host;
mod origin;
mod path;
mod public_url;
mod resource_uri;

pub use host::{Authority, HostError, HostPattern};
pub use origin::{Origin, OriginError, OriginPattern};
pub use path::{PathError, canonical_path};
pub use public_url::{PublicUrl, PublicUrlError};
pub use resource_uri::is_plain_uri;
