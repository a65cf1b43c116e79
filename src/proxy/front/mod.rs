//! The connections of clients. HTTP/1 is read here: requests of MCP routes are served at once, without Pingora's proxy,
//! whose state for each request costs more than all that the edge does with one. Heads that two readers could understand
//! differently are refused here. Everything else goes to Pingora untouched: HTTP/2, opaque routes, upgrades, and whatever is
//! no plain request.

pub(super) mod last_request;

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

use super::client::http1_connection::{Http1Connection, READ_BYTES};
use super::client::http1_session::{End, Http1Session};
use super::client::session::ClientSession;
use super::client::stream::Downstream;
use super::edge::Edge;
use super::opaque::hooks::Hooks;
use super::respond::Rejection;
use super::{admit, log, respond};
use crate::config::limits;
use crate::http1::{RequestHead, RequestParse};
use crate::metrics::RejectionReason;
use last_request::{Findings, LastRequest};

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
    /// A request that can be served here, and what followed from the same head before.
    Request(RequestHead, Option<Box<Findings>>),
    /// Something else.
    Other(Bytes),
    /// The connection's end, or too long a silence.
    End,
}

/// What became of a request.
enum Answered {
    /// Another one may come.
    GoesOn,
    /// Its connection ends.
    Ends,
    /// It has to be handed to Pingora's proxy. These are the bytes of its head.
    Opaque(Bytes),
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
            let raw = match next(&mut connection, ending.as_mut()).await {
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
            match self.hand_over(connection, &raw, shutdown).await {
                Some(stream) => connection = Http1Connection::new(stream),
                None => return,
            }
        }
    }

    /// Answers a request, unless only Pingora's proxy can; `last`: no other one is wanted on its connection.
    async fn answer(
        &self,
        connection: &mut Http1Connection,
        head: RequestHead,
        findings: Option<Box<Findings>>,
        last: bool,
    ) -> Answered {
        connection.stream.begin_request();
        let mut context = self.edge.begin();
        context.last_session = connection.last_session.take();
        let known = findings.filter(|known| known.generation == context.snapshot.generation).map(|findings| {
            let Findings { client, passed_on, asked, .. } = *findings;
            (context.repeats, context.passed_on, context.asked) = (true, passed_on, asked);
            client
        });
        let length = head.length;
        let mut session = ClientSession::Http1(Http1Session::new(connection, head));
        if last || length.is_err() {
            session.close_after();
        }
        let located = admit::locate(&self.edge, &mut session, &mut context, known);
        let located = match length {
            Ok(_) => located,
            Err(doubt) => Err(Rejection::new(RejectionReason::BadRequest, doubt)),
        };
        if located.as_ref().is_ok_and(|located| located.is_opaque)
            && let ClientSession::Http1(session) = session
        {
            return Answered::Opaque(session.into_head().raw);
        }
        let is_located = located.is_ok();
        let served = self.edge.serve(&mut session, &mut context, located).await;
        let goes_on = match &served {
            Ok(_) => true,
            Err(error) => respond::fail(&mut session, &mut context, error).await.can_reuse_downstream,
        };
        log::finish(&self.edge.metrics, &session, served.as_ref().err().map(|error| &**error), &mut context);
        let ClientSession::Http1(session) = session else { return Answered::Ends };
        let (end, goes_on) = (session.end(), goes_on && session.can_go_on());
        let idle = context.snapshot.config.limits.keepalive_timeout.0;
        let head = session.into_head();
        let (findings, last_session) = Findings::of(context);
        connection.last_session = last_session;
        if goes_on {
            connection.last = if is_located { LastRequest::new(head, findings) } else { None };
            connection.end_request(idle);
            return Answered::GoesOn;
        }
        match end {
            // TLS says goodbye, so that the client knows that nothing is missing.
            End::Whole => {
                let _ = tokio::time::timeout(limits::GOODBYE, connection.stream.shutdown()).await;
                if length.is_err() || !connection.input.is_empty() {
                    connection.linger().await;
                }
            }
            End::Broken => {}
            End::BrokenUnseen => connection.stream.reset(),
        }
        Answered::Ends
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
        let (stream, _) = reused.consume();
        let mut stream = stream.into_any().downcast::<Downstream>().ok()?;
        stream.end_request(self.edge.keepalive_timeout(), false);
        Some(stream)
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
            let last = connection.last.take();
            if let Some((head, findings)) = last.and_then(|last| last.repeated(&mut connection.input)) {
                return Next::Request(head, findings);
            }
            match RequestHead::parse(&mut connection.input) {
                RequestParse::Head(head) if head.length.is_ok() && head.header.headers.contains_key(UPGRADE) => {
                    return Next::Other(head.raw);
                }
                RequestParse::Head(head) => return Next::Request(head, None),
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
