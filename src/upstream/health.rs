//! Active health checks. Pingora counts successes and failures and compares them with the thresholds. This file decides
//! whether one probe succeeded.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, StatusCode};
use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;

use super::balance::Table;
use super::discovery::Origin;
use super::peer::PeerTemplate;
use crate::config;
use crate::config::{Probe, Revision};
use crate::mcp::{ProbeAnswer, probe_headers, probe_request};
use crate::types::Secret;

/// The connectors that send probes. All upstreams share them, because each connector loads the system's certificate
/// authorities.
pub struct ProbeClient {
    http: Connector,
    transport: TransportConnector,
}

impl Default for ProbeClient {
    fn default() -> Self {
        Self { http: Connector::new(None), transport: TransportConnector::new(None) }
    }
}

/// The health check of one upstream.
pub(super) struct HealthProbe {
    pub(super) upstream: Arc<config::Upstream>,
    pub(super) health: config::Health,
    pub(super) template: Arc<PeerTemplate>,
    pub(super) table: Arc<ArcSwap<Table>>,
    pub(super) client: Arc<ProbeClient>,
}

impl HealthProbe {
    async fn probe(&self, peer: &HttpPeer, authority: &str) -> Result<()> {
        match &self.health.probe {
            Probe::Tcp => self.client.transport.new_stream(peer).await.map(drop),
            Probe::Http { method, path, status, headers, token } => {
                let mut request = request(method, path, authority, token.as_ref())?;
                for (name, value) in headers {
                    request.insert_header(name.clone(), value.clone())?;
                }
                let mut session = self.send(peer, request, None).await?;
                let head = head(&mut session)?;
                expect(status.map_or(head.status.is_success(), |status| head.status == status), head.status)
            }
            Probe::Mcp { path, revision, token } => {
                self.probe_mcp(peer, authority, path, *revision, token.as_ref()).await
            }
        }
    }

    async fn probe_mcp(
        &self,
        peer: &HttpPeer,
        authority: &str,
        path: &str,
        revision: Revision,
        token: Option<&Secret>,
    ) -> Result<()> {
        let mut post = request(&Method::POST, path, authority, token)?;
        let body = probe_request(revision);
        post.insert_header(CONTENT_TYPE, "application/json")?;
        post.insert_header(ACCEPT, "application/json, text/event-stream")?;
        post.insert_header(CONTENT_LENGTH, body.len())?;
        for (name, value) in probe_headers(revision) {
            post.insert_header(name, value)?;
        }
        let mut session = self.send(peer, post, Some(body.into())).await?;
        let head = head(&mut session)?;
        let status = head.status;
        let content_type = text(head, CONTENT_TYPE.as_str());
        let session_id = head.headers.get("mcp-session-id").cloned();
        let healthy = status == StatusCode::OK && answer(&mut session, &content_type).await?;
        if let Some(id) = session_id {
            // A probe must not leave MCP sessions behind. A server that does not end the session still counts as
            // healthy.
            let mut delete = request(&Method::DELETE, path, authority, token)?;
            delete.insert_header("mcp-session-id", id)?;
            if let Err(error) = self.send(peer, delete, None).await {
                log::debug!("upstream {}: the MCP session of a probe was not ended: {error}", self.upstream.name);
            }
        }
        expect(healthy, status)
    }

    /// Sends a request and reads the head of the response.
    async fn send(&self, peer: &HttpPeer, request: RequestHeader, body: Option<Bytes>) -> Result<HttpSession> {
        let (mut session, _reused) = self.client.http.get_http_session(peer).await?;
        session.write_request_header(Box::new(request)).await?;
        if let Some(body) = body {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        session.read_response_header().await?;
        Ok(session)
    }
}

fn request(method: &Method, path: &str, authority: &str, token: Option<&Secret>) -> Result<RequestHeader> {
    let mut request = RequestHeader::build(method.clone(), path.as_bytes(), None)?;
    request.insert_header(HOST, authority)?;
    request.insert_header(USER_AGENT, concat!("mcp-edge/", env!("CARGO_PKG_VERSION"), " health"))?;
    if let Some(token) = token {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
            .map_err(|_| Error::explain(ErrorType::InternalError, "the probe's token is not a valid header value"))?;
        value.set_sensitive(true);
        request.insert_header(AUTHORIZATION, value)?;
    }
    Ok(request)
}

fn head(session: &mut HttpSession) -> Result<&ResponseHeader> {
    session.response_header().ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "the response has no head"))
}

fn text(head: &ResponseHeader, name: &str) -> String {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn expect(as_expected: bool, status: StatusCode) -> Result<()> {
    if as_expected {
        Ok(())
    } else {
        Error::e_explain(ErrorType::new("UnexpectedAnswer"), format!("unexpected answer with status {status}"))
    }
}

/// Reads the body until it shows whether the server is healthy.
async fn answer(session: &mut HttpSession, content_type: &str) -> Result<bool> {
    let mut answer = ProbeAnswer::new(content_type);
    while let Some(piece) = session.read_response_body().await? {
        if let Some(healthy) = answer.push(&piece) {
            return Ok(healthy);
        }
    }
    Ok(answer.finish())
}

#[async_trait]
impl HealthCheck for HealthProbe {
    async fn check(&self, target: &Backend) -> Result<()> {
        let (Some(address), Some(Origin(origin))) = (target.addr.as_inet(), target.ext.get::<Origin>()) else {
            return Error::e_explain(ErrorType::InternalError, "the target of a probe has no address");
        };
        // A random delay spreads the probes. Without it, replicas that started together would always be probed at the
        // same time, and edges that started together would always probe at the same time.
        let jitter = self.health.interval.as_millis() as u64 / 10;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..=jitter))).await;
        let peer = self.template.peer(*address, &origin.host);
        let authority = match self.upstream.probe_host.as_ref().and_then(|host| host.to_str().ok()) {
            Some(host) => host.to_owned(),
            None => origin.authority(self.upstream.tls.is_some()),
        };
        match tokio::time::timeout(self.health.timeout, self.probe(&peer, &authority)).await {
            Ok(outcome) => outcome,
            Err(_) => Error::e_explain(ErrorType::ReadTimedout, "the probe took too long"),
        }
    }

    async fn health_status_change(&self, target: &Backend, healthy: bool) {
        let table = self.table.load();
        let endpoint = table.endpoints().iter().find(|endpoint| target.addr.as_inet() == Some(&endpoint.address()));
        if let Some(endpoint) = endpoint {
            endpoint.set_healthy(healthy);
        }
    }

    fn backend_summary(&self, target: &Backend) -> String {
        format!("upstream {}: endpoint {}", self.upstream.name, target.addr)
    }

    fn health_threshold(&self, success: bool) -> usize {
        if success { self.health.healthy } else { self.health.unhealthy }
    }
}
