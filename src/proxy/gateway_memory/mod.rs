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

/// Shared by all gateways of an edge. Servers are known by the marks of their routes, so two gateways share what they know of one.
#[derive(Debug)]
pub(super) struct GatewayMemory {
    /// Sessions at servers that were opened after their client had got its id.
    pub(super) opened: Cache<(SessionKey, ServerMark), ServerSession>,
    /// `params` of an `initialize` that was too long for the id.
    pub(super) params: Cache<SessionKey, Arc<str>>,
    /// Sessions that their clients have ended.
    pub(super) ended: Cache<SessionKey, ()>,
    /// What servers say about themselves.
    pub(super) facts: Cache<ServerMark, Arc<ServerFacts>>,
    pub(super) lists: Cache<ListKey, Arc<ServerList>>,
    /// Why servers could not be reached a moment ago.
    pub(super) down: Cache<ServerMark, ServerError>,
    /// When lists of servers have changed last.
    changed: Cache<ServerMark, Instant>,
    /// What operators see of servers and tools.
    pub(super) catalog: Arc<Catalog>,
    /// Which server has a task.
    pub(super) tasks: Cache<(SessionKey, String), ServerMark>,
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
    /// The server cannot be reached, or says things that make no sense.
    pub(super) fn has_problem(&self, gateway: &GatewayContext, server: &GatewayServer, error: &ServerError) {
        log::warn!("gateway {}: the server `{}` {error}", gateway.route.settings.name, server.settings.name);
        self.catalog.has_problem(&server.settings.route, error.to_string());
    }

    /// The server says that one of its lists has changed. Lists that were read before are not valid any more.
    pub(super) async fn heard_change(&self, server: ServerMark) {
        self.changed.insert(server, Instant::now()).await;
    }

    /// True while the list of `server` need not be read again.
    pub(super) async fn is_valid(&self, server: ServerMark, list: &ServerList) -> bool {
        let is_current = list.is_fresh() && list.accepted_at == self.catalog.accepted();
        is_current && self.changed.get(&server).await.is_none_or(|changed| changed < list.read)
    }

    /// True when the server is known to speak only revisions without sessions, or when that is how the edge speaks to it.
    pub(super) async fn is_stateless(&self, server: ServerMark) -> bool {
        self.facts.get(&server).await.is_some_and(|facts| facts.version.is_none())
    }
}
