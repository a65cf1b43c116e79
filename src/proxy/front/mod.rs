//! The connections of clients: who reads them, and what comes next on them.
//!
//! HTTP/1 is read here, every head by one strict reader: what two servers could understand differently is refused. HTTP/2 is
//! Pingora's, which calls back with each request. Behind both, all requests take the same way (`serve`).

mod connection;
mod last_request;
mod next;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::{ALPN, Shutdown, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use self::connection::ClientConnection;
use self::last_request::{Findings, LastRequest};
use self::next::{Next, next};
use super::client::downstream::Downstream;
use super::client::http1_connection::Http1Connection;
use super::client::http1_downstream::{End, Http1Downstream};
use super::client::stream::ClientStream;
use super::context::rejection::Rejection;
use super::context::{Memo, RequestContext};
use super::edge::Edge;
use super::hooks::Hooks;
use super::serve::{refuse, serve};
use crate::config::limits;
use crate::http1::RequestHead;

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

impl Front {
    /// `pipeline` has the hooks of the same `edge`. Without `reads_http1` it serves everything: so tests compare the two ways.
    pub fn new(edge: Arc<Edge>, pipeline: Arc<HttpProxy<Hooks>>, reads_http1: bool) -> Self {
        Self { edge, pipeline, reads_http1 }
    }

    /// Serves the requests of a connection one after the other. `stopping`: the edge stops, and wants no more requests.
    async fn serve(&self, stream: Box<ClientStream>, shutdown: &ShutdownWatch, mut stopping: Pin<&mut impl Future>) {
        let http1 = Http1Connection::new(stream, shutdown.clone());
        let mut connection = ClientConnection { http1, is_new: true, last: None, last_session: None };
        loop {
            let goes_on = match next(&self.edge, &mut connection, stopping.as_mut()).await {
                Next::End => false,
                // Boxed, so that a connection that waits has no room for a request.
                Next::Request(head, findings) => boxed(|| self.answer(&mut connection, head, findings)).await,
                Next::Refused(rejection) => Box::pin(self.refuse(&mut connection, rejection)).await,
                Next::Http2 => {
                    let Http1Connection { mut stream, input, .. } = connection.http1;
                    stream.unread(&input);
                    self.pipeline.process_new(stream, shutdown).await;
                    return;
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Answers a request. False: the connection has ended.
    async fn answer(
        &self,
        connection: &mut ClientConnection,
        head: RequestHead,
        findings: Option<Box<Findings>>,
    ) -> bool {
        let mut context = self.edge.begin();
        context.memo.last_session = connection.last_session.take();
        let known = findings.filter(|known| known.generation == context.snapshot.generation).map(|findings| {
            let Findings { client, client_fields, cached_lookup, is_plain, .. } = *findings;
            let last_session = context.memo.last_session.take();
            context.memo = Memo { repeats: true, is_plain, client_fields, cached_lookup, last_session };
            client
        });
        let mut downstream = self.begin(connection, &context, head);
        let served = serve(&self.edge, &mut downstream, &mut context, known).await;
        let Some(request) = downstream.into_http1() else { return false };
        let (end, is_read) = (request.end(), request.is_body_done());
        let goes_on = served.broken.is_none() && request.can_go_on();
        let idle = context.snapshot.config.limits.keepalive_timeout.0;
        let head = request.into_head();
        let (findings, last_session) = Findings::of(context);
        connection.last_session = last_session;
        if goes_on {
            connection.last = if served.is_located { LastRequest::new(head, findings) } else { None };
            connection.http1.end_request(idle);
            return true;
        }
        finish(&mut connection.http1, end, is_read && head.length.is_ok()).await;
        false
    }

    /// Answers something whose head cannot be read. The connection ends.
    async fn refuse(&self, connection: &mut ClientConnection, rejection: Rejection) -> bool {
        let mut context = self.edge.begin();
        let head = RequestHead::unread(&connection.http1.input);
        let mut downstream = self.begin(connection, &context, head);
        refuse(&self.edge, &mut downstream, &mut context, rejection).await;
        let Some(request) = downstream.into_http1() else { return false };
        let end = request.end();
        finish(&mut connection.http1, end, false).await;
        false
    }

    fn begin<'c>(
        &self,
        connection: &'c mut ClientConnection,
        context: &RequestContext,
        head: RequestHead,
    ) -> Downstream<'c> {
        connection.http1.stream.begin_request();
        let write_timeout = context.snapshot.config.limits.write_timeout.0;
        Downstream::of_http1(Http1Downstream::new(&mut connection.http1, head), write_timeout)
    }
}

/// A future on the heap. `Box::pin` would make it on the stack first and copy it, which costs more than the rest of a call's way
/// through this file.
fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

/// Ends a connection after its last answer. `is_read`: the client has nothing more to say, as far as that is known.
async fn finish(connection: &mut Http1Connection, end: End, is_read: bool) {
    match end {
        End::Whole => {
            let lingers = !is_read || !connection.input.is_empty();
            // TLS sends a closing message, so that the client knows that nothing is missing.
            if lingers || connection.tls.is_some() {
                let _ = tokio::time::timeout(limits::GOODBYE, connection.stream.shutdown()).await;
            }
            if lingers {
                connection.linger().await;
            }
        }
        End::Broken => {}
        End::BrokenUnseen => connection.stream.reset(),
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
