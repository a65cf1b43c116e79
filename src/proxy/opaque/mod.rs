//! What only Pingora's pipeline carries: opaque routes, upgrades, gRPC.

pub(super) mod body;
pub(super) mod hooks;
pub(super) mod peer;
pub(super) mod retry;
