//! The connection that one exchange has with a replica.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1Session;
use pingora::{Error, ErrorType, OrErr};
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, timeout};

use super::exchange::{write_body, write_head};
use super::hooks::Edge;
use super::upstream_head::UpstreamHead;
use crate::upstream::{Endpoint, Upstream};

/// Bodies up to this size are copied behind their heads, in bytes.
const AT_ONCE: usize = 16 << 10;

/// A request in the form that a [`Link`] wants.
pub(super) enum LinkRequest {
    /// HTTP/1: a head, perhaps with the body, and the rest.
    Wire(Bytes, Bytes),
    Message(Box<RequestHeader>, Bytes),
}

/// A connection, and where it belongs.
pub(super) struct Link {
    endpoint: Arc<Endpoint>,
    state: State,
}

#[expect(clippy::large_enum_variant, reason = "a request has one, and a box would be one more allocation")]
enum State {
    /// HTTP/1, before the request.
    Stream(Stream),
    Session(HttpSession),
    /// While one becomes the other.
    Gone,
}

impl Link {
    /// An idle connection or a new one; says whether it was used before.
    pub(super) async fn open(
        edge: &Edge,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
    ) -> pingora::Result<(Self, bool)> {
        let link = |state| Self { endpoint: Arc::clone(endpoint), state };
        if upstream.settings().http2 {
            // Boxed, because a TLS handshake is large, and streams would carry room for it to their end.
            let (session, reused) = Box::pin(edge.upstreams.get_http_session(endpoint.peer())).await?;
            return Ok((link(State::Session(session)), reused));
        }
        if let Some(stream) = endpoint.take_idle() {
            return Ok((link(State::Stream(stream)), true));
        }
        let stream = Box::pin(edge.transport.new_stream(endpoint.peer())).await?;
        Ok((link(State::Stream(stream)), false))
    }

    /// The request in the form that this connection wants.
    pub(super) fn request(&self, head: UpstreamHead<'_>, body: &Bytes) -> pingora::Result<LinkRequest> {
        // Pingora's writer takes the head and the body for two packets; and only its session knows what is the end of an
        // answer to HEAD.
        match &self.state {
            State::Stream(_) if head.method() == Method::POST && body.len() <= AT_ONCE => {
                head.to_wire(body).map(|wire| LinkRequest::Wire(wire.freeze(), Bytes::new()))
            }
            State::Stream(_) if head.method() == Method::POST => {
                head.to_wire_head(body.len()).map(|wire| LinkRequest::Wire(wire.freeze(), body.clone()))
            }
            _ => head.to_header(body.len()).map(|head| LinkRequest::Message(Box::new(head), body.clone())),
        }
    }

    /// Sends a whole request. The head of its answer may be there even if this fails.
    pub(super) async fn send(&mut self, request: LinkRequest, limit: Duration) -> pingora::Result<()> {
        match (request, &mut self.state) {
            (LinkRequest::Wire(head, body), State::Stream(stream)) => {
                let written = timeout(limit, write(stream, &head, &body)).await;
                self.session();
                written.unwrap_or_else(|_| Err(Error::explain(ErrorType::WriteTimedout, "the upstream does not read")))
            }
            (LinkRequest::Message(head, body), _) => {
                let session = self.session();
                session.set_write_timeout(Some(limit));
                write_head(session, *head).await?;
                write_body(session, body).await
            }
            (LinkRequest::Wire(..), _) => {
                Err(Error::explain(ErrorType::InternalError, "the request is for another kind of connection"))
            }
        }
    }

    /// The exchange on the connection.
    pub(super) fn session(&mut self) -> &mut HttpSession {
        if let State::Stream(_) = &self.state
            && let State::Stream(stream) = std::mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Session(HttpSession::H1(Http1Session::new(stream)));
        }
        match &mut self.state {
            State::Session(session) => session,
            State::Stream(_) | State::Gone => unreachable!("a stream has become a session above"),
        }
    }

    /// After an exchange that is whole: the connection serves others, if the replica wants that.
    pub(super) async fn release(self, edge: &Edge) {
        match self.state {
            State::Session(HttpSession::H1(mut session)) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    self.endpoint.keep_idle(stream);
                }
            }
            State::Session(session) => {
                let peer = self.endpoint.peer();
                edge.upstreams.release_http_session(session, peer, peer.options.idle_timeout).await;
            }
            State::Stream(_) | State::Gone => {}
        }
    }

    /// Ends an exchange in the middle: the upstream sees its connection, or stream, closed.
    pub(super) async fn abandon(mut self) {
        // TLS says goodbye, which a peer that does not read could hold up.
        let _ = timeout(Duration::from_millis(500), self.session().shutdown()).await;
    }
}

async fn write(stream: &mut Stream, head: &[u8], body: &[u8]) -> pingora::Result<()> {
    let failed = "writing a request";
    stream.write_all(head).await.or_err(ErrorType::WriteError, failed)?;
    if !body.is_empty() {
        stream.write_all(body).await.or_err(ErrorType::WriteError, failed)?;
    }
    stream.flush().await.or_err(ErrorType::WriteError, failed)
}
