//! One HTTP/2 request to a replica and its answer, on a stream of a connection that Pingora makes and keeps.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::Reason;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};
use tokio::time::Instant;

use crate::proxy::h2_body::H2Body;

/// An exchange with a replica.
pub(crate) struct Http2Link {
    /// There until the link is dropped.
    session: Option<Box<Http2Session>>,
    /// From which the connection was made.
    peer: Arc<HttpPeer>,
    /// Keeps the connection.
    connector: Arc<Connector>,
    /// There once the head of the request was sent.
    body: Option<H2Body>,
}

impl Http2Link {
    /// On a stream that is not in use, of a connection that `connector` has made from `peer`.
    pub(crate) fn new(session: Box<Http2Session>, peer: Arc<HttpPeer>, connector: Arc<Connector>) -> Self {
        Self { session: Some(session), peer, connector, body: None }
    }

    fn session(&mut self) -> &mut Http2Session {
        // Only `drop` takes it.
        self.session.as_mut().expect("a link that is in use has its stream")
    }

    /// From which the connection was made.
    pub(crate) fn peer(&self) -> &Arc<HttpPeer> {
        &self.peer
    }

    /// Sends the head of a request. `ends`: it has no body.
    pub(crate) fn begin(&mut self, mut head: RequestHeader, ends: bool) -> pingora::Result<()> {
        let is_tls = self.session().digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let scheme = if is_tls { "https" } else { "http" };
        let host = head.remove_header(&HOST).unwrap_or(HeaderValue::from_static(""));
        let target = String::from_utf8_lossy(head.raw_path()).into_owned();
        let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
        head.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "the target cannot be written in HTTP/2")?);
        head.set_version(Version::HTTP_2);
        self.session().write_request_header(Box::new(head), ends)?;
        self.body = self.session().take_request_body_writer().map(|stream| H2Body::new(stream, ends));
        Ok(())
    }

    /// Queues a piece of the request's body. `end`: it is the last one.
    pub(crate) fn queue(&mut self, piece: Bytes, end: bool) {
        if let Some(body) = &mut self.body {
            body.queue(piece, end);
        }
    }

    /// Since when the replica does not read.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.body.as_ref().and_then(H2Body::stalled_since)
    }

    /// Sends what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        Poll::Ready(ready!(body.poll_flush(cx)).or_err(ErrorType::WriteError, "writing a request"))
    }

    /// Reads the head of the answer. Informational answers are not shown by `h2`.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Box<ResponseHeader>>> {
        ready!(pin!(self.session().read_response_header()).poll(cx))?;
        let head = self.session().response_header().cloned().map(Box::new);
        Poll::Ready(head.ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "there is no response head")))
    }

    /// The next piece of the answer's body. `None`: it has ended.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<pingora::Result<Option<Bytes>>> {
        pin!(self.session().read_response_body()).poll(cx)
    }

    /// The trailers behind the answer's body.
    pub(crate) async fn read_trailers(&mut self) -> pingora::Result<Option<HeaderMap>> {
        self.session().read_trailers().await
    }

    /// Resets the stream.
    pub(crate) fn shutdown(&mut self) {
        if let Some(body) = &mut self.body {
            body.reset(Reason::CANCEL);
        }
    }
}

/// The connector counts the streams of a connection. It has to hear of each one that has ended, however it has: else it would keep the
/// connection in use for ever.
impl Drop for Http2Link {
    fn drop(&mut self) {
        drop(self.body.take());
        if let Some(session) = self.session.take() {
            let idle = self.peer.options.idle_timeout;
            let released = self.connector.release_http_session(HttpSession::H2(*session), &*self.peer, idle);
            // With HTTP/2 there is nothing to wait for.
            let _ = released.now_or_never();
        }
    }
}

/// The error of HTTP/2 behind `error`, if the replica has caused it.
fn h2_error(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref::<h2::Error>().filter(|cause| cause.is_remote())
}

/// True when the replica says that it has not processed the request: it has refused the stream, or its GOAWAY names an
/// earlier one as the last (RFC 9113 section 8.7). Such a request may be repeated, whatever its method.
pub(crate) fn was_not_processed(error: &Error) -> bool {
    h2_error(error).is_some_and(|cause| cause.is_go_away() || cause.reason() == Some(Reason::REFUSED_STREAM))
}
