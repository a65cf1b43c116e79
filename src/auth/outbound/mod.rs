//! How the edge asks the servers of providers: the HTTP client, its guard, and how the edge proves who it is.

pub(super) mod client;
pub(super) mod client_authentication;
pub(super) mod guard;
