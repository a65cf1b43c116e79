//! An MCP session that a request belongs to, after its sealed id was opened.

use std::sync::Arc;

use bytes::Bytes;

use crate::mcp::{SessionOwner, SessionTarget};
use crate::types::Principal;

/// An MCP session of the caller.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    /// The id that the client has.
    pub(crate) sealed: String,
    /// The endpoint that has the session, and the id there.
    pub(crate) target: SessionTarget,
    /// The client's `initialize`, packed; empty if it is not in the id.
    pub(crate) said: Bytes,
    /// True for a session of the 2024-11-05 transport: its target is a path, and it has no `Mcp-Session-Id`.
    pub(crate) legacy: bool,
}

/// The session that was opened last on a connection, with everything that decides whether it may be opened. Most requests of
/// a connection belong to the same session, and opening it again is most of what sessions cost.
#[derive(Debug)]
pub(crate) struct LastOpened {
    pub(crate) sealed: String,
    pub(crate) target: SessionTarget,
    pub(crate) said: Bytes,
    /// The generation of the snapshot whose keys opened it.
    pub(crate) generation: u64,
    pub(crate) route: Arc<str>,
    pub(crate) principal: Option<Arc<Principal>>,
}

impl LastOpened {
    /// True when `sealed` is the id that was opened, with the keys of `generation` and for `owner`.
    pub(crate) fn is(&self, sealed: &str, generation: u64, owner: SessionOwner<'_>) -> bool {
        fn identity(principal: &Principal) -> (&str, &str) {
            (principal.provider(), principal.subject())
        }
        self.generation == generation
            && self.sealed == sealed
            && *self.route == *owner.route
            && self.principal.as_deref().map(identity) == owner.principal.map(identity)
    }
}
