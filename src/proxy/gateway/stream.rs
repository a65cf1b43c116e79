//! The stream on which a gateway's client hears of its servers: the GET stream of a session, or `subscriptions/listen`. The streams of
//! all servers come together in it.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::caller::{Caller, fields_of};
use super::open::{ClientSession, lost, session_at, stateless_meta};
use super::resolve;
use crate::config::limits;
use crate::mcp::{EventRewrite, MessageId, Verdict};
use crate::metrics::CallOutcome;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::transfer::{Follows, Seen};
use crate::proxy::client::watch::ClientWatch;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::MessageFields;
use crate::proxy::context::credential_end::CredentialEnd;
use crate::proxy::context::rejection::Stop;
use crate::proxy::edge::Edge;
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::{GatewaySession, ServerSession};
use crate::proxy::headers;
use crate::proxy::snapshot::{Destination, GatewayContext, GatewayServer};
use crate::types::Operation;

/// The kinds of lists, and the word for each in notifications and in filters.
const LISTS: [(&str, &str, &str); 3] = [
    ("tools", "notifications/tools/list_changed", "toolsListChanged"),
    ("prompts", "notifications/prompts/list_changed", "promptsListChanged"),
    ("resources", "notifications/resources/list_changed", "resourcesListChanged"),
];

/// Names the subscription that a notification belongs to (MCP 2026-07-28, "Subscriptions").
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// What a client wants to hear.
#[derive(Clone, Debug)]
struct Wanted {
    /// Of which lists, in the order of [`LISTS`].
    lists: [bool; 3],
    resources: Vec<String>,
    /// The id of the client's `subscriptions/listen`, in JSON.
    subscription: Option<String>,
    /// Its `_meta`, in JSON.
    meta: Option<String>,
}

/// Something that a server says.
enum Heard {
    /// One of its lists has changed.
    Changed(usize),
    /// A message for the client.
    Message(Vec<u8>),
}

/// Opens the GET stream of a session.
///
/// # Errors
/// The client has left.
pub(super) async fn open(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &Arc<GatewayContext>,
    session: &GatewaySession,
) -> Result<(), Stop> {
    let wanted = Wanted { lists: [true; 3], resources: Vec::new(), subscription: None, meta: None };
    run(edge, downstream, context, gateway, ClientSession::Open(session), wanted).await
}

/// Answers `subscriptions/listen` (MCP 2026-07-28, "Subscriptions").
///
/// # Errors
/// The client has left.
pub(super) async fn listen(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &Arc<GatewayContext>,
    message: &Bytes,
    id: &MessageId,
) -> Result<(), Stop> {
    let message: Value = serde_json::from_slice(message).unwrap_or_default();
    let filter = &message["params"]["notifications"];
    let resources = filter["resourceSubscriptions"].as_array().into_iter().flatten();
    let wanted = Wanted {
        lists: LISTS.map(|(.., filter_name)| filter[filter_name] == true),
        resources: resources.filter_map(|uri| uri.as_str().map(str::to_owned)).collect(),
        subscription: Some(id.as_json().to_owned()),
        meta: Some(message["params"]["_meta"].to_string()),
    };
    run(edge, downstream, context, gateway, ClientSession::Stateless, wanted).await
}

impl Wanted {
    /// The notification that the list of this kind has changed, for the client.
    fn changed(&self, kind: usize) -> Vec<u8> {
        let (_, method, _) = LISTS[kind];
        match &self.subscription {
            Some(id) => {
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"{SUBSCRIPTION}":{id}}}}}}}"#)
            }
            None => format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#),
        }
        .into_bytes()
    }

    /// What the client is told first.
    fn acknowledgement(&self) -> Option<Vec<u8>> {
        let id = self.subscription.as_ref()?;
        let filter = self.filter(&self.resources);
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION}":{id}}},"notifications":{filter}}}}}"#
        );
        Some(message.into_bytes())
    }

    /// The filter of `subscriptions/listen` with these resources.
    fn filter(&self, resources: &[String]) -> Value {
        let mut filter = serde_json::Map::new();
        for ((.., name), wanted) in LISTS.iter().zip(self.lists) {
            if wanted {
                filter.insert((*name).to_owned(), json!(true));
            }
        }
        if !resources.is_empty() {
            filter.insert("resourceSubscriptions".to_owned(), json!(resources));
        }
        filter.into()
    }
}

