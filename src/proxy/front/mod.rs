//! The connections of clients: who reads them, and what comes next on them.
//!
//! HTTP/1 is read here, and requests of MCP routes are served right away, without Pingora's proxy, whose state for each request
//! costs more than everything that the edge does with one. Heads that two readers could understand differently are refused
//! here. All other connections and requests go to Pingora unchanged: HTTP/2, opaque routes, upgrades, and what is not a plain
//! request.

mod last_request;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::UPGRADE;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Shutdown, Ssl, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use self::last_request::{Findings, LastRequest};
use super::client::downstream::Downstream;
use super::client::http1_connection::Http1Connection;
use super::client::http1_downstream::{End, Http1Downstream};
use super::client::stream::ClientStream;
use super::context::opened_session::LastOpened;
use super::context::rejection::Rejection;
use super::edge::Edge;
use super::opaque::hooks::Hooks;
use super::serve::serve;
use super::{admit, log, respond};
use crate::config::limits;
use crate::http1::{RequestHead, RequestParse};
use crate::metrics::RejectionReason;

/// Serves the connections of all listeners.
pub struct Front {
    edge: Arc<Edge>,
    pipeline: Arc<HttpProxy<Hooks>>,
    /// False: Pingora reads all HTTP/1.
    reads_http1: bool,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("edge", &self.edge).finish_non_exhaustive()
    }
}

/// A connection that the edge reads itself, with what its requests leave to each other.
struct ClientConnection {
    http1: Http1Connection,
    /// Set while the next request is awaited.
    last: Option<LastRequest>,
    /// The MCP session that was opened last.
    last_session: Option<Box<LastOpened>>,
}

impl ClientConnection {
    fn new(stream: Box<ClientStream>) -> Self {
        Self { http1: Http1Connection::new(stream), last: None, last_session: None }
    }
}

/// What comes next on a connection.
enum Next {
    /// A request that can be served here, and what followed from the same head before.
    Request(RequestHead, Option<Box<Findings>>),
    /// Something that Pingora has to read. These bytes were taken out of the input.
    Other(Bytes),
    /// The connection has ended, or was silent for too long.
    End,
}

/// What happens with a connection after a request.
enum Answered {
    /// Another request may come.
    GoesOn,
    /// The connection closes.
    Ends,
    /// The request has to go to Pingora's proxy. These are the bytes of its head.
    Opaque(Bytes),
}

impl Front {
    /// `pipeline` has the hooks of the same `edge`. Without `reads_http1` it serves everything: so tests compare the two ways.
    pub fn new(edge: Arc<Edge>, pipeline: Arc<HttpProxy<Hooks>>, reads_http1: bool) -> Self {
        Self { edge, pipeline, reads_http1 }
    }

    /// Serves the requests of a connection one after the other. `stopping`: the edge stops, and wants no more requests.
    async fn serve(&self, stream: Box<ClientStream>, shutdown: &ShutdownWatch, mut stopping: Pin<&mut impl Future>) {
        let mut connection = ClientConnection::new(stream);
        loop {
            let raw = match next(&mut connection, stopping.as_mut()).await {
                Next::End => return,
                Next::Other(raw) => raw,
                Next::Request(head, findings) => {
                    let last = *shutdown.borrow();
                    match self.answer(&mut connection, head, findings, last).await {
                        Answered::GoesOn => continue,
                        Answered::Ends => return,
                        Answered::Opaque(raw) => raw,
                    }
                }
            };
            match self.hand_over(connection.http1, &raw, shutdown).await {
                Some(stream) => connection = ClientConnection::new(stream),
                None => return,
            }
        }
    }

