//! Requests that Pingora's proxy passes on: opaque routes, upgrades, gRPC.

mod body;
mod fields;
pub(super) mod hooks;
mod peer;
mod retry;