/// An event with the message `data`. Line breaks in JSON stand between its parts only, so a space means the same.
fn event(data: &[u8]) -> Bytes {
    let mut out = b"event: message\ndata: ".to_vec();
    out.extend(data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
    out.into()
}

async fn run(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &Arc<GatewayContext>,
    client: ClientSession<'_>,
    wanted: Wanted,
) -> Result<(), Stop> {
    let request = downstream.req_header().clone();
    context.becomes_stream();
    if let Some(call) = &mut context.message.call {
        call.outcome = Some(CallOutcome::Ok);
    }
    let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
    head.insert_header(CONTENT_TYPE, headers::EVENT_STREAM)?;
    head.insert_header(http::header::CACHE_CONTROL, "no-store")?;
    // nginx in front of the edge would hold events back.
    head.insert_header("x-accel-buffering", "no")?;
    if request.version != http::Version::HTTP_10 {
        head.insert_header(http::header::TRANSFER_ENCODING, "chunked")?;
    }
    head.insert_header(headers::REQUEST_ID, context.id.to_header())?;
    headers::expose(&mut head, context.route.as_deref(), &context.access)?;
    downstream.queue_head(Box::new(head), Follows::Body)?;
    if let Some(first) = wanted.acknowledgement() {
        downstream.queue(event(&first), false)?;
    }
    downstream.flush().await?;
    let mut gateway = Arc::clone(gateway);
    loop {
        let served = serve(edge, downstream, context, &gateway, &request, client, &wanted).await?;
        let Ended::Replaced = served else { break };
        let snapshot = edge.begin().snapshot;
        let next = match snapshot.routes.get(&gateway.route.settings.name) {
            Some(Destination::Gateway(next)) if next.route.settings.auth == gateway.route.settings.auth => {
                Arc::clone(next)
            }
            // There is no such gateway any more, or it asks for other credentials.
            _ => break,
        };
        let is_changed = !same_offer(&gateway, &next);
        (context.snapshot, gateway) = (snapshot, next);
        if is_changed {
            for kind in (0..LISTS.len()).filter(|kind| wanted.lists[*kind]) {
                downstream.queue(event(&wanted.changed(kind)), false)?;
                downstream.flush().await?;
            }
        }
    }
    if let Some(id) = &wanted.subscription {
        let last = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete"}}}}"#);
        downstream.queue(event(last.as_bytes()), false)?;
        downstream.flush().await?;
    }
    downstream.queue(Bytes::new(), true)?;
    Ok(downstream.flush().await?)
}

/// True when both generations of a gateway offer the same servers under the same rules.
fn same_offer(before: &GatewayContext, after: &GatewayContext) -> bool {
    let routes = |gateway: &GatewayContext| -> Vec<_> {
        gateway.servers.iter().map(|server| Arc::clone(&server.server.settings)).collect()
    };
    before.settings == after.settings && routes(before) == routes(after)
}

/// Why a stream does not go on with a snapshot.
enum Ended {
    /// There is a new one.
    Replaced,
    /// The caller's credential is no longer valid.
    Credential,
}

/// Passes on what the servers say, as long as the snapshot is in use.
async fn serve(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &RequestContext,
    gateway: &GatewayContext,
    request: &pingora::http::RequestHeader,
    client: ClientSession<'_>,
    wanted: &Wanted,
) -> Result<Ended, Stop> {
    let caller = Caller { edge, gateway, context, request };
    let (sender, mut heard) = mpsc::channel(QUEUE);
    let sources = gateway.servers.iter().map(|server| source(caller, client, server, wanted, sender.clone()));
    let mut sources: FuturesUnordered<_> = sources.collect();
    let access = &context.access;
    let credential = CredentialEnd::of(access.permit.as_ref(), access.revocations_checked, &gateway.route, true);
    let mut credential = pin!(async {
        match credential {
            Some(mut end) => end.comes().await,
            None => pending().await,
        }
    });
    let mut replaced = pin!(context.snapshot.replaced());
    let mut changes = Changes::default();
    let comment = gateway.route.settings.sse_keepalive;
    let (mut last, mut listens) = (Instant::now(), true);
    loop {
        let silence = async {
            match comment {
                Some(comment) => tokio::time::sleep_until(last + comment).await,
                None => pending().await,
            }
        };
        let due = changes.due();
        let out = tokio::select! {
            Some(heard) = heard.recv() => match heard {
                Heard::Changed(kind) => {
                    changes.note(kind);
                    continue;
                }
                Heard::Message(message) => event(&message),
            },
            Some(()) = sources.next(), if !sources.is_empty() => continue,
            seen = poll_fn(|cx| downstream.poll_idle(cx)), if listens => match seen? {
                Seen::Closed | Seen::Reset => return Err(ClientWatch::has_left().into()),
                Seen::Spoke => continue,
                // Its disconnect is noticed when something is written.
                Seen::Full => {
                    listens = false;
                    continue;
                }
            },
            () = wait_until(due) => changes.take().flat_map(|kind| event(&wanted.changed(kind))).collect::<Vec<u8>>().into(),
            () = silence => Bytes::from_static(b":\n\n"),
            () = &mut credential => return Ok(Ended::Credential),
            () = &mut replaced => return Ok(Ended::Replaced),
        };
        downstream.queue(out, false)?;
        downstream.flush().await?;
        last = Instant::now();
    }
}

/// How many messages of servers may wait for the client. A server whose messages do not fit waits.
const QUEUE: usize = 16;

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}

