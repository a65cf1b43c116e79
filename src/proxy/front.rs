//! The connections of clients. HTTP/1 is read here: requests of MCP routes are served at once, without Pingora's proxy,
//! whose state for each request costs more than all that the edge does with one. Everything else goes to it untouched: HTTP/2,
//! opaque routes, upgrades, and whatever is no plain request, so that there is one way to refuse it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::UPGRADE;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Shutdown, Ssl, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use super::client_session::ClientSession;
use super::downstream::Downstream;
use super::edge::Edge;
use super::hooks::Hooks;
use super::http1_session::{Http1Connection, Http1Session, READ_BYTES};
use super::{log, reject, request};
use crate::config::limits;
use crate::http1::{BodyLength, RequestParse, parse_request};

/// Serves the connections of all listeners.
pub struct Front {
    edge: Arc<Edge>,
    pipeline: Arc<HttpProxy<Hooks>>,
    /// Whether requests of MCP routes are read here at all.
    reads_http1: bool,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("edge", &self.edge).finish_non_exhaustive()
    }
}

/// What comes next on a connection.
enum Next {
    /// A request that can be served here, and the bytes of its head.
    Request(Box<RequestHeader>, BodyLength, Bytes),
    /// Something else.
    Other(Bytes),
    /// The connection's end, or too long a silence.
    End,
}

impl Front {
    /// Serves with `edge`, and through `pipeline`, which has the hooks of the same edge. Without `reads_http1` the pipeline
    /// serves everything: so tests hold both ways against each other.
    pub fn new(edge: Arc<Edge>, pipeline: Arc<HttpProxy<Hooks>>, reads_http1: bool) -> Self {
        Self { edge, pipeline, reads_http1 }
    }

    /// Serves requests one after the other. `ending`: no more are wanted.
    async fn serve(&self, stream: Box<Downstream>, shutdown: &ShutdownWatch, mut ending: Pin<&mut impl Future>) {
        let mut connection = Http1Connection::new(stream);
        loop {
            let (head, length, raw) = match next(&mut connection, ending.as_mut()).await {
                Next::End => return,
                Next::Request(head, length, raw) => (head, length, raw),
                Next::Other(raw) => match self.hand_over(connection, &raw, shutdown).await {
                    Some(stream) => {
                        connection = Http1Connection::new(stream);
                        continue;
                    }
                    None => return,
                },
            };
            connection.stream.begin_request();
            let mut context = self.edge.begin();
            context.last_session = connection.last_session.take();
            let mut session = ClientSession::Http1(Http1Session::new(&mut connection, head, length));
            if *shutdown.borrow() {
                session.close_after();
            }
            let located = request::locate(&self.edge, &mut session, &mut context);
            if located.as_ref().is_ok_and(request::Located::is_opaque) {
                drop((session, context));
                match self.hand_over(connection, &raw, shutdown).await {
                    Some(stream) => connection = Http1Connection::new(stream),
                    None => return,
                }
                continue;
            }
            let served = self.edge.serve(&mut session, &mut context, located).await;
            let goes_on = match &served {
                Ok(_) => true,
                Err(error) => reject::fail(&mut session, &mut context, error).await.can_reuse_downstream,
            };
            log::finish(&self.edge.metrics, &session, served.as_ref().err().map(|error| &**error), &mut context);
            let ClientSession::Http1(session) = session else { return };
            let (whole, goes_on) = (session.is_whole(), goes_on && session.can_go_on());
            let idle = context.snapshot.config.limits.keepalive_timeout.0;
            connection.last_session = context.last_session.take();
            drop(context);
            if !goes_on {
                if whole {
                    // TLS says goodbye, so that the client knows that nothing is missing.
                    let _ = tokio::time::timeout(limits::GOODBYE, connection.stream.shutdown()).await;
                }
                return;
            }
            connection.end_request(idle);
        }
    }

    /// Lets Pingora's proxy serve what begins with `raw`. Gives the connection back if it can serve another request.
    async fn hand_over(
        &self,
        connection: Http1Connection,
        raw: &[u8],
        shutdown: &ShutdownWatch,
    ) -> Option<Box<Downstream>> {
        let Http1Connection { mut stream, input, .. } = connection;
        stream.unread(&[raw, &input]);
        if Downstream::begins_http2(raw, &input) && stream.get_ssl_digest().is_none() {
            self.pipeline.process_new(stream, shutdown).await;
            return None;
        }
        drop(input);
        let mut session = ServerSession::new_http1(stream);
        // Set to what the configuration says as soon as the request is read.
        session.set_keepalive((!*shutdown.borrow()).then_some(60));
        let reused = self.pipeline.process_new_http(session, shutdown).await?;
        let (stream, settings) = reused.consume();
        drop(settings);
        let mut stream = stream.into_any().downcast::<Downstream>().ok()?;
        stream.end_request(self.idle_limit());
        Some(stream)
    }

    fn idle_limit(&self) -> Duration {
        self.edge.begin().snapshot.config.limits.keepalive_timeout.0
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        if is_http2 || !self.reads_http1 || !stream.as_any().is::<Downstream>() {
            return self.pipeline.process_new(stream, shutdown).await;
        }
        let stream = stream.into_any().downcast::<Downstream>().ok()?;
        let mut ending = shutdown.clone();
        let ending = std::pin::pin!(async move { ending.wait_for(|ending| *ending).await.map(drop) });
        self.serve(stream, shutdown, ending).await;
        None
    }
}

/// Reads the next request.
async fn next(connection: &mut Http1Connection, mut ending: Pin<&mut impl Future>) -> Next {
    loop {
        if !connection.input.is_empty() {
            match parse_request(&mut connection.input) {
                RequestParse::Head(head, raw) => {
                    let length = BodyLength::of_request(head.version, &head.headers);
                    let length = length.filter(|_| !head.headers.contains_key(UPGRADE));
                    return length.map_or(Next::Other(raw.clone()), |length| Next::Request(head, length, raw));
                }
                RequestParse::Partial if connection.input.len() < limits::PLAIN_HEAD_BYTES => {}
                RequestParse::Partial | RequestParse::Other => return Next::Other(Bytes::new()),
            }
        }
        let is_idle = connection.input.is_empty();
        let read = tokio::select! {
            biased;
            read = connection.fill(READ_BYTES) => read,
            // Who has begun to ask is served.
            _ = ending.as_mut(), if is_idle => return Next::End,
        };
        if !matches!(read, Ok(1..)) {
            return Next::End;
        }
    }
}
