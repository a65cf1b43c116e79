//! What an edge remembers for its gateways. All of it can be made again from what clients send and what servers say.

pub(super) mod catalog;
pub(super) mod server_error;
pub(super) mod server_list;
pub(super) mod session;

use std::sync::Arc;
use std::time::Instant;

use moka::future::Cache;

use self::catalog::Catalog;
use self::server_error::ServerError;
use self::server_list::{ListKey, ServerList};
use self::session::{ServerSession, SessionKey};
use super::snapshot::{GatewayContext, GatewayServer};
use crate::config::limits;
use crate::mcp::{ServerFacts, ServerMark};

/// Shared by all gateways of an edge: two gateways share what they know of a server. What servers have said is forgotten when their
/// upstream changes, which then has another instance.
#[derive(Debug)]
pub(super) struct GatewayMemory {
    /// Sessions at servers that were opened after their client had got its id.
    pub(super) opened: Cache<(SessionKey, ServerMark), ServerSession>,
    /// `params` of an `initialize` that was too long for the id.
    pub(super) params: Cache<SessionKey, Arc<str>>,
    /// Sessions that their clients have ended.
    pub(super) ended: Cache<SessionKey, ()>,
    /// What servers say about themselves, in sessions and without. A server may speak revisions of both eras.
    facts: Cache<(u64, Speech), Arc<ServerFacts>>,
    /// Servers that have no sessions.
    sessionless: Cache<u64, ()>,
    pub(super) lists: Cache<ListKey, Arc<ServerList>>,
    /// Why servers could not be reached a moment ago.
    down: Cache<u64, ServerError>,
    /// When lists of servers have changed last.
    changed: Cache<u64, Instant>,
    /// What operators see of servers and tools.
    pub(super) catalog: Arc<Catalog>,
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
            facts: Cache::builder()
                .max_capacity(limits::GATEWAY_KNOWN_SERVERS)
                .time_to_live(limits::GATEWAY_FACTS)
                .build(),
            sessionless: Cache::builder()
                .max_capacity(limits::GATEWAY_KNOWN_SERVERS)
                .time_to_live(limits::GATEWAY_FACTS)
                .build(),
            lists: Cache::builder()
                .max_capacity(limits::GATEWAY_LISTS_BYTES)
                .weigher(|_, list: &Arc<ServerList>| list.bytes())
                .time_to_live(limits::GATEWAY_LIST_TTL_MAX + limits::GATEWAY_LIST_STALE)
                .build(),
            down: Cache::builder()
                .max_capacity(limits::GATEWAY_KNOWN_SERVERS)
                .time_to_live(limits::GATEWAY_RETRY)
                .build(),
            catalog,
            changed: Cache::builder()
                .max_capacity(limits::GATEWAY_KNOWN_SERVERS)
                .time_to_live(limits::GATEWAY_LIST_TTL_MAX * 2)
                .build(),
            tasks: Cache::builder().max_capacity(of_sessions).time_to_idle(idle).build(),
        }
    }
}

impl GatewayMemory {
    /// Why the server could not be reached a moment ago.
    pub(super) async fn is_down(&self, server: &GatewayServer) -> Option<ServerError> {
        self.down.get(&server.server.upstream.instance()).await
    }

    /// The server is left alone for a moment.
    pub(super) async fn goes_down(&self, server: &GatewayServer, error: ServerError) {
        self.down.insert(server.server.upstream.instance(), error).await;
    }

    /// The server cannot be reached, or says things that make no sense.
    pub(super) fn has_problem(&self, gateway: &GatewayContext, server: &GatewayServer, error: &ServerError) {
        log::warn!("gateway {}: the server `{}` {error}", gateway.route.settings.name, server.settings.name);
        self.catalog.has_problem(&server.settings.route, error.to_string());
    }

    /// The server says that one of its lists has changed. Lists that were read before are not valid any more.
    pub(super) async fn heard_change(&self, server: &GatewayServer) {
        self.changed.insert(server.server.upstream.instance(), Instant::now()).await;
    }

    /// True while the list of `server` need not be read again.
    pub(super) async fn is_valid(&self, server: &GatewayServer, list: &ServerList) -> bool {
        let is_current = list.is_fresh() && list.accepted_at == self.catalog.accepted();
        is_current
            && self.changed.get(&server.server.upstream.instance()).await.is_none_or(|changed| changed < list.read)
    }

    /// What the server has said about itself, if that is not too long ago.
    pub(super) async fn facts(&self, server: &GatewayServer, session: &ServerSession) -> Option<Arc<ServerFacts>> {
        self.facts.get(&(server.server.upstream.instance(), Speech::of(session))).await
    }

    /// Notes what the server has said about itself.
    pub(super) async fn said(&self, server: &GatewayServer, session: &ServerSession, facts: Arc<ServerFacts>) {
        let instance = server.server.upstream.instance();
        self.catalog.speaks(&server.settings.route, facts.version.as_deref());
        self.facts.insert((instance, Speech::of(session)), facts).await;
        self.down.invalidate(&instance).await;
    }

    /// The server has no sessions.
    pub(super) async fn has_no_sessions(&self, server: &GatewayServer) {
        self.sessionless.insert(server.server.upstream.instance(), ()).await;
    }

    /// True when the server is known to have no sessions.
    pub(super) async fn is_sessionless(&self, server: &GatewayServer) -> bool {
        self.sessionless.contains_key(&server.server.upstream.instance())
    }

    /// True when the server is known to answer requests without sessions.
    pub(super) async fn is_stateless(&self, server: &GatewayServer) -> bool {
        self.facts(server, &ServerSession::Stateless).await.is_some()
    }
}
