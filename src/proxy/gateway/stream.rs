//! The stream on which a gateway's client hears of its servers: the GET stream of a session, or `subscriptions/listen`. The streams of
//! all servers come together in it.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use pingora::http::ResponseHeader;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::caller::Caller;
use super::open::{ClientSession, session_at};
use super::resolve;
use super::source::{Heard, source};
use super::wanted::{LISTS, Wanted, WantedResource, event};
use crate::auth::Denial;
use crate::config::limits;
use crate::mcp::{Era, MessageId};
use crate::metrics::CallOutcome;
use crate::proxy::admit;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::transfer::{Follows, Seen};
use crate::proxy::client::watch::ClientWatch;
use crate::proxy::context::RequestContext;
use crate::proxy::context::credential_end::CredentialEnd;
use crate::proxy::context::rejection::Stop;
use crate::proxy::edge::Edge;
use crate::proxy::gateway_memory::session::{GatewaySession, ServerSession};
use crate::proxy::headers;
use crate::proxy::snapshot::{Destination, GatewayContext, GatewayServer, Snapshot};
use crate::types::{Operation, Target};

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
    let uris = filter["resourceSubscriptions"].as_array().into_iter().flatten();
    let uris: Vec<&str> = uris.filter_map(Value::as_str).take(limits::MESSAGE_RESOURCES).collect();
    if uris.iter().map(|uri| uri.len()).sum::<usize>() > limits::NAMES_BYTES {
        let denial = Denial { too_long: true, ..Denial::default() };
        return Err(admit::refuse(context, &gateway.route, denial, None, Era::Stateless).into());
    }
    let caller = Caller { edge, gateway, context, request: downstream.req_header() };
    let wanted = Wanted {
        lists: LISTS.map(|(.., filter_name)| filter[filter_name] == true),
        resources: deliverable(caller, &uris).await,
        subscription: Some(id.as_json().to_owned()),
        meta: Some(message["params"]["_meta"].to_string()),
    };
    run(edge, downstream, context, gateway, ClientSession::Stateless, wanted).await
}

/// The resources of which the client can hear: those of servers without sessions, which it may subscribe to.
async fn deliverable(caller: Caller<'_>, uris: &[&str]) -> Vec<WantedResource> {
    let mut deliverable = Vec::new();
    for (uri, found) in resolve::resources(caller, ClientSession::Stateless, uris).await {
        let target = Target::Resource(&found.name);
        let may = caller.permit(&found.server, [Operation::Targeted("subscriptions/listen", target)]).is_ok();
        let session = session_at(caller, ClientSession::Stateless, &found.server).await;
        if may && matches!(session, Ok(ServerSession::Stateless)) {
            deliverable.push(WantedResource { shown: uri.to_owned(), server: found.server.mark, own: found.name });
        }
    }
    deliverable
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
        (context.snapshot, gateway) = (snapshot, next);
        for kind in (0..LISTS.len()).filter(|kind| wanted.lists[*kind]) {
            downstream.queue(event(&wanted.changed(kind)), false)?;
            downstream.flush().await?;
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

/// True when both generations of a gateway offer the same servers, at the same upstreams and under the same rules.
fn same_offer(before: &GatewayContext, after: &GatewayContext) -> bool {
    let same = |(before, after): (&GatewayServer, &GatewayServer)| {
        before.key == after.key && before.server.settings == after.server.settings
    };
    before.route.settings == after.route.settings
        && before.servers.len() == after.servers.len()
        && before.servers.iter().zip(&after.servers).all(same)
}

/// Waits until the gateway offers something else than `gateway`, or is gone.
async fn replaced(edge: &Edge, gateway: &GatewayContext, mut snapshot: Arc<Snapshot>) {
    loop {
        snapshot.replaced().await;
        snapshot = edge.begin().snapshot;
        match snapshot.routes.get(&gateway.route.settings.name) {
            Some(Destination::Gateway(next)) if same_offer(gateway, next) => {}
            _ => return,
        }
    }
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
    let mut replaced = pin!(replaced(edge, gateway, Arc::clone(&context.snapshot)));
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
            () = &mut replaced => {
                // What was heard is not lost.
                while let Ok(heard) = heard.try_recv() {
                    if let Heard::Message(message) = heard {
                        downstream.queue(event(&message), false)?;
                        downstream.flush().await?;
                    }
                }
                return Ok(Ended::Replaced);
            }
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
