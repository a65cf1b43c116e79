//! Passes an upstream's answer on to the client, piece by piece, as it comes.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::answer::Answer;
use super::clock::Clock;
use super::link::Link;
use crate::config::limits;
use crate::mcp::{Era, error_message};
use crate::metrics::{CallOutcome, RejectionReason as Reason};
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::transfer::Follows;
use crate::proxy::client::watch::{ClientWatch, Waited};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Call, CallKind};
use crate::proxy::context::credential_end::CredentialEnd;
use crate::proxy::context::rejection::{Rejection, Stop};
use crate::proxy::edge::Edge;
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::RouteContext;
use crate::proxy::within::at_once;
use crate::proxy::{headers, mcp_session};

/// The comment that keeps a silent stream open.
const COMMENT: &[u8] = b":\n\n";

/// What an answer passes through, and what it belongs to.
pub(crate) struct Passage<'a> {
    pub(crate) route: &'a RouteContext,
    pub(crate) call: &'a Call,
    pub(crate) upstream: &'a mut Link,
    pub(crate) client: &'a mut ClientWatch,
}

/// Passes on the answer that begins with `head`.
///
/// # Errors
/// The answer is refused, while the client has seen nothing of it; or it broke off.
pub(crate) async fn relay(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    head: Box<ResponseHeader>,
    passage: Passage<'_>,
) -> Result<(), Stop> {
    let Passage { route, call, upstream, client } = passage;
    let status = head.status;
    let answer = Answer::new(status, &head.headers, call, route, edge.held.begin())?;
    let head = head_for_client(head, &answer, downstream, context, route, call)?;
    // The call has kept its body only if it may have to be sent again.
    if call.kind == CallKind::Initialize
        && !call.body.is_empty()
        && let Some(sealed) = head.headers.get(&SESSION_HEADER).and_then(|id| id.to_str().ok())
    {
        edge.resumptions.remember(sealed.to_owned(), call.body.clone()).await;
    }
    if let Some(open) = &call.session
        && downstream.req_header().method == Method::DELETE
        && status.is_success()
    {
        edge.resumptions.forget(&open.sealed).await;
    }
    let is_stream = answer.is_event_stream();
    if is_stream {
        context.becomes_stream();
    }
    let mut relay = Relay { context, route, call, answer, client, is_stream };
    let relayed = relay.run(downstream, upstream, head).await;
    let outcome = relay.answer.outcome(status, call);
    if let Some(record) = &mut context.message.call
        && relayed.is_ok()
    {
        record.outcome.get_or_insert(outcome);
    }
    relayed
}

/// The head of the answer as the client may see it.
fn head_for_client(
    mut head: Box<ResponseHeader>,
    answer: &Answer,
    downstream: &Downstream<'_>,
    context: &RequestContext,
    route: &RouteContext,
    call: &Call,
) -> Result<Box<ResponseHeader>, Stop> {
    for name in headers::hop_by_hop(&head.headers) {
        head.remove_header(&name);
    }
    match call.era {
        // This era has no sessions.
        Era::Stateless => drop(head.remove_header(&SESSION_HEADER)),
        Era::Sessions => mcp_session::seal_response(&mut head, route, context, call.session.as_ref())?,
    }
    head.set_version(Version::HTTP_11);
    if answer.is_event_stream() {
        // nginx in front of the edge would hold events back.
        head.insert_header("x-accel-buffering", "no")?;
    }
    if answer.changes_length() {
        head.remove_header(&CONTENT_LENGTH);
    }
    let bodiless = downstream.req_header().method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let chunks = downstream.req_header().version != Version::HTTP_10;
    if !bodiless && chunks && !answer.holds_head() && !head.headers.contains_key(CONTENT_LENGTH) {
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    headers::to_client(&mut head, context, route)?;
    Ok(head)
}

struct Relay<'a> {
    context: &'a mut RequestContext,
    route: &'a RouteContext,
    call: &'a Call,
    answer: Answer,
    client: &'a mut ClientWatch,
    is_stream: bool,
}

