//! Requests to the servers of providers: the HTTP client, its guard, and how the edge authenticates itself.

pub(super) mod client;
pub(super) mod client_authentication;
pub(super) mod guard;
