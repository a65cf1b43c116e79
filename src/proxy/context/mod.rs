//! What is known of one request while it is served, in parts. A function takes the part that it needs.

pub(super) mod call;
pub(super) mod client_fields;
pub(super) mod credential_end;
pub(super) mod opened_session;
pub(super) mod rejection;
pub(super) mod repeat;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use prometheus::IntGauge;

use self::call::CallRecord;
use self::client_fields::ClientFields;
use self::opened_session::LastOpened;
use self::rejection::Rejection;
use super::abandoned::Abandonment;
use super::snapshot::{RouteContext, Snapshot};
use crate::auth::{CachedLookup, Permit, ShownCredential};
use crate::mcp::MessageId;
use crate::metrics::EndpointResult;
use crate::types::{Principal, RequestId};
use crate::upstream::{Endpoint, InFlightGuard};

/// What the edge learns of a request, from its start to its line in the log.
#[derive(Debug)]
pub struct RequestContext {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) id: RequestId,
    pub(super) started: Instant,
    pub(super) client: Client,
    pub(super) memo: Memo,
    /// Set once a route was found.
    pub(super) route: Option<Arc<RouteContext>>,
    /// The route of the server that a gateway has chosen.
    pub(super) server: Option<Arc<RouteContext>>,
    pub(super) access: Access,
    pub(super) message: MessageFacts,
    /// Path and query for the upstream.
    pub(super) target: String,
    pub(super) attempt: Attempt,
    /// Set when the edge answers itself: why.
    pub(super) rejection: Option<Rejection>,
    in_flight: Option<GaugeGuard>,
    stream: Option<GaugeGuard>,
}

/// Who sent the request and what for, as far as its head and the connection tell.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// The address of the client itself, also behind trusted proxies.
    pub(super) address: IpAddr,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Host and port as the client wrote them, checked.
    pub(super) authority: String,
    /// The host alone, by which the route is found.
    pub(super) host: String,
    /// The canonical path.
    pub(super) path: String,
    pub(super) query: Option<Arc<str>>,
    /// True when a trusted proxy stands before the edge.
    pub(super) behind_proxy: bool,
    /// `X-Forwarded-For` for the upstream.
    pub(super) forwarded_for: String,
    /// The host is one that the listener names.
    pub(super) host_is_listed: bool,
    /// Upstreams get fields whose names have underscores.
    pub(super) keeps_underscores: bool,
}

/// What is remembered from one request of a connection to the next, so that a head that repeats costs less.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The head of this request is the same as that of the request before.
    pub(super) repeats: bool,
    /// The head has passed all checks before, on the same route, and asks for nothing special: it is that of a POST without
    /// `Origin`, `Expect` and `Upgrade`.
    pub(super) is_plain: bool,
    /// The client's fields that an HTTP/1 upstream gets. Kept for heads that repeat.
    pub(super) client_fields: Option<ClientFields>,
    /// Which provider handled the credential, and the key of the cache entry.
    pub(super) cached_lookup: Option<CachedLookup>,
    /// The MCP session that was opened last on the connection.
    pub(super) last_session: Option<Box<LastOpened>>,
}

/// What the request may do, and as whom.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Set once the request was authorized. Nothing is sent to an upstream without it.
    pub(super) permit: Option<Permit>,
    /// What the upstream is shown in place of the client's credential. Set on routes that have a `credential`.
    pub(super) credential: Option<ShownCredential>,
    /// The generation of revocations that the caller's credential was checked against.
    pub(super) revocations_checked: u64,
    /// `Authorization` of the request is meant for the upstream.
    pub(super) leaves_authorization: bool,
    /// The origin of the web page that may read the answer.
    pub(super) cors_origin: Option<HeaderValue>,
}

/// What the body says, on MCP routes.
#[derive(Debug, Default)]
pub(super) struct MessageFacts {
    /// The id of the JSON-RPC request in the body.
    pub(super) id: Option<MessageId>,
    /// The MCP message in the body.
    pub(super) call: Option<CallRecord>,
}

/// How far the request has come with its upstream.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// The endpoint that serves the request now.
    pub(super) endpoint: Option<InFlightGuard>,
    /// True when there is a connection to it.
    pub(super) connected: bool,
    /// Endpoints that this request has failed on.
    pub(super) tried: Vec<SocketAddr>,
    /// True when a connection to the endpoint of the session could not be made in time once.
    pub(super) connect_timed_out: bool,
    /// True when the request was sent a second time.
    pub(super) retried: bool,
    /// The status of the upstream's answer.
    pub(super) upstream_status: Option<u16>,
    /// When the upstream's response head had come.
    pub(super) head_at: Option<Instant>,
    /// The client has left, and the exchange goes on.
    pub(super) abandoned: Option<Abandonment>,
}

impl Client {
    /// Before the head was looked at.
    fn unknown() -> Self {
        Self {
            address: IpAddr::from([0, 0, 0, 0]),
            scheme: "http",
            authority: String::new(),
            host: String::new(),
            path: String::new(),
            query: None,
            behind_proxy: false,
            forwarded_for: String::new(),
            host_is_listed: false,
            keeps_underscores: false,
        }
    }
}

impl Attempt {
    /// The request is in flight at `endpoint` from here on.
    pub(super) fn begin(&mut self, endpoint: &Arc<Endpoint>) {
        (self.endpoint, self.connected) = (Some(endpoint.begin()), false);
    }

    /// The attempt has failed, and another one follows.
    pub(super) fn failed(&mut self, result: EndpointResult) {
        if let Some(guard) = self.endpoint.take() {
            guard.endpoint().finished(result);
        }
    }
}

impl Access {
    /// The caller, once they are known. `None` on open routes.
    pub(super) fn principal(&self) -> Option<&Arc<Principal>> {
        self.permit.as_ref()?.principal()
    }
}

impl RequestContext {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            id: RequestId::generate(),
            started: Instant::now(),
            client: Client::unknown(),
            memo: Memo::default(),
            route: None,
            server: None,
            access: Access::default(),
            message: MessageFacts::default(),
            target: String::new(),
            attempt: Attempt::default(),
            rejection: None,
            in_flight: None,
            stream: None,
        }
    }

    /// The context of a request of the edge itself, for the same caller. `permit` allows it.
    pub(super) fn branch(&self, permit: Permit) -> Self {
        let mut branch = Self::new(Arc::clone(&self.snapshot));
        branch.id = self.id.clone();
        branch.client = self.client.clone();
        branch.route.clone_from(&self.route);
        branch.access.permit = Some(permit);
        branch
    }

    /// From here on the request counts as one of `route`.
    pub(super) fn enter(&mut self, route: &Arc<RouteContext>) {
        self.in_flight = Some(GaugeGuard::new(&route.metrics.in_flight));
        self.route = Some(Arc::clone(route));
    }

    /// From here on the request counts as an open stream of its route.
    pub(super) fn becomes_stream(&mut self) {
        self.stream = self.route.as_ref().map(|route| GaugeGuard::new(&route.metrics.streams));
    }

    /// The head of the upstream's answer has come.
    pub(super) fn answered(&mut self, status: u16) {
        self.attempt.head_at = Some(Instant::now());
        self.attempt.upstream_status = Some(status);
        if let Some(credential) = self.access.credential.as_ref().filter(|_| status == 401) {
            credential.was_refused();
        }
    }

    /// How long the upstream took for its response head.
    pub(super) fn head_time(&self) -> Option<Duration> {
        self.attempt.head_at.map(|at| at.duration_since(self.started))
    }
}

/// Counts one more while it lives. A guard, because a request that panics is never finished.
#[derive(Debug)]
struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