/// What a relay waits for.
enum Event {
    Piece(Option<Bytes>),
    Waited(Waited),
    CredentialEnded,
}

impl Relay<'_> {
    async fn run(
        &mut self,
        downstream: &mut Downstream<'_>,
        upstream: &mut Link,
        head: Box<ResponseHeader>,
    ) -> Result<(), Stop> {
        let mut held = Some(head);
        // What has come of the body already, or that the body has ended. An answer that cannot be passed on can still be
        // refused then.
        let mut ahead = at_once(pin!(upstream.read_body())).await;
        if ahead.is_none() {
            self.write_held(downstream, &mut held, Follows::Later).await?;
        }
        let mut clock = Clock::start(self.context.started, self.route, self.call, self.is_stream);
        // Made once, not for every piece.
        let credential_end = waits_for(self.is_stream.then(|| self.credential_end()).flatten());
        tokio::pin!(credential_end);
        let last = loop {
            let event = match ahead.take() {
                Some(piece) => Event::Piece(piece.map_err(|error| error.into_up())?),
                None => tokio::select! {
                    biased;
                    piece = upstream.read_body() => Event::Piece(piece.map_err(|error| error.into_up())?),
                    waited = self.client.waits(downstream, clock.next(self.grace())) => Event::Waited(waited?),
                    () = &mut credential_end => Event::CredentialEnded,
                },
            };
            match event {
                Event::Piece(Some(piece)) => {
                    let out = match self.answer.push(piece, self.route, self.context) {
                        Ok(out) => out,
                        Err(rejection) => return Err(self.refusal(held.is_some(), rejection)),
                    };
                    let progressed = self.answer.take_progress();
                    ahead = at_once(pin!(upstream.read_body())).await;
                    if matches!(ahead, Some(Ok(None))) {
                        // This piece is the last: it goes out with the end.
                        break out;
                    }
                    let follows = if out.is_empty() { Follows::Later } else { Follows::AtOnce };
                    self.write_held(downstream, &mut held, follows).await?;
                    self.write(downstream, out).await?;
                    // Counted from here, because a client that reads slowly does not make the upstream silent.
                    clock.piece(progressed, self.client.is_gone());
                    if clock.is_overdue(self.grace()) {
                        return self.give_up(downstream, held.is_some()).await;
                    }
                }
                Event::Piece(None) => break Bytes::new(),
                Event::Waited(Waited::NotYet) => {}
                Event::CredentialEnded => {
                    let rejection = Rejection::new(Reason::InvalidToken, "the credential is no longer valid");
                    let error = Error::explain(ErrorType::ConnectionClosed, "the credential is no longer valid");
                    return self.end(downstream, held.is_some(), rejection, error.into_down()).await;
                }
                Event::Waited(Waited::Enough) => {
                    let now = Instant::now();
                    if clock.is_late(now, self.grace()) {
                        return self.give_up(downstream, held.is_some()).await;
                    }
                    if clock.wants_comment(now) && self.answer.is_between_events() {
                        self.write(downstream, Bytes::from_static(COMMENT)).await?;
                    }
                }
            }
        };
        let rest = match self.answer.finish(self.route, self.context) {
            Ok(rest) => rest,
            Err(rejection) => return Err(self.refusal(held.is_some(), rejection)),
        };
        if let Some(mut head) = held.take() {
            if self.answer.holds_head() {
                head.insert_header(CONTENT_LENGTH, rest.len())?;
            }
            self.write_head(downstream, head, Follows::AtOnce).await?;
        }
        let last = match (last.is_empty(), rest.is_empty()) {
            (true, _) => rest,
            (_, true) => last,
            _ => [last, rest].concat().into(),
        };
        if !self.client.is_gone() && downstream.req_header().method != Method::HEAD {
            let written = downstream.write_body(last, true).await;
            written.or_else(|error| self.client.is_lost(error))?;
        }
        if self.client.is_gone() {
            return Err(Error::explain(ErrorType::ConnectionClosed, "the client has left").into_down().into());
        }
        Ok(())
    }

    fn credential_end(&self) -> Option<CredentialEnd> {
        let access = &self.context.access;
        CredentialEnd::of(access.permit.as_ref(), access.revocations_checked, self.route, self.call.endless)
    }

    /// Writes the head, unless it was written, or has to wait until the whole body is known.
    async fn write_held(
        &mut self,
        downstream: &mut Downstream<'_>,
        held: &mut Option<Box<ResponseHeader>>,
        follows: Follows,
    ) -> pingora::Result<()> {
        match held.take_if(|_| !self.answer.holds_head()) {
            Some(head) => self.write_head(downstream, head, follows).await,
            None => Ok(()),
        }
    }

    async fn write_head(
        &mut self,
        downstream: &mut Downstream<'_>,
        head: Box<ResponseHeader>,
        follows: Follows,
    ) -> pingora::Result<()> {
        let bodiless = downstream.req_header().method == Method::HEAD;
        let written = downstream.write_head(head, if bodiless { Follows::Nothing } else { follows }).await;
        written.or_else(|error| self.client.is_lost(error))
    }

    async fn write(&mut self, downstream: &mut Downstream<'_>, piece: Bytes) -> pingora::Result<()> {
        if piece.is_empty() || self.client.is_gone() {
            return Ok(());
        }
        let written = downstream.write_body(piece, false).await;
        written.or_else(|error| self.client.is_lost(error))
    }

    /// The answer cannot be passed on. It is refused while the client has seen nothing of it (`unseen`), else broken off.
    fn refusal(&self, unseen: bool, rejection: Rejection) -> Stop {
        if unseen {
            return rejection.into();
        }
        Error::explain(ErrorType::InvalidHTTPHeader, rejection.message.into_owned()).into_up().into()
    }

    /// Extra time for an event that has begun when the time of the answer is over. A chunk may end in the middle of an event,
    /// and an error event can only be written between two events.
    fn grace(&self) -> Duration {
        let begun = self.is_stream && !self.answer.is_between_events() && !self.client.is_gone();
        if begun { limits::EVENT_GRACE } else { Duration::ZERO }
    }

    /// The upstream took too long.
    async fn give_up(&mut self, downstream: &mut Downstream<'_>, unseen: bool) -> Result<(), Stop> {
        let rejection = Rejection::new(Reason::UpstreamTimeout, "the upstream did not answer in time");
        let error = Error::explain(ErrorType::ReadTimedout, "the answer took too long");
        self.end(downstream, unseen, rejection, error.into_up()).await
    }

    /// Ends an answer early. A client that reads an event stream and waits for a response gets a JSON-RPC error as the last
    /// event, and a clean end. Any other answer is broken off with `error`, or refused with its status if the client has seen
    /// nothing yet (`unseen`).
    async fn end(
        &mut self,
        downstream: &mut Downstream<'_>,
        unseen: bool,
        rejection: Rejection,
        error: Box<Error>,
    ) -> Result<(), Stop> {
        let clean = !unseen && self.is_stream && self.answer.is_between_events() && !self.client.is_gone();
        if !clean {
            return Err(error.into());
        }
        if let Some(id) = &self.context.message.id {
            let error = error_message(Some(id), rejection.rpc_code(), &rejection.message, self.context.id.as_str());
            self.write(downstream, format!("event: message\ndata: {error}\n\n").into()).await?;
        }
        downstream.write_body(Bytes::new(), true).await.map_err(|error| error.into_down())?;
        if let Some(record) = &mut self.context.message.call {
            record.outcome = Some(CallOutcome::Failed);
        }
        self.context.rejection = Some(rejection);
        Ok(())
    }
}

/// Waits for the end of a credential; for ever, if nothing watches one.
async fn waits_for(end: Option<CredentialEnd>) {
    match end {
        Some(mut end) => end.comes().await,
        None => std::future::pending().await,
    }
}
