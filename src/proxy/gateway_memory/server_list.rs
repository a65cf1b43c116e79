//! A list of one server, as a gateway remembers it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::session::SessionKey;
use crate::mcp::{ListItem, ListKind, ToolText};

/// What a list depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct ListKey {
    /// The key of the server.
    pub(in crate::proxy) server: u64,
    pub(in crate::proxy) kind: ListKind,
    /// The authorization context that the list is valid in. `None`: all of them (MCP 2026-07-28, `cacheScope: public`).
    pub(in crate::proxy) context: Option<SessionKey>,
}

/// All items of a list of one server.
#[derive(Debug)]
pub(in crate::proxy) struct ServerList {
    pub(in crate::proxy) items: Vec<ListItem>,
    pub(in crate::proxy) is_public: bool,
    /// When it was read.
    pub(in crate::proxy) read: Instant,
    /// How long that took.
    pub(in crate::proxy) took: Duration,
    /// How long it is valid.
    pub(in crate::proxy) ttl: Duration,
    /// For each tool the definition that an operator has accepted, if it is another one.
    pub(in crate::proxy) accepted: Vec<Option<ListItem>>,
    /// The state of the catalogue in which it was read.
    pub(in crate::proxy) accepted_at: u64,
    /// The words of each item, in the same order, once somebody has searched for tools.
    texts: OnceLock<Vec<ToolText>>,
}

impl ServerList {
    /// An empty list that was read now. `accepted_at`: the state of the catalogue.
    pub(in crate::proxy) fn new(ttl: Duration, accepted_at: u64) -> Self {
        Self {
            items: Vec::new(),
            is_public: false,
            read: Instant::now(),
            took: Duration::ZERO,
            ttl,
            accepted: Vec::new(),
            accepted_at,
            texts: OnceLock::new(),
        }
    }

    /// The words of each item of a list of tools. `server`: the name of the server.
    pub(in crate::proxy) fn texts(&self, server: &str) -> &[ToolText] {
        self.texts.get_or_init(|| self.items.iter().map(|item| ToolText::new(server, item)).collect())
    }

    /// True while the list need not be read again.
    pub(in crate::proxy) fn is_fresh(&self) -> bool {
        self.read.elapsed() < self.ttl
    }

    /// The memory that it takes, about, in bytes.
    pub(in crate::proxy) fn bytes(&self) -> u32 {
        let bytes: usize = self.items.iter().map(|item| item.json().len() + item.name.len() + 96).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}
