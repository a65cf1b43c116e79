//! What is known of one request while it is served.

pub(super) mod call;
pub(super) mod credential_end;
pub(super) mod head_deadline;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Instant;

use http::HeaderValue;
use prometheus::IntGauge;

use super::exchange::upstream_head::ClientFields;
use super::mcp_session::LastOpened;
use super::respond::Rejection;
use super::snapshot::{RouteContext, Snapshot};
use crate::auth::{Asked, Permit, ShownCredential};
use crate::mcp::MessageId;
use crate::types::RequestId;
use crate::upstream::{Connection, InFlightGuard};
use call::CallRecord;
use credential_end::EndingGuard;
use head_deadline::HeadDeadline;

/// What the edge learns of a request, from its start to its line in the log.
#[derive(Debug)]
pub struct RequestContext {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) id: RequestId,
    pub(super) started: Instant,
    pub(super) client: Client,
    /// What followed from the same head before is in use.
    pub(super) repeats: bool,
    /// The client's fields that an HTTP/1 upstream gets, as they are written there; kept for heads that repeat.
    pub(super) passed_on: Option<ClientFields>,
    /// Who was asked about the credential, also for such heads.
    pub(super) asked: Option<Asked>,
    /// Set once a route was found.
    pub(super) route: Option<Arc<RouteContext>>,
    /// Set once the request was authorized; nothing is sent to an upstream without it.
    pub(super) permit: Option<Permit>,
    /// What the upstream is shown in place of the client's credential; set on routes that have one.
    pub(super) credential: Option<ShownCredential>,
    /// The page that may read the answer.
    pub(super) cors_origin: Option<HeaderValue>,
    /// The id of the JSON-RPC request in the body.
    pub(super) message_id: Option<MessageId>,
    /// The MCP message in the body.
    pub(super) call: Option<CallRecord>,
    /// Path and query for the upstream.
    pub(super) target: String,
    pub(super) upgrade: bool,
    /// Request body bytes so far.
    pub(super) received: u64,
    /// Endpoints that this request has failed on.
    pub(super) tried: Vec<SocketAddr>,
    /// Whether it was sent a second time.
    pub(super) retried: bool,
    pub(super) endpoint: Option<InFlightGuard>,
    pub(super) deadline: Option<HeadDeadline>,
    /// The connection to the endpoint, where Pingora passes the response on.
    pub(super) connection: Weak<Connection>,
    /// Ends a stream that Pingora passes on with its credential.
    pub(super) ending: Option<EndingGuard>,
    /// The revocations that the caller's credential was checked against.
    pub(super) revocations_checked: u64,
    /// What the requests before on the same connection have opened.
    pub(super) last_session: Option<Box<LastOpened>>,
    /// Why the edge answered, when it did.
    pub(super) rejection: Option<Rejection>,
    /// The status that the upstream answered with.
    pub(super) upstream_status: Option<u16>,
    /// When the upstream's response head was there.
    pub(super) head_at: Option<Instant>,
    in_flight: Option<GaugeGuard>,
    stream: Option<GaugeGuard>,
}

/// Who sent the request and what for, as far as its head and the connection tell.
#[derive(Debug)]
pub(super) struct Client {
    /// The address, behind proxies that are trusted.
    pub(super) address: IpAddr,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Host and port as the client wrote them, checked.
    pub(super) authority: String,
    /// The host alone, which the route is found by.
    pub(super) host: String,
    /// The target in its one canonical form.
    pub(super) path: String,
    pub(super) query: Option<Arc<str>>,
    /// Whether a proxy that is trusted stands before the edge.
    pub(super) behind_proxy: bool,
    /// For the upstream.
    pub(super) forwarded_for: String,
}

impl Client {
    /// Before its head was looked at.
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
        }
    }
}

impl RequestContext {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            id: RequestId::generate(),
            started: Instant::now(),
            client: Client::unknown(),
            repeats: false,
            passed_on: None,
            asked: None,
            route: None,
            permit: None,
            credential: None,
            cors_origin: None,
            message_id: None,
            call: None,
            target: String::new(),
            upgrade: false,
            received: 0,
            tried: Vec::new(),
            retried: false,
            endpoint: None,
            deadline: None,
            connection: Weak::new(),
            ending: None,
            revocations_checked: 0,
            last_session: None,
            rejection: None,
            upstream_status: None,
            head_at: None,
            in_flight: None,
            stream: None,
        }
    }

    /// From here on the request counts as one of `route`.
    pub(super) fn enter(&mut self, route: &Arc<RouteContext>) {
        self.in_flight = Some(GaugeGuard::new(&route.metrics.in_flight));
        self.route = Some(Arc::clone(route));
    }

    /// From here on it counts as an open stream of its route.
    pub(super) fn becomes_stream(&mut self) {
        self.stream = self.route.as_ref().map(|route| GaugeGuard::new(&route.metrics.streams));
    }

    /// True when the response head took too long.
    pub(super) fn head_is_late(&self) -> bool {
        self.deadline.as_ref().is_some_and(HeadDeadline::has_struck)
    }
}

/// One more while it lives: also when a hook panics, which skips Pingora's `logging`.
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