    /// Answers a request, unless only Pingora's proxy can. `last`: the connection closes after it.
    async fn answer(
        &self,
        connection: &mut ClientConnection,
        head: RequestHead,
        findings: Option<Box<Findings>>,
        last: bool,
    ) -> Answered {
        connection.http1.stream.begin_request();
        let mut context = self.edge.begin();
        context.memo.last_session = connection.last_session.take();
        let known = findings.filter(|known| known.generation == context.snapshot.generation).map(|findings| {
            let Findings { client, client_fields, cached_lookup, .. } = *findings;
            (context.memo.repeats, context.memo.client_fields, context.memo.cached_lookup) =
                (true, client_fields, cached_lookup);
            client
        });
        let length = head.length;
        let mut downstream = Downstream::Http1(Http1Downstream::new(&mut connection.http1, head));
        if last || length.is_err() {
            downstream.close_after();
        }
        let located = admit::locate(&self.edge, &mut downstream, &mut context, known);
        let located = match length {
            Ok(_) => located,
            Err(reason) => Err(Rejection::new(RejectionReason::BadRequest, reason)),
        };
        if located.as_ref().is_ok_and(|located| located.is_opaque)
            && let Downstream::Http1(request) = downstream
        {
            return Answered::Opaque(request.into_head().raw);
        }
        let is_located = located.is_ok();
        let served = serve(&self.edge, &mut downstream, &mut context, located).await;
        let goes_on = match &served {
            Ok(_) => true,
            Err(error) => {
                let (_, can_go_on) = respond::fail(&mut downstream, &mut context, error).await;
                can_go_on
            }
        };
        log::finish(&self.edge.metrics, &downstream, served.as_ref().err().map(|error| &**error), &mut context);
        let Downstream::Http1(request) = downstream else { return Answered::Ends };
        let (end, goes_on) = (request.end(), goes_on && request.can_go_on());
        let idle = context.snapshot.config.limits.keepalive_timeout.0;
        let head = request.into_head();
        let (findings, last_session) = Findings::of(context);
        connection.last_session = last_session;
        if goes_on {
            connection.last = if is_located { LastRequest::new(head, findings) } else { None };
            connection.http1.end_request(idle);
            return Answered::GoesOn;
        }
        let http1 = &mut connection.http1;
        match end {
            // TLS sends a closing message, so that the client knows that nothing is missing.
            End::Whole => {
                let _ = tokio::time::timeout(limits::GOODBYE, http1.stream.shutdown()).await;
                if length.is_err() || !http1.input.is_empty() {
                    http1.linger().await;
                }
            }
            End::Broken => {}
            End::BrokenUnseen => http1.stream.reset(),
        }
        Answered::Ends
    }

    /// Lets Pingora's proxy serve the request that begins with `raw`. Gives the connection back if it can serve another one.
    async fn hand_over(
        &self,
        connection: Http1Connection,
        raw: &[u8],
        shutdown: &ShutdownWatch,
    ) -> Option<Box<ClientStream>> {
        let Http1Connection { mut stream, input, .. } = connection;
        stream.unread(&[raw, &input]);
        if ClientStream::begins_http2(raw, &input) && stream.get_ssl_digest().is_none() {
            self.pipeline.process_new(stream, shutdown).await;
            return None;
        }
        drop(input);
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive((!*shutdown.borrow()).then_some(self.edge.keepalive_timeout().as_secs().max(1)));
        let reused = self.pipeline.process_new_http(session, shutdown).await?;
        let (stream, _) = reused.consume();
        let mut stream = stream.into_any().downcast::<ClientStream>().ok()?;
        stream.end_request(self.edge.keepalive_timeout(), false);
        Some(stream)
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        if is_http2 || !self.reads_http1 || !stream.as_any().is::<ClientStream>() {
            return self.pipeline.process_new(stream, shutdown).await;
        }
        let stream = stream.into_any().downcast::<ClientStream>().ok()?;
        let mut watched = shutdown.clone();
        let stopping = std::pin::pin!(async move { watched.wait_for(|stops| *stops).await.map(drop) });
        self.serve(stream, shutdown, stopping).await;
        None
    }
}

/// Reads the next request.
async fn next(connection: &mut ClientConnection, mut stopping: Pin<&mut impl Future>) -> Next {
    let ClientConnection { http1, last, .. } = connection;
    loop {
        if !http1.input.is_empty() {
            if let Some((head, findings)) = last.take().and_then(|last| last.repeated(&mut http1.input)) {
                return Next::Request(head, findings);
            }
            match RequestHead::parse(&mut http1.input) {
                RequestParse::Head(head) if head.length.is_ok() && head.header.headers.contains_key(UPGRADE) => {
                    return Next::Other(head.raw);
                }
                RequestParse::Head(head) => return Next::Request(head, None),
                RequestParse::Partial if http1.input.len() < limits::PLAIN_HEAD_BYTES => {}
                RequestParse::Partial | RequestParse::Other => return Next::Other(Bytes::new()),
            }
        }
        let is_idle = http1.input.is_empty();
        let read = tokio::select! {
            biased;
            read = http1.fill(limits::READ_BYTES) => read,
            // A client that has begun to send a request is served.
            _ = stopping.as_mut(), if is_idle => return Next::End,
        };
        if !matches!(read, Ok(1..)) {
            return Next::End;
        }
    }
}
