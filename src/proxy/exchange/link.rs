//! The connection that one exchange has with a replica.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType};

use super::http1_link::Http1Link;
use super::upstream_head::UpstreamHead;
use super::{read_head, write_body, write_head};
use crate::config::limits;
use crate::proxy::edge::Edge;
use crate::upstream::{Endpoint, Upstream, Wire};

/// Bodies up to this size are copied behind their heads, in bytes.
const AT_ONCE: usize = 16 << 10;

/// A request in the form that a [`Link`] wants.
pub(crate) enum LinkRequest {
    /// HTTP/1: a head, perhaps with the body, and the rest.
    Wire(Bytes, Bytes),
    Message(Box<RequestHeader>, Bytes),
}

/// A connection, and where it belongs.
pub(crate) struct Link {
    endpoint: Arc<Endpoint>,
    protocol: Protocol,
}

enum Protocol {
    Http1(Http1Link),
    /// HTTP/2, or what was negotiated in its place.
    Pingora(Box<HttpSession>),
}

impl Link {
    /// An idle connection or a new one for a request with `method`; says whether it was used before.
    pub(crate) async fn open(
        edge: &Edge,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        method: &Method,
    ) -> pingora::Result<(Self, bool)> {
        let link = |protocol| Self { endpoint: Arc::clone(endpoint), protocol };
        if upstream.settings().http2 {
            // Boxed, because a TLS handshake is large, and streams would carry room for it to their end.
            let (session, reused) = Box::pin(edge.upstreams.get_http_session(endpoint.peer())).await?;
            return Ok((link(Protocol::Pingora(Box::new(session))), reused));
        }
        if let Some(stream) = endpoint.take_idle() {
            return Ok((link(Protocol::Http1(Http1Link::new(stream, method.clone()))), true));
        }
        let stream = Wire::connect(&edge.transport, endpoint.peer(), endpoint.address()).await?;
        Ok((link(Protocol::Http1(Http1Link::new(stream, method.clone()))), false))
    }

    /// The request in the form that this connection wants.
    pub(crate) fn request(&self, head: UpstreamHead<'_>, body: &Bytes) -> pingora::Result<LinkRequest> {
        match &self.protocol {
            Protocol::Http1(_) if body.len() <= AT_ONCE => {
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

    /// Sends a whole request. The head of its answer may be there even if this fails.
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

    /// The next piece of the answer's body. It can be dropped while it waits.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        match &mut self.protocol {
            Protocol::Http1(link) => link.read_body().await,
            Protocol::Pingora(session) => session.read_response_body().await,
        }
    }

    /// After an exchange that is whole: the connection serves others, if the replica wants that.
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

    /// Ends an exchange in the middle: the upstream sees its connection, or stream, closed.
    pub(crate) async fn abandon(self) {
        match self.protocol {
            Protocol::Http1(mut link) => link.shutdown().await,
            Protocol::Pingora(mut session) => drop(tokio::time::timeout(limits::GOODBYE, session.shutdown()).await),
        }
    }
}
