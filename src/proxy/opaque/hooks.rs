//! Pingora's hooks. Each one leads to a function of the edge.

use std::os::fd::RawFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::peer::Connected;
use super::{body, fields, peer, retry};
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::stream::ClientStream;
use crate::proxy::context::RequestContext;
use crate::proxy::edge::Edge;
use crate::proxy::serve::{Served, serve};
use crate::proxy::{admit, headers, log, respond};

/// Puts an edge into Pingora's proxy.
#[derive(Debug)]
pub struct Hooks(pub Arc<Edge>);

/// For hooks that run after the route was found. Without a route the request was answered before.
fn unrouted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request has no route")
}

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        self.0.begin()
    }

    /// No modules: compression would hold streams back.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut RequestContext) -> pingora::Result<()> {
        ClientStream::head_is_read(session);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> pingora::Result<bool> {
        let mut downstream = Downstream::of_pingora(session);
        let located = admit::locate(&self.0, &mut downstream, context, None);
        let served = serve(&self.0, &mut downstream, context, located).await?;
        Ok(served == Served::Answered)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
    ) -> pingora::Result<Box<HttpPeer>> {
        let route = context.route.clone().ok_or_else(unrouted)?;
        peer::choose(&self.0.connections, session.req_header(), context, &route)
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
        peer::connected(&self.0.connections, context, &route, Connected { peer, descriptor, reused });
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        context: &mut RequestContext,
    ) -> pingora::Result<()> {
        let route = context.route.as_ref().ok_or_else(unrouted)?;
        fields::to_upstream(request, context, route)
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
        context.answered(response.status.as_u16());
        fields::mark_stream(session, response, context);
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
        let (status, can_reuse_downstream) = respond::fail(&mut Downstream::of_pingora(session), context, error).await;
        FailToProxy { error_code: status.map_or(0, |status| status.as_u16()), can_reuse_downstream }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut RequestContext) {
        log::finish(&self.0.metrics, &Downstream::of_pingora(session), error, context);
        ClientStream::next_request(session);
    }

    /// No error lines of Pingora: the access line says the same, escaped and with the request's id.
    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, context: &RequestContext) -> String {
        format!("request {}", context.id)
    }
}
