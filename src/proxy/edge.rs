//! What the data path of one edge shares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};

use super::admit::{Admission, Located};
use super::client::session::ClientSession;
use super::context::RequestContext;
use super::exchange::resume::Resumptions;
use super::held::Held;
use super::listener::ListenerContext;
use super::snapshot::Snapshot;
use super::{admit, credential, respond};
use crate::metrics::Metrics;
use crate::upstream::Connections;

/// The data path of one edge.
pub struct Edge {
    snapshot: Arc<ArcSwap<Snapshot>>,
    listeners: Vec<ListenerContext>,
    pub(super) metrics: Arc<Metrics>,
    /// Of opaque routes.
    pub(super) connections: Connections,
    /// Connects MCP routes to their upstreams over HTTP/1.
    pub(super) transport: TransportConnector,
    /// The same over HTTP/2, and for sessions that are opened again; it keeps idle connections.
    pub(super) upstreams: Connector,
    pub(super) held: Held,
    /// The same for messages whose senders are not known yet.
    pub(super) held_early: Held,
    pub(super) resumptions: Resumptions,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Edge {
    /// Serves what `snapshot` holds at the start of each request; `idle_connections` to upstreams are kept.
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        listeners: Vec<ListenerContext>,
        metrics: Arc<Metrics>,
        idle_connections: usize,
    ) -> Self {
        Self {
            snapshot,
            listeners,
            metrics,
            connections: Connections::default(),
            transport: TransportConnector::new(None),
            upstreams: Connector::new(Some(ConnectorOptions::new(idle_connections))),
            held: Held::default(),
            held_early: Held::default(),
            resumptions: Resumptions::default(),
        }
    }

    /// The listener that accepted a connection to `local`.
    pub(super) fn listener(&self, local: SocketAddr) -> Option<&ListenerContext> {
        self.listeners.iter().find(|listener| listener.accepted(local))
    }

    /// How long a client's connection may wait for its next request.
    pub(super) fn keepalive_timeout(&self) -> Duration {
        self.snapshot.load().config.limits.keepalive_timeout.0
    }

    /// What is known of a request at its start: the snapshot that it captures.
    pub(super) fn begin(&self) -> RequestContext {
        RequestContext::new(self.snapshot.load_full())
    }

    /// Decides on a request and answers it, if that is possible here. False: it is permitted, and Pingora's proxy has to
    /// pass it on.
    ///
    /// # Errors
    /// The exchange broke off.
    pub(super) async fn serve(
        &self,
        session: &mut ClientSession<'_>,
        context: &mut RequestContext,
        located: Result<Located<'_>, respond::Rejection>,
    ) -> pingora::Result<bool> {
        let admitted = match located {
            Ok(located) => admit::admit(self, session, context, located).await?,
            Err(rejection) => Err(rejection),
        };
        let admitted = match admitted {
            Ok(Admission::Proxy) => credential::acquire(session.req_header(), context).await.map(|()| Admission::Proxy),
            admitted => admitted,
        };
        match admitted {
            Ok(Admission::Proxy) => Ok(false),
            Ok(Admission::Answered) => Ok(true),
            Err(rejection) => {
                let told = respond::respond(session, context, &rejection).await;
                // A client that did not wait for it was refused all the same.
                context.rejection = Some(rejection);
                told.map(|()| true).map_err(|error| error.into_down())
            }
        }
    }
}
