//! What an edge remembers for its gateways. All of it can be made again from what clients send and what servers say.

pub(super) mod catalog;
pub(super) mod server_error;
pub(super) mod server_list;
pub(super) mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::future::Cache;

use self::catalog::Catalog;
use self::server_error::ServerError;
use self::server_list::{ListKey, ServerList};
use self::session::{ServerSession, SessionKey};
use super::snapshot::{GatewayContext, GatewayServer};
use crate::config::limits;
use crate::mcp::{ServerFacts, ServerMark};

/// Shared by all gateways of an edge: two gateways share what they know of a server. Servers are known by
/// [`GatewayServer::key`], so nothing that a server has said before counts after its configuration has changed.
#[derive(Debug)]
pub(super) struct GatewayMemory {
    /// Sessions at servers that were opened after their client had got its id.
    pub(super) opened: Cache<(SessionKey, ServerMark), ServerSession>,
    /// `params` of an `initialize` that was too long for the id.
    pub(super) params: Cache<SessionKey, Arc<str>>,
    /// Sessions that their clients have ended.
    pub(super) ended: Cache<SessionKey, ()>,
    /// What servers have said about themselves to one caller, in sessions and without. A server may speak revisions of both eras.
    facts: Cache<(u64, Speech, SessionKey), Arc<ServerFacts>>,
    /// Servers that answer requests without sessions.
    stateless: Cache<u64, ()>,
    /// Servers that have no sessions.
    sessionless: Cache<u64, ()>,
    pub(super) lists: Cache<ListKey, Arc<ServerList>>,
    /// Why servers could not be reached a moment ago.
    down: Cache<u64, ServerError>,
    /// Lists that were not read again in the short time that there is for that while the last one can be shown.
    pub(super) late_lists: Cache<ListKey, ()>,
    /// When lists of servers have changed last.
    changed: Cache<u64, Instant>,
    /// What operators see of servers and tools.
    pub(super) catalog: Arc<Catalog>,
    /// How many streams of clients listen to a server.
    listeners: Arc<Mutex<HashMap<u64, usize>>>,
    /// Which server has a task.
    pub(super) tasks: Cache<(SessionKey, String), ServerMark>,
}

/// How a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Speech {
    InSessions,
    Stateless,
}

impl Speech {
    fn of(session: &ServerSession) -> Self {
        match session {
            ServerSession::Open { .. } => Self::InSessions,
            ServerSession::Stateless => Self::Stateless,
        }
    }
}

impl GatewayMemory {
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        let idle = limits::GATEWAY_SESSION_IDLE;
        let of_sessions = limits::GATEWAY_SESSIONS;
        Self {
            opened: Cache::builder().max_capacity(of_sessions).time_to_idle(idle).build(),
            params: Cache::builder()
                .max_capacity(limits::RESUME_BYTES)
                .weigher(|_, params: &Arc<str>| params.len() as u32)
                .time_to_idle(idle)
                .build(),
            ended: Cache::builder().max_capacity(of_sessions).time_to_idle(idle).build(),
            facts: Cache::builder().max_capacity(limits::GATEWAY_FACTS_KEPT).time_to_idle(idle).build(),
            stateless: of_servers(limits::GATEWAY_FACTS),
            sessionless: of_servers(limits::GATEWAY_FACTS),
            lists: Cache::builder()
                .max_capacity(limits::GATEWAY_LISTS_BYTES)
                .weigher(|_, list: &Arc<ServerList>| list.bytes())
                .time_to_live(limits::GATEWAY_LIST_TTL_MAX + limits::GATEWAY_LIST_STALE)
                .build(),
            down: of_servers(limits::GATEWAY_RETRY),
            late_lists: Cache::builder()
                .max_capacity(limits::GATEWAY_FACTS_KEPT)
                .time_to_live(limits::GATEWAY_RETRY)
                .build(),
            catalog,
            listeners: Arc::default(),
            changed: of_servers(limits::GATEWAY_LIST_TTL_MAX * 2),
            tasks: Cache::builder().max_capacity(of_sessions).time_to_idle(idle).build(),
        }
    }
}

/// Something about each server, by its key, for this long.
fn of_servers<V: Clone + Send + Sync + 'static>(time: Duration) -> Cache<u64, V> {
    Cache::builder().max_capacity(limits::GATEWAY_KNOWN_SERVERS).time_to_live(time).build()
}

/// A stream that listens to a server.
#[derive(Debug)]
pub(super) struct Listener {
    all: Arc<Mutex<HashMap<u64, usize>>>,
    server: u64,
    /// No other stream has listened to the server.
    pub(super) is_first: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.server) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.server);
            }
        }
    }
}

impl GatewayMemory {
    /// From here on a stream listens to the server, until the listener is dropped.
    pub(super) fn listens(&self, server: &GatewayServer) -> Listener {
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(server.key).or_default();
        *count += 1;
        Listener { all: Arc::clone(&self.listeners), server: server.key, is_first: *count == 1 }
    }

    /// Why the server could not be reached a moment ago.
    pub(super) async fn is_down(&self, server: &GatewayServer) -> Option<ServerError> {
        self.down.get(&server.key).await
    }

    /// The server is left alone for a moment.
    pub(super) async fn goes_down(&self, server: &GatewayServer, error: ServerError) {
        self.down.insert(server.key, error).await;
    }

    /// The server cannot be reached, or says things that make no sense.
    pub(super) fn has_problem(&self, gateway: &GatewayContext, server: &GatewayServer, error: &ServerError) {
        log::warn!("gateway {}: the server `{}` {error}", gateway.route.settings.name, server.settings.name);
        self.catalog.has_problem(&server.settings.route, error.to_string());
    }

    /// The server says that one of its lists has changed. Lists that were read before are not valid any more.
    pub(super) async fn heard_change(&self, server: u64) {
        self.changed.insert(server, Instant::now()).await;
    }

    /// True while the list of `server` need not be read again.
    pub(super) async fn is_valid(&self, server: &GatewayServer, list: &ServerList) -> bool {
        let is_current = list.is_fresh() && list.accepted_at == self.catalog.accepted();
        is_current && self.changed.get(&server.key).await.is_none_or(|changed| changed < list.read)
    }

    /// What the server has said about itself to the caller with this identity.
    pub(super) async fn facts(
        &self,
        server: &GatewayServer,
        session: &ServerSession,
        identity: SessionKey,
    ) -> Option<Arc<ServerFacts>> {
        self.facts.get(&(server.key, Speech::of(session), identity)).await
    }

    /// Notes what the server has said about itself to the caller with this identity.
    pub(super) async fn said(
        &self,
        server: &GatewayServer,
        session: &ServerSession,
        identity: SessionKey,
        facts: Arc<ServerFacts>,
    ) {
        self.catalog.speaks(&server.settings.route, facts.version.as_deref());
        self.facts.insert((server.key, Speech::of(session), identity), facts).await;
        if *session == ServerSession::Stateless {
            self.stateless.insert(server.key, ()).await;
        }
        self.down.invalidate(&server.key).await;
    }

    /// The server has no sessions.
    pub(super) async fn has_no_sessions(&self, server: &GatewayServer) {
        self.sessionless.insert(server.key, ()).await;
    }

    /// True when the server is known to have no sessions.
    pub(super) async fn is_sessionless(&self, server: &GatewayServer) -> bool {
        self.sessionless.get(&server.key).await.is_some()
    }

    /// True when the server is known to answer requests without sessions.
    pub(super) async fn is_stateless(&self, server: &GatewayServer) -> bool {
        self.stateless.get(&server.key).await.is_some()
    }
}
