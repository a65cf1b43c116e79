//! The connection that one exchange has with a replica.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType};

use super::http1_link::Http1Link;
use super::pingora_link::{read_head, write_body, write_head};
use super::upstream_head::UpstreamHead;
use crate::config::limits;
use crate::proxy::edge::Edge;
use crate::upstream::{Endpoint, Upstream, Wire};

/// A request in the form that a [`Link`] needs.
pub(crate) enum LinkRequest {
    /// For HTTP/1: the first bytes to write (the head, and a small body with it), and the rest of the body.
    Wire(Bytes, Bytes),
    /// For Pingora: the head and the body.
    Message(Box<RequestHeader>, Bytes),
}

/// A connection, and the endpoint that it belongs to.
pub(crate) struct Link {
    endpoint: Arc<Endpoint>,
    protocol: Protocol,
}

enum Protocol {
    Http1(Http1Link),
    /// HTTP/2, or what was negotiated instead.
    Pingora(Box<HttpSession>),
}

impl Link {
    /// An idle connection, or else a new one, for a request with `method`. Also says whether it was used before.
    pub(crate) async fn open(
        edge: &Edge,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        method: &Method,
    ) -> pingora::Result<(Self, bool)> {
        let link = |protocol| Self { endpoint: Arc::clone(endpoint), protocol };
        if upstream.settings().http2 {
            // Boxed, because the future of a TLS handshake is large, and every stream would carry room for it.
            let (session, reused) = Box::pin(edge.upstreams.get_http_session(endpoint.peer())).await?;
            return Ok((link(Protocol::Pingora(Box::new(session))), reused));
        }
        if let Some(stream) = endpoint.take_idle() {
            return Ok((link(Protocol::Http1(Http1Link::new(stream, method.clone()))), true));
        }
        let stream = Wire::connect(&edge.transport, endpoint.peer(), endpoint.address()).await?;
        Ok((link(Protocol::Http1(Http1Link::new(stream, method.clone()))), false))
    }

    /// The request in the form that this connection needs.
    pub(crate) fn request(&self, head: UpstreamHead<'_>, body: &Bytes) -> pingora::Result<LinkRequest> {
        match &self.protocol {
            Protocol::Http1(_) if body.len() <= limits::COPIED_PIECE_BYTES => {
                head.to_wire(body).map(|wire| LinkRequest::Wire(wire.freeze(), Bytes::new()))
            }
            Protocol::Http1(_) => {
                head.to_wire_head(body.len()).map(|wire| LinkRequest::Wire(wire.freeze(), body.clone()))
            }
            Protocol::Pingora(_) => {
                head.to_header(body.len()).map(|head| LinkRequest::Message(Box::new(head), body.clone()))
            }
        }
    }

    /// Sends a whole request. Even if this fails, the head of an answer may have come.
    pub(crate) async fn send(&mut self, request: LinkRequest, limit: Duration) -> pingora::Result<()> {
        match (request, &mut self.protocol) {
            (LinkRequest::Wire(head, body), Protocol::Http1(link)) => link.send(&head, &body, limit).await,
            (LinkRequest::Message(head, body), Protocol::Pingora(session)) => {
                session.set_write_timeout(Some(limit));
                write_head(session, *head).await?;
                write_body(session, body).await
            }
            _ => Err(Error::explain(ErrorType::InternalError, "the request is for another kind of connection")),
        }
    }

    /// Reads the head of the answer.
    pub(crate) async fn read_head(&mut self) -> pingora::Result<Box<ResponseHeader>> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.read_head().await,
            Protocol::Pingora(session) => {
                read_head(session).await?;
                let head = session.response_header().cloned().map(Box::new);
                head.ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "there is no response head"))
            }
        }
    }

    /// The next piece of the answer's body. The future may be dropped while it waits: no byte is lost.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.read_body().await,
            Protocol::Pingora(session) => session.read_response_body().await,
        }
    }

    /// The exchange has ended whole. The connection is kept for others, if the replica keeps it open.
    pub(crate) async fn release(self, edge: &Edge) {
        match self.protocol {
            Protocol::Http1(link) => {
                if let Some(stream) = link.into_idle() {
                    self.endpoint.keep_idle(stream);
                }
            }
            Protocol::Pingora(session) => {
                let peer = self.endpoint.peer();
                edge.upstreams.release_http_session(*session, peer, peer.options.idle_timeout).await;
            }
        }
    }

    /// Breaks the exchange off. The upstream sees the connection, or its stream, closed.
    pub(crate) async fn abandon(self) {
        match self.protocol {
            Protocol::Http1(mut link) => link.shutdown().await,
            Protocol::Pingora(mut session) => drop(tokio::time::timeout(limits::GOODBYE, session.shutdown()).await),
        }
    }
}
