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
use crate::proxy::client::session::{ClientSession, Follows};
use crate::proxy::client::watch::{ClientWatch, Waited};
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::{Call, CallKind};
use crate::proxy::context::credential_end::Ending;
use crate::proxy::edge::Edge;
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::proxy::within::at_once;
use crate::proxy::{headers, mcp_session};

/// The comment that keeps a silent stream open.
const COMMENT: &[u8] = b":\n\n";

/// Passes on the answer that begins with `head`.
///
/// # Errors
/// The inner error is a refusal, when the client has seen nothing yet; the outer one says that the answer broke off.
pub(crate) async fn relay(
    edge: &Edge,
    session: &mut ClientSession<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    call: &Call,
    head: Box<ResponseHeader>,
    (upstream, client): (&mut Link, &mut ClientWatch),
) -> pingora::Result<Result<(), Rejection>> {
    let status = head.status;
    let answer = match Answer::new(status, &head.headers, call, route, edge.held.begin()) {
        Ok(answer) => answer,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let head = match head_for_client(head, &answer, session, context, (route, call)) {
        Ok(head) => head?,
        Err(rejection) => return Ok(Err(rejection)),
    };
    // The call has kept its message only if it may have to be repeated.
    if call.kind == CallKind::Initialize
        && !call.body.is_empty()
        && let Some(sealed) = head.headers.get(&SESSION_HEADER).and_then(|id| id.to_str().ok())
    {
        edge.resumptions.remember(sealed.to_owned(), call.body.clone()).await;
    }
    if let Some(open) = &call.session
        && session.req_header().method == Method::DELETE
        && status.is_success()
    {
        edge.resumptions.forget(&open.sealed).await;
    }
    let is_stream = answer.is_event_stream();
    if is_stream {
        context.becomes_stream();
    }
    let mut relay = Relay { context, route, call, answer, client, is_stream };
    let relayed = relay.run(session, upstream, head).await;
    let outcome = relay.answer.outcome(status, call);
    if let Some(record) = &mut context.call
        && matches!(relayed, Ok(Ok(())))
    {
        record.outcome.get_or_insert(outcome);
    }
    relayed
}

/// The head of the answer as the client may see it. The outer error is a refusal, the inner one a mistake of the edge.
fn head_for_client(
    mut head: Box<ResponseHeader>,
    answer: &Answer,
    session: &ClientSession<'_>,
    context: &RequestContext,
    (route, call): (&RouteContext, &Call),
) -> Result<pingora::Result<Box<ResponseHeader>>, Rejection> {
    for name in headers::hop_by_hop(&head.headers) {
        head.remove_header(&name);
    }
    match call.era {
        // There are no sessions in it.
        Era::Stateless => drop(head.remove_header(&SESSION_HEADER)),
        Era::Sessions => {
            let keys = &context.snapshot.session_keys;
            mcp_session::seal_response(&mut head, keys, route, context, call.session.as_ref())?;
        }
    }
    let finished = || {
        head.set_version(Version::HTTP_11);
        if answer.is_event_stream() {
            // nginx in front of the edge would hold events back.
            head.insert_header("x-accel-buffering", "no")?;
        }
        if answer.changes_length() {
            head.remove_header(&CONTENT_LENGTH);
        }
        let bodiless = session.req_header().method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let chunks = session.req_header().version != Version::HTTP_10;
        if !bodiless && chunks && !answer.holds_head() && !head.headers.contains_key(CONTENT_LENGTH) {
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        headers::to_client(&mut head, context, route)?;
        Ok(head)
    };
    Ok(finished())
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
    Ending,
}

impl Relay<'_> {
    async fn run(
        &mut self,
        session: &mut ClientSession<'_>,
        upstream: &mut Link,
        head: Box<ResponseHeader>,
    ) -> pingora::Result<Result<(), Rejection>> {
        let mut held = Some(head);
        // What has come of the body already, or that it is at its end. What cannot be passed on is still refused then.
        let mut ahead = at_once(pin!(upstream.read_body())).await;
        if ahead.is_none() {
            self.write_held(session, &mut held, Follows::Later).await?;
        }
        let mut clock = Clock::start(self.context, self.route, self.call, self.is_stream);
        // Made once: not for every piece.
        let ending = comes(self.is_stream.then(|| Ending::of(self.context, self.route, self.call.endless)).flatten());
        tokio::pin!(ending);
        let last = loop {
            let event = match ahead.take() {
                Some(piece) => Event::Piece(piece.map_err(|error| error.into_up())?),
                None => tokio::select! {
                    biased;
                    piece = upstream.read_body() => Event::Piece(piece.map_err(|error| error.into_up())?),
                    waited = self.client.waits(session, clock.next(self.grace())) => Event::Waited(waited?),
                    () = &mut ending => Event::Ending,
                },
            };
            match event {
                Event::Piece(Some(piece)) => {
                    let out = match self.answer.push(piece, self.route, self.context) {
                        Ok(out) => out,
                        Err(rejection) => return self.refuse(held.is_some(), rejection),
                    };
                    let progressed = self.answer.take_progress();
                    ahead = at_once(pin!(upstream.read_body())).await;
                    if matches!(ahead, Some(Ok(None))) {
                        // It goes out with the end.
                        break out;
                    }
                    let follows = if out.is_empty() { Follows::Later } else { Follows::AtOnce };
                    self.write_held(session, &mut held, follows).await?;
                    self.write(session, out).await?;
                    // The client's slowness is not the upstream's silence.
                    clock.piece(progressed, self.client.is_gone());
                    if clock.is_overdue(self.grace()) {
                        return self.give_up(session, held.is_some()).await;
                    }
                }
                Event::Piece(None) => break Bytes::new(),
                Event::Waited(Waited::NotYet) => {}
                Event::Ending => {
                    let rejection = Rejection::new(Reason::InvalidToken, "the credential is no longer good");
                    let error = Error::explain(ErrorType::ConnectionClosed, "the credential is no longer good");
                    return self.end(session, held.is_some(), rejection, error.into_down()).await;
                }
                Event::Waited(Waited::Enough) => {
                    let now = Instant::now();
                    if clock.is_late(now, self.grace()) {
                        return self.give_up(session, held.is_some()).await;
                    }
                    if clock.wants_comment(now) && self.answer.is_between_events() {
                        self.write(session, Bytes::from_static(COMMENT)).await?;
                    }
                }
            }
        };
        let rest = match self.answer.finish(self.route, self.context) {
            Ok(rest) => rest,
            Err(rejection) => return self.refuse(held.is_some(), rejection),
        };
        if let Some(mut head) = held.take() {
            if self.answer.holds_head() {
                head.insert_header(CONTENT_LENGTH, rest.len())?;
            }
            self.write_head(session, head, Follows::AtOnce).await?;
        }
        let last = match (last.is_empty(), rest.is_empty()) {
            (true, _) => rest,
            (_, true) => last,
            _ => [last, rest].concat().into(),
        };
        if !self.client.is_gone() && session.req_header().method != Method::HEAD {
            let written = session.write_body(last, true).await;
            written.or_else(|error| self.client.is_lost(error))?;
        }
        if self.client.is_gone() {
            return Err(Error::explain(ErrorType::ConnectionClosed, "the client has left").into_down());
        }
        Ok(Ok(()))
    }

    /// Writes the head, unless that is done or has to wait for the whole body.
    async fn write_held(
        &mut self,
        session: &mut ClientSession<'_>,
        held: &mut Option<Box<ResponseHeader>>,
        follows: Follows,
    ) -> pingora::Result<()> {
        match held.take_if(|_| !self.answer.holds_head()) {
            Some(head) => self.write_head(session, head, follows).await,
            None => Ok(()),
        }
    }

    async fn write_head(
        &mut self,
        session: &mut ClientSession<'_>,
        head: Box<ResponseHeader>,
        follows: Follows,
    ) -> pingora::Result<()> {
        let bodiless = session.req_header().method == Method::HEAD;
        let written = session.write_head(head, if bodiless { Follows::Nothing } else { follows }).await;
        written.or_else(|error| self.client.is_lost(error))
    }

    async fn write(&mut self, session: &mut ClientSession<'_>, piece: Bytes) -> pingora::Result<()> {
        if piece.is_empty() || self.client.is_gone() {
            return Ok(());
        }
        let written = session.write_body(piece, false).await;
        written.or_else(|error| self.client.is_lost(error))
    }

    /// The answer cannot be passed on.
    fn refuse(&self, unseen: bool, rejection: Rejection) -> pingora::Result<Result<(), Rejection>> {
        if unseen {
            return Ok(Err(rejection));
        }
        Err(Error::explain(ErrorType::InvalidHTTPHeader, rejection.message.into_owned()).into_up())
    }

    /// How long an event that has begun may go on when the answer's time is over: a piece ends anywhere, and an error can
    /// stand only between events.
    fn grace(&self) -> Duration {
        let begun = self.is_stream && !self.answer.is_between_events() && !self.client.is_gone();
        if begun { limits::EVENT_GRACE } else { Duration::ZERO }
    }

    /// The upstream took too long.
    async fn give_up(
        &mut self,
        session: &mut ClientSession<'_>,
        unseen: bool,
    ) -> pingora::Result<Result<(), Rejection>> {
        let rejection = Rejection::new(Reason::UpstreamTimeout, "the upstream did not answer in time");
        let error = Error::explain(ErrorType::ReadTimedout, "the answer took too long");
        self.end(session, unseen, rejection, error.into_up()).await
    }

    /// Ends an answer early. A client that reads a stream gets a JSON-RPC error as its last event, if it waits for an
    /// answer, and a clean end; anything else is broken off with `error`, which has a status of its own before the head.
    async fn end(
        &mut self,
        session: &mut ClientSession<'_>,
        unseen: bool,
        rejection: Rejection,
        error: Box<Error>,
    ) -> pingora::Result<Result<(), Rejection>> {
        let clean = !unseen && self.is_stream && self.answer.is_between_events() && !self.client.is_gone();
        if !clean {
            return Err(error);
        }
        if let Some(id) = &self.context.message_id {
            let error = error_message(Some(id), rejection.rpc_code(), &rejection.message, self.context.id.as_str());
            self.write(session, format!("event: message\ndata: {error}\n\n").into()).await?;
        }
        session.write_body(Bytes::new(), true).await.map_err(|error| error.into_down())?;
        if let Some(record) = &mut self.context.call {
            record.outcome = Some(CallOutcome::Failed);
        }
        self.context.rejection = Some(rejection);
        Ok(Ok(()))
    }
}

async fn comes(ending: Option<Ending>) {
    match ending {
        Some(mut ending) => ending.comes().await,
        None => std::future::pending().await,
    }
}
