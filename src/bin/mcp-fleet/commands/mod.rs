//! The subcommands, one file each, and what they share.

pub(crate) mod chat;
pub(crate) mod echo;
pub(crate) mod events;
pub(crate) mod issuer;
pub(crate) mod latency;
pub(crate) mod listen;
pub(crate) mod load;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod signer;
pub(crate) mod target;
pub(crate) mod token;