/// Changes of lists that the client has not heard of. It hears of many at once.
#[derive(Debug, Default)]
struct Changes {
    kinds: [bool; 3],
    told: Option<Instant>,
    since: Option<Instant>,
}

impl Changes {
    fn note(&mut self, kind: usize) {
        self.kinds[kind] = true;
        self.since.get_or_insert_with(Instant::now);
    }

    /// When the client shall hear of them: soon, so that changes of several servers come together, and not too often.
    fn due(&self) -> Option<Instant> {
        let soon = self.since? + limits::GATEWAY_CHANGES_GATHER;
        Some(self.told.map_or(soon, |told| soon.max(told + limits::GATEWAY_CHANGES)))
    }

    fn take(&mut self) -> impl Iterator<Item = usize> + use<> {
        (self.since, self.told) = (None, Some(Instant::now()));
        let kinds = std::mem::take(&mut self.kinds);
        (0..kinds.len()).filter(move |kind| kinds[*kind])
    }
}

/// The stream of one server, opened again whenever it ends.
async fn source(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    wanted: &Wanted,
    sender: mpsc::Sender<Heard>,
) {
    let mut pause = limits::GATEWAY_STREAM_PAUSE;
    loop {
        let begun = Instant::now();
        match Box::pin(hear(caller, client, server, wanted, &sender)).await {
            Err(ServerError::Denied | ServerError::NoSessions | ServerError::Forgotten | ServerError::Refused(_)) => {
                return;
            }
            Ok(Over::HasNone) => return,
            Ok(Over::Ended) | Err(_) => {}
        }
        // A server that ends every stream at once is not asked all the time.
        pause = if begun.elapsed() > limits::GATEWAY_STREAM_PAUSE_MAX {
            limits::GATEWAY_STREAM_PAUSE
        } else {
            (pause * 2).min(limits::GATEWAY_STREAM_PAUSE_MAX)
        };
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Why a stream of a server is over.
enum Over {
    Ended,
    /// The server has no such streams.
    HasNone,
}

async fn hear(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    wanted: &Wanted,
    sender: &mpsc::Sender<Heard>,
) -> Result<Over, ServerError> {
    let session = session_at(caller, client, server).await?;
    let (method, fields, body, operation) = match (&session, client) {
        (ServerSession::Open { .. }, ClientSession::Open(_)) => {
            (Method::GET, fields_of(&session, "", None), Bytes::new(), Operation::Request)
        }
        // The session is shared by all requests of the caller, and a server opens one stream for each session.
        (ServerSession::Open { .. }, ClientSession::Stateless) => return Ok(Over::HasNone),
        (ServerSession::Stateless, _) => {
            let method = "subscriptions/listen";
            let body = listen_body(caller, client, server, wanted).await;
            let Some(body) = body else { return Ok(Over::HasNone) };
            (Method::POST, fields_of(&session, method, None), body, Operation::Method(method))
        }
    };
    let permit = caller.permit(server, [operation]).map_err(|_| ServerError::Denied)?;
    let begun = begin(caller, permit, server, &session, method, &fields, &body);
    let (mut link, head, _) = match begun.await {
        Err(ServerError::Lost) => {
            lost(caller, client, server, &session).await?;
            return Ok(Over::Ended);
        }
        begun => begun?,
    };
    match head.status {
        StatusCode::NOT_FOUND if matches!(session, ServerSession::Open { target: Some(_), .. }) => {
            lost(caller, client, server, &session).await?;
            return Ok(Over::Ended);
        }
        status if status.is_server_error() => return Err(ServerError::Status(status)),
        status if !status.is_success() || !headers::is_of_type(&head.headers, headers::EVENT_STREAM) => {
            return Ok(Over::HasNone);
        }
        _ => {}
    }
    // What has changed before the stream was open was not heard.
    caller.edge.gateways.heard_change(server.mark).await;
    let mut events = EventRewrite::new(limits::LIST_BYTES);
    while let Some(piece) = poll_fn(|cx| link.poll_body(cx)).await? {
        let mut found = Vec::new();
        let mut judge = |_: &str, data: &[u8]| {
            found.extend(heard(server, &session, wanted, data));
            Verdict::Keep
        };
        events.push(&piece, &mut Vec::new(), &mut judge).map_err(|_| ServerError::Junk("an event that is too long"))?;
        for heard in found {
            if let Heard::Changed(_) = heard {
                caller.edge.gateways.heard_change(server.mark).await;
            }
            if sender.send(heard).await.is_err() {
                return Ok(Over::HasNone);
            }
        }
    }
    Ok(Over::Ended)
}

async fn begin(
    caller: Caller<'_>,
    permit: crate::auth::Permit,
    server: &GatewayServer,
    session: &ServerSession,
    method: Method,
    fields: &MessageFields,
    body: &Bytes,
) -> Result<(crate::proxy::exchange::own::Link, Box<ResponseHeader>, Arc<crate::upstream::Endpoint>), ServerError> {
    let limit: Duration = server.server.upstream.settings().timeouts.response.0;
    let begun = caller.begin(permit, server, session, method, fields, body);
    tokio::time::timeout(limit, begun).await.map_err(|_| ServerError::Late)?
}

/// The `subscriptions/listen` for one server. `None`: it has nothing that the client wants to hear of.
async fn listen_body(
    caller: Caller<'_>,
    client: ClientSession<'_>,
    server: &GatewayServer,
    wanted: &Wanted,
) -> Option<Bytes> {
    let mut resources = Vec::new();
    for uri in &wanted.resources {
        let found = resolve::resource(caller, client, uri).await;
        resources.extend(found.filter(|found| found.server.mark == server.mark).map(|found| found.name));
    }
    let may = |uri: &String| {
        let target = crate::types::Target::Resource(uri);
        caller.permit(server, [Operation::Targeted("subscriptions/listen", target)]).is_ok()
    };
    resources.retain(may);
    let filter = wanted.filter(&resources);
    if filter.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    let meta = wanted.meta.clone().unwrap_or_else(|| format!("{{{}}}", stateless_meta(None)));
    let id = wanted.subscription.as_deref().unwrap_or("\"mcp-edge\"");
    Some(
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"_meta":{meta},"notifications":{filter}}}}}"#
        )
        .into(),
    )
}

/// What the client hears of a message that a server has sent on its stream.
fn heard(server: &GatewayServer, session: &ServerSession, wanted: &Wanted, data: &[u8]) -> Option<Heard> {
    let message: Value = serde_json::from_slice(data).ok()?;
    let method = message.get("method").and_then(Value::as_str);
    if let Some(kind) = LISTS.iter().position(|(_, changed, _)| method == Some(changed)) {
        return Some(Heard::Changed(kind)).filter(|_| wanted.lists[kind]);
    }
    match (session, method) {
        // The gateway has acknowledged the subscription itself, and it goes on when the stream of one server ends.
        (ServerSession::Stateless, Some("notifications/subscriptions/acknowledged") | None) => None,
        (ServerSession::Stateless, Some(_)) if wanted.subscription.is_none() => None,
        (ServerSession::Stateless, Some(_)) => Some(Heard::Message(data.to_vec())),
        (ServerSession::Open { .. }, _) => {
            Some(Heard::Message(server.mark.marked(data).unwrap_or_else(|| data.to_vec())))
        }
    }
}
