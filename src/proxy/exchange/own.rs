//! Requests of the edge itself to a server, in the name of a caller: to open sessions, and to read what a gateway offers.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use tokio::time::{Instant, timeout_at};

pub(crate) use super::link::Link;
use super::link::is_late;
use super::upstream_head::UpstreamHead;
use crate::config::limits;
use crate::http1::BodyLength;
use crate::mcp::{EventRewrite, Verdict, is_response_to, response_of};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::MessageFields;
use crate::proxy::edge::Edge;
use crate::proxy::headers;
use crate::proxy::snapshot::ServerContext;
use crate::proxy::within::at_once;
use crate::upstream::Endpoint;

/// A message of the edge itself.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// Its head: see [`request_as`].
    pub(crate) request: &'a RequestHeader,
    /// The id of the session at its replica.
    pub(crate) session: Option<&'a str>,
    /// What the head says about the message.
    pub(crate) fields: &'a MessageFields,
    pub(crate) body: &'a Bytes,
    /// Until when the head of the answer has to be there.
    pub(crate) until: Instant,
}

/// A request as the client could have sent it, with its fields. A POST carries a message, a GET asks for an event stream, and a
/// DELETE ends a session.
pub(crate) fn request_as(client: &RequestHeader, method: Method) -> pingora::Result<RequestHeader> {
    let mut request = client.clone();
    if method == Method::POST {
        request.insert_header(CONTENT_TYPE, "application/json")?;
    } else {
        request.remove_header(&CONTENT_TYPE);
        request.remove_header(&http::header::CONTENT_LENGTH);
    }
    let accept = if method == Method::GET { headers::EVENT_STREAM } else { "application/json, text/event-stream" };
    request.insert_header(ACCEPT, accept)?;
    request.set_method(method);
    Ok(request)
}

/// Why a message was not answered.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: Box<Error>,
    /// There was no connection, so nothing was sent.
    pub(crate) unsent: bool,
    /// The connection was idle before, and nothing has come on it: the server may just have closed it.
    pub(crate) was_idle: bool,
}

/// Sends a message, and waits for the head of its answer. The caller limits the time for the connection.
///
/// # Errors
/// The endpoint cannot be reached, or the exchange broke off.
pub(crate) async fn send(
    edge: &Edge,
    context: &RequestContext,
    server: &ServerContext,
    endpoint: &Arc<Endpoint>,
    message: Message<'_>,
) -> Result<(Link, Box<ResponseHeader>), Unanswered> {
    let opened = Link::open(edge, &server.upstream, endpoint).await;
    let (mut link, reused) = opened.map_err(|error| Unanswered { error, unsent: true, was_idle: false })?;
    server.upstream.metrics().connected(reused);
    let Message { request, session, fields, body, until } = message;
    let length = BodyLength::Exact(body.len() as u64);
    let head = UpstreamHead::new(request, context, server, length)
        .of_its_own()
        .with_session(session)
        .with_message(Some(fields));
    let begun = Instant::now();
    let answer = match link.begin(head, body.clone(), true) {
        Ok(()) => in_time(until, link.answer()).await,
        Err(error) => Err(error),
    };
    let head = match answer {
        Ok(head) => head,
        Err(error) => {
            leave_dead(&link, &error, begun);
            let was_idle = reused && !is_late(&error) && !link.has_seen();
            return Err(Unanswered { error, unsent: false, was_idle });
        }
    };
    let is_unauthorized = head.status == StatusCode::UNAUTHORIZED;
    if let Some(credential) = context.access.credential.as_ref().filter(|_| is_unauthorized) {
        credential.was_refused();
    }
    Ok((link, head))
}

/// Later requests do not begin on an HTTP/2 connection on which an answer was awaited in vain since `begun`, which may be dead. If the
/// time went by elsewhere, that says nothing of the connection.
fn leave_dead(link: &Link, error: &Error, begun: Instant) {
    if is_late(error) && begun.elapsed() >= limits::DEAD_CONNECTION {
        link.leave_connection();
    }
}

/// The outcome of `work`, if there is one by `until`.
async fn in_time<T>(until: Instant, work: impl Future<Output = pingora::Result<T>>) -> pingora::Result<T> {
    let late = |_| Err(Error::explain(ErrorType::ReadTimedout, "the answer took too long").into_up());
    timeout_at(until, work).await.unwrap_or_else(late)
}

/// The JSON-RPC response in an answer: the whole body, or the event that answers the request with the id `id`, in JSON. `None` when
/// there is none, or when it is longer than `limit` bytes. The connection is kept for others if the answer is whole.
///
/// # Errors
/// The answer broke off, or the response was not there at `until`.
pub(crate) async fn response(
    mut link: Link,
    head: &ResponseHeader,
    limit: usize,
    id: Option<&str>,
    until: Instant,
) -> Result<Option<Vec<u8>>, Box<Error>> {
    let is_event_stream = headers::is_of_type(&head.headers, headers::EVENT_STREAM);
    let mut body = Vec::new();
    let mut events = EventRewrite::new(limit);
    let (mut found, begun) = (None, Instant::now());
    while found.is_none() {
        let piece = in_time(until, poll_fn(|cx| link.poll_body(cx))).await;
        let Some(piece) = piece.inspect_err(|error| leave_dead(&link, error, begun))? else { break };
        if is_event_stream {
            let mut judge = |_: &str, data: &[u8]| {
                let is_it = id.map_or_else(|| response_of(data).is_some(), |id| is_response_to(data, id));
                if found.is_none() && is_it {
                    found = Some(data.to_vec());
                }
                Verdict::Keep
            };
            if events.push(&piece, &mut Vec::new(), &mut judge).is_err() {
                break;
            }
        } else if body.len() + piece.len() > limit {
            break;
        } else {
            body.extend_from_slice(&piece);
        }
    }
    // The end of the stream mostly comes with the response. A stream that stays open is left.
    while found.is_some() && matches!(at_once(poll_fn(|cx| link.poll_body(cx))).await, Some(Ok(Some(_)))) {}
    link.release();
    Ok(found.or_else(|| (!is_event_stream && response_of(&body).is_some()).then_some(body)))
}
