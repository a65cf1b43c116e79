//! Pingora's hooks.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::context::RequestContext;
use super::downstream::Downstream;
use super::held::Held;
use super::listener::ListenerContext;
use super::reject;
use super::request::{self, Admission};
use super::resume::Resumptions;
use super::snapshot::Snapshot;
use super::{body, credential, headers, log, peer, retry};
use crate::metrics::Metrics;
use crate::upstream::Connections;

/// The data path of one edge.
pub struct Edge {
    snapshot: Arc<ArcSwap<Snapshot>>,
    listeners: Vec<ListenerContext>,
    metrics: Arc<Metrics>,
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
}

/// A hook that runs after the route was found; it always was, or the request was answered.
fn unrouted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request has no permit")
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(self.snapshot.load_full())
    }

    /// None: compression would hold streams back.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut RequestContext) -> pingora::Result<()> {
        Downstream::head_is_read(session);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> pingora::Result<bool> {
        let admitted = match request::admit(self, session, context).await? {
            Ok(Admission::Proxy) => credential::acquire(session, context).await.map(|()| Admission::Proxy),
            admitted => admitted,
        };
        match admitted {
            Ok(Admission::Proxy) => Ok(false),
            Ok(Admission::Answered) => Ok(true),
            Err(rejection) => {
                let told = reject::respond(session, context, &rejection).await;
                // A client that did not wait for it was refused all the same.
                context.rejection = Some(rejection);
                told.map(|()| true).map_err(|error| error.into_down())
            }
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
    ) -> pingora::Result<Box<HttpPeer>> {
        let route = context.route.clone().ok_or_else(unrouted)?;
        peer::choose(self, session, context, &route)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        descriptor: RawFd,
        _: Option<&Digest>,
        context: &mut RequestContext,
    ) -> pingora::Result<()> {
        let route = context.route.clone().ok_or_else(unrouted)?;
        peer::connected(self, context, &route, peer, (descriptor, reused));
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        context: &mut RequestContext,
    ) -> pingora::Result<()> {
        let (Some(route), Some(permit)) = (&context.route, &context.permit) else { return Err(unrouted()) };
        headers::to_upstream(request, context, route, permit)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        _: bool,
        context: &mut RequestContext,
    ) -> pingora::Result<()> {
        body::count(context, piece.as_ref())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut RequestContext,
    ) -> pingora::Result<()> {
        peer::answered(context, response.status.as_u16());
        headers::mark_stream(session, response, context);
        let route = context.route.as_ref().ok_or_else(unrouted)?;
        headers::to_client(response, context, route)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        context: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        retry::after_connect_error(context, error)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut RequestContext,
        reused: bool,
    ) -> Box<Error> {
        retry::after_exchange_error(session, context, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut RequestContext) -> FailToProxy {
        reject::fail(session, context, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut RequestContext) {
        log::finish(&self.metrics, session, error, context);
        Downstream::next_request(session);
    }

    /// Pingora's own error lines: the access line says the same, escaped and with the request's id.
    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, context: &RequestContext) -> String {
        format!("request {}", context.id)
    }
}
