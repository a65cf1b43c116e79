//! Pingora's hooks: the way in for HTTP/2. One hook does everything, and the proxy pipeline behind it stays unused.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::client::downstream::Downstream;
use super::client::stream::ClientStream;
use super::edge::Edge;
use super::serve::serve;

/// Puts an edge into Pingora's proxy.
#[derive(Debug)]
pub struct Hooks(pub Arc<Edge>);

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = ();

    fn new_ctx(&self) {}

    /// No modules: compression would hold streams back.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Finds the route of the request, decides on it, and exchanges it with its upstream.
    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        ClientStream::head_is_read(session);
        let mut context = self.0.begin();
        let limits = &context.snapshot.config.limits;
        let (write, keepalive) = (limits.write_timeout.0, limits.keepalive_timeout.0);
        let mut downstream = Downstream::of_pingora(session, write, keepalive)?;
        let served = serve(&self.0, &mut downstream, &mut context, None).await;
        ClientStream::next_request(session);
        match served.broken {
            Some(error) => Err(error),
            None => Ok(true),
        }
    }

    /// Is not called: `request_filter` answers every request.
    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "the request was not answered")
    }

    /// The client knows already. Its connection ends.
    async fn fail_to_proxy(&self, _: &mut Session, _: &Error, (): &mut ()) -> FailToProxy {
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    /// No error lines of Pingora: the access line says the same, escaped and with the request's id.
    fn suppress_error_log(&self, _: &Session, (): &(), _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, (): &()) -> String {
        "a request".to_owned()
    }
}
