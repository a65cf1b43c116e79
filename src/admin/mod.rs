//! The admin listener: `/livez`, `/readyz`, `/metrics`, `/status`, `/catalog`, `/jwks.json`, `POST /reload`, `POST /auth/purge`,
//! `POST /catalog/accept`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use log::info;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::json;

use crate::auth::{TokenCache, TooManyRefusals, UpstreamTokens};
use crate::config::limits;
use crate::metrics::Metrics;
use crate::proxy::{Catalog, UnknownTool};
use crate::types::{Authority, Secret};

mod accept;
mod control;
mod jwks;
mod purge;
mod status;

pub use control::Control;

/// Answers requests of operators and their tools.
pub struct Admin {
    /// The edge.
    pub control: Arc<dyn Control>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The token cache, whose size is a metric.
    pub cache: Arc<TokenCache>,
    /// The tokens that the edge sends to upstreams. A purge removes them, too.
    pub upstream_tokens: Arc<UpstreamTokens>,
    /// What gateways have seen of their servers.
    pub catalog: Arc<Catalog>,
    /// Turns false when the edge drains.
    pub ready: Arc<AtomicBool>,
    /// The bearer token that requests must send to change something.
    pub token: Option<Secret>,
    /// Only this machine can reach the listener.
    pub on_loopback: bool,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const KEY_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

impl Admin {
    async fn answer(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let header = session.req_header();
        let (method, path, headers) = (header.method.clone(), header.uri.path().to_owned(), header.headers.clone());
        let (method, path) = (&method, path.as_str());
        let reads = method == Method::GET || method == Method::HEAD;
        if self.on_loopback && !names_loopback(&headers) {
            let message = "this listener is on loopback and answers to loopback hosts only, such as `localhost`\n";
            return respond(StatusCode::MISDIRECTED_REQUEST, TEXT, message);
        }
        match path {
            "/livez" if reads => respond(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if reads && self.ready.load(Ordering::Relaxed) => respond(StatusCode::OK, TEXT, "ready\n"),
            "/readyz" if reads => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
            "/metrics" if reads => self.metrics(),
            "/status" if reads => {
                let body = format!("{:#}\n", status::status(&*self.control, &self.catalog));
                respond(StatusCode::OK, JSON, body)
            }
            "/catalog" if reads => respond(StatusCode::OK, JSON, format!("{:#}\n", self.catalog.to_json())),
            "/jwks.json" if reads => {
                let body = format!("{:#}\n", jwks::key_set(&self.control.snapshot().config));
                respond(StatusCode::OK, KEY_SET, body)
            }
            "/reload" | "/auth/purge" | "/catalog/accept" if method != Method::POST => not_allowed("POST"),
            "/reload" | "/auth/purge" | "/catalog/accept" => match self.refusal(&headers) {
                Some(refusal) => refusal,
                None if path == "/reload" => self.reload().await,
                None => match body_of(session).await {
                    Ok(body) if path == "/auth/purge" => self.purge(&body).await,
                    Ok(body) => self.accept(&body),
                    Err(refusal) => refusal,
                },
            },
            "/livez" | "/readyz" | "/metrics" | "/status" | "/catalog" | "/jwks.json" => not_allowed("GET, HEAD"),
            _ => {
                let paths = "/livez, /readyz, /metrics, /status, /catalog, /jwks.json, POST /reload, POST /auth/purge or POST /catalog/accept";
                respond(StatusCode::NOT_FOUND, TEXT, format!("not found: use {paths}\n"))
            }
        }
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        self.metrics.auth_cache_entries.set(self.cache.entries() as i64);
        match self.metrics.render() {
            Ok(text) => respond(StatusCode::OK, EXPOSITION, text),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }

    /// Checks a request that would change something. Returns the rejection when the request is not allowed.
    fn refusal(&self, headers: &HeaderMap) -> Option<Response<Vec<u8>>> {
        // A web page in an operator's browser must not be able to do this. Tools of operators do not send `Origin`.
        if headers.contains_key(ORIGIN) {
            return Some(respond(
                StatusCode::FORBIDDEN,
                TEXT,
                "requests from web pages (with an `Origin` header) are refused\n",
            ));
        }
        let message = "send the token of `admin.token` as `Authorization: Bearer TOKEN`\n";
        (!self.may_write(headers)).then(|| respond(StatusCode::UNAUTHORIZED, TEXT, message))
    }

    async fn purge(&self, body: &[u8]) -> Response<Vec<u8>> {
        let (revocation, refuse_for) = match purge::read(body) {
            Ok(read) => read,
            Err(error) => return respond(StatusCode::BAD_REQUEST, TEXT, error + "\n"),
        };
        match self.cache.purge(revocation.clone(), refuse_for).await {
            Ok(purged) => {
                self.upstream_tokens.purge(&revocation).await;
                info!("{purged} cached credentials were purged");
                respond(StatusCode::OK, JSON, json!({"purged": purged}).to_string() + "\n")
            }
            Err(TooManyRefusals) => {
                let message = "too many purges with `refuse_for` are active: purge without it, or restart the edge\n";
                respond(StatusCode::CONFLICT, TEXT, message)
            }
        }
    }

    fn accept(&self, body: &[u8]) -> Response<Vec<u8>> {
        let accepted = match accept::read(body) {
            Ok(accepted) => accepted,
            Err(message) => return respond(StatusCode::BAD_REQUEST, TEXT, format!("{message}\n")),
        };
        match self.catalog.accept(&accepted.route, accepted.tool.as_deref()) {
            Ok(count) => {
                info!("{count} changed definitions of tools of the route {} were accepted", accepted.route);
                respond(StatusCode::OK, JSON, json!({"accepted": count}).to_string() + "\n")
            }
            Err(UnknownTool) => {
                let message = "no gateway has seen this route, or this tool of it: `/catalog` shows all of them\n";
                respond(StatusCode::NOT_FOUND, TEXT, message)
            }
        }
    }

    async fn reload(&self) -> Response<Vec<u8>> {
        match self.control.reload().await {
            Ok(generation) => {
                respond(StatusCode::OK, JSON, json!({"result": "success", "generation": generation}).to_string() + "\n")
            }
            Err(errors) => {
                let errors: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
                respond(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    JSON,
                    json!({"result": "failure", "errors": errors}).to_string() + "\n",
                )
            }
        }
    }

    fn may_write(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        // Digests are compared, so that the time of the comparison reveals nothing about the token.
        let digest = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);
        shown.is_some_and(|shown| digest(shown).as_ref() == digest(token.expose()).as_ref())
    }
}

/// The body of a request, or why it is refused.
async fn body_of(session: &mut ServerSession) -> Result<Vec<u8>, Response<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(_) => return Err(respond(StatusCode::BAD_REQUEST, TEXT, "the body is not complete\n")),
        }
        if body.len() > limits::ADMIN_BODY_BYTES {
            return Err(respond(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is too large\n"));
        }
    }
}

/// False when a web page could have made its own name resolve to this machine (DNS rebinding).
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    hosts.all(|host| Authority::parse(host).is_ok_and(|host| host.is_loopback()))
}

fn not_allowed(methods: &'static str) -> Response<Vec<u8>> {
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("use {methods}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // There are few places for connections, and requests of operators and scrapes are rare.
        session.set_keepalive(None);
        let mut response = self.answer(session).await;
        if session.req_header().method == Method::HEAD {
            response.body_mut().clear();
        }
        response
    }
}
