//! Passes an upstream's answer on to the client, piece by piece, as it comes.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::alone::go_on_alone;
use super::answer::Answer;
use super::answer_head::{head_for_client, head_of_tunnel};
use super::clock::Clock;
use super::lasting::waits_for;
use super::link::Link;
use super::pump::{Event, Limits, Pump, Wanted};
use super::resume;
use super::upload::Upload;
use super::upstream_head::Upgrade;
use crate::config::limits;
use crate::mcp::error_message;
use crate::metrics::{CallOutcome, RejectionReason as Reason};
use crate::proxy::client::downstream::Downstream;
use crate::proxy::client::transfer::Follows;
use crate::proxy::client::watch::ClientWatch;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::Outgoing;
use crate::proxy::context::credential_end::CredentialEnd;
use crate::proxy::context::rejection::{Rejection, Stop};
use crate::proxy::edge::Edge;
use crate::proxy::headers;
use crate::proxy::resumptions::streams::SessionStream;
use crate::proxy::snapshot::ServerContext;

/// The comment that keeps a silent stream open.
const COMMENT: &[u8] = b":\n\n";

/// What an answer passes through, and what it belongs to.
pub(crate) struct Passage<'a> {
    pub(crate) route: &'a ServerContext,
    pub(crate) outgoing: &'a Outgoing,
    pub(crate) upgrade: Option<&'a Upgrade>,
    pub(crate) link: &'a mut Link,
    pub(crate) upload: &'a mut Upload,
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
    let Passage { route, outgoing, upgrade, link, upload, client } = passage;
    let status = head.status;
    let answer = Answer::new(status, &head.headers, outgoing.call.as_ref(), route, edge.held.begin(route.owner))?;
    let kind = match status {
        StatusCode::SWITCHING_PROTOCOLS => Kind::Tunnel,
        _ if answer.is_event_stream() => Kind::Events,
        _ => Kind::Other,
    };
    let head = match kind {
        Kind::Tunnel => head_of_tunnel(head, upgrade, context, route)?,
        Kind::Events | Kind::Other => head_for_client(head, &answer, downstream, context, route, outgoing)?,
    };
    if let Some(call) = &outgoing.call {
        resume::remember(edge, downstream, &head, outgoing).await;
        if let Some(open) = &call.session
            && downstream.req_header().method == Method::DELETE
            && status.is_success()
            && route.settings.sessions.resume
        {
            edge.resumptions.forget(&open.sealed).await;
        }
    }
    let lasts = kind != Kind::Other || answer.is_call_stream();
    if lasts {
        context.becomes_stream();
    }
    if kind == Kind::Other {
        client.is_answered();
    }
    let pump = Pump { downstream, link, upload, client };
    let resumes = route.settings.sessions.resume && outgoing.through_gateway().is_none();
    let session = outgoing.session().filter(|open| resumes && !open.legacy);
    let stream = session.filter(|_| lasts).map(|open| edge.resumptions.streams.open(&open.sealed));
    let mut relay = Relay { edge, pump, context, route, outgoing, answer, kind, stream };
    let relayed = match kind {
        Kind::Tunnel => relay.tunnel(head).await,
        Kind::Events | Kind::Other => relay.run(head, lasts).await,
    };
    if let Some(call) = &outgoing.call
        && let Some(record) = &mut relay.context.message.call
        && relayed.is_ok()
    {
        record.outcome.get_or_insert(relay.answer.outcome(status, call));
    }
    relayed
}

struct Relay<'x, 'd> {
    edge: &'x Edge,
    pump: Pump<'x, 'd>,
    context: &'x mut RequestContext,
    route: &'x ServerContext,
    outgoing: &'x Outgoing,
    answer: Answer,
    kind: Kind,
    /// On routes whose sessions can move.
    stream: Option<SessionStream>,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An event stream.
    Events,
    /// Bytes in both directions.
    Tunnel,
    Other,
}

impl Relay<'_, '_> {
    /// `lasts`: the answer ends with the caller's credential.
    async fn run(&mut self, head: Box<ResponseHeader>, lasts: bool) -> Result<(), Stop> {
        let mut held = Some(head);
        // What has come of the body already, or that the body has ended. An answer that cannot be passed on can still be
        // refused then.
        let mut ahead = self.ahead().await;
        if ahead.is_none() {
            self.queue_held(&mut held)?;
        }
        let mut clock = self.clock();
        // Made once, not for every piece.
        let credential_end = lasts.then(|| self.credential_end()).flatten();
        let moved = self.stream.as_ref().map(SessionStream::watch);
        let mut credential_end = pin!(waits_for(credential_end, moved).fuse());
        let last = loop {
            let piece = match ahead.take() {
                Some(piece) => piece?,
                None => match self.next(Wanted::Body, &mut clock, &held, credential_end.as_mut()).await? {
                    Next::Piece(piece) => piece,
                    Next::Over => return Ok(()),
                    Next::Written => continue,
                },
            };
            let Some(piece) = piece else { break Bytes::new() };
            let out = match self.answer.push(piece, self.route, self.context) {
                Ok(out) => out,
                Err(rejection) => return Err(self.refusal(held.is_some(), rejection)),
            };
            let progressed = self.answer.take_progress();
            if self.answer.takes_list_change()
                && let Some(through) = self.outgoing.through_gateway()
            {
                self.edge.gateways.heard_change(through.server).await;
            }
            ahead = self.ahead().await;
            if matches!(ahead, Some(Ok(None))) {
                // This piece is the last: it goes out with the end.
                break out;
            }
            self.queue_held(&mut held)?;
            self.queue(out)?;
            if ahead.is_some() {
                // The next piece is there. It has to wait until this one is written.
                if let Next::Over = self.written(&mut clock, &held, credential_end.as_mut()).await? {
                    return Ok(());
                }
            }
            // Counted from here, because a client that reads slowly does not make the upstream silent.
            clock.piece(progressed, self.pump.client.is_gone());
            if clock.is_overdue(self.grace()) {
                return self.give_up(held.is_some()).await;
            }
        };
        let rest = match self.answer.finish(self.route, self.context) {
            Ok(rest) => rest,
            Err(rejection) => return Err(self.refusal(held.is_some(), rejection)),
        };
        let last = match (last.is_empty(), rest.is_empty()) {
            (true, _) => rest,
            (_, true) => last,
            _ => [last, rest].concat().into(),
        };
        self.queue_end(held.take(), last).await?;
        if let Next::Over = self.written(&mut clock, &held, credential_end.as_mut()).await? {
            return Ok(());
        }
        if self.pump.client.is_gone() {
            return Err(ClientWatch::has_left().into());
        }
        Ok(())
    }

    /// Passes bytes on in both directions, until one side closes.
    async fn tunnel(&mut self, head: Box<ResponseHeader>) -> Result<(), Stop> {
        *self.pump.client = ClientWatch::new(true);
        self.pump.downstream.queue_switch(head)?;
        self.pump.upload.becomes_tunnel();
        let mut clock = self.clock();
        let mut credential_end = pin!(waits_for(self.credential_end(), None).fuse());
        loop {
            match self.next(Wanted::Body, &mut clock, &None, credential_end.as_mut()).await? {
                Next::Piece(Some(piece)) => {
                    self.queue(piece)?;
                    clock.piece(false, false);
                }
                Next::Piece(None) => break,
                Next::Over => return Ok(()),
                Next::Written => {}
            }
        }
        self.pump.downstream.queue(Bytes::new(), true)?;
        self.written(&mut clock, &None, credential_end.as_mut()).await?;
        Ok(())
    }

    fn clock(&self) -> Clock {
        let deadline = self.outgoing.call.as_ref().and_then(|call| call.deadline);
        Clock::start(self.context.started, self.route, deadline, self.kind == Kind::Events)
    }

    /// Polls once for what comes next of the answer's body.
    async fn ahead(&mut self) -> Option<pingora::Result<Option<Bytes>>> {
        poll_fn(|cx| match self.pump.link.poll_body(cx) {
            Poll::Ready(piece) => Poll::Ready(Some(piece.map_err(|error| error.into_up()))),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Waits until everything queued was written.
    async fn written(
        &mut self,
        clock: &mut Clock,
        held: &Option<Box<ResponseHeader>>,
        mut credential_end: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Next, Stop> {
        clock.waits_for_client();
        let next = loop {
            match self.next(Wanted::Written, clock, held, credential_end.as_mut()).await? {
                Next::Piece(_) => {}
                next => break next,
            }
        };
        clock.goes_on();
        Ok(next)
    }

    /// Waits for what is wanted, and does what has to be done meanwhile.
    async fn next(
        &mut self,
        wanted: Wanted,
        clock: &mut Clock,
        held: &Option<Box<ResponseHeader>>,
        mut credential_end: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Next, Stop> {
        loop {
            clock.uploaded(self.pump.upload.last());
            // A client that waits for an event stream is never written to while nothing happens.
            let patience = match self.kind {
                Kind::Events => Some(Duration::ZERO),
                Kind::Tunnel => Some(limits::HALF_CLOSED),
                Kind::Other => None,
            };
            let limits = Limits { deadline: clock.next(self.grace()), patience };
            match self.pump.next(wanted, limits, credential_end.as_mut()).await? {
                Event::Piece(piece) => return Ok(Next::Piece(Some(piece))),
                Event::End => return Ok(Next::Piece(None)),
                Event::Written => return Ok(Next::Written),
                Event::Head(_) => {}
                Event::Abandoned => go_on_alone(self.edge, self.pump.downstream, self.context)?,
                // The client of a tunnel closes its side first.
                Event::Left if self.kind == Kind::Tunnel => return Ok(Next::Over),
                Event::Left => return Err(ClientWatch::has_left().into()),
                // The session goes on at another endpoint, and so does the client when this stream has ended.
                Event::CredentialEnded if self.stream.as_ref().is_some_and(SessionStream::is_over) => {
                    return Ok(Next::Piece(None));
                }
                Event::CredentialEnded => {
                    let rejection = Rejection::new(Reason::InvalidToken, "the credential is no longer valid");
                    let error = Error::explain(ErrorType::ConnectionClosed, "the credential is no longer valid");
                    self.end(held.is_some(), rejection, error.into_down()).await?;
                    return Ok(Next::Over);
                }
                Event::Late => {
                    clock.uploaded(self.pump.upload.last());
                    let now = Instant::now();
                    if clock.is_late(now, self.grace()) {
                        self.give_up(held.is_some()).await?;
                        return Ok(Next::Over);
                    }
                    if clock.wants_comment(now) && self.answer.is_between_events() && wanted == Wanted::Body {
                        self.queue(Bytes::from_static(COMMENT))?;
                    }
                }
            }
        }
    }

    fn credential_end(&self) -> Option<CredentialEnd> {
        let access = &self.context.access;
        let endless = self.outgoing.call.as_ref().is_none_or(|call| call.endless);
        CredentialEnd::of(access.permit.as_ref(), access.revocations_checked, self.route, endless)
    }

    /// Queues the head, unless it was queued, or has to wait until the whole body is known.
    fn queue_held(&mut self, held: &mut Option<Box<ResponseHeader>>) -> pingora::Result<()> {
        match held.take_if(|_| !self.answer.holds_head()) {
            Some(head) => self.queue_head(head),
            None => Ok(()),
        }
    }

    fn queue_head(&mut self, head: Box<ResponseHeader>) -> pingora::Result<()> {
        let follows = if self.is_head() { Follows::Nothing } else { Follows::Body };
        let queued = self.pump.downstream.queue_head(head, follows);
        queued.or_else(|error| self.pump.client.is_lost(error))
    }

    fn is_head(&self) -> bool {
        self.pump.downstream.req_header().method == Method::HEAD
    }

    fn queue(&mut self, piece: Bytes) -> pingora::Result<()> {
        if piece.is_empty() || self.pump.client.is_gone() {
            return Ok(());
        }
        let queued = self.pump.downstream.queue(piece, false);
        queued.or_else(|error| self.pump.client.is_lost(error))
    }

    /// Queues the last piece with the end of the body, and the trailers of a gRPC call. `held`: the head, if it is not queued
    /// yet.
    async fn queue_end(&mut self, held: Option<Box<ResponseHeader>>, last: Bytes) -> Result<(), Stop> {
        let trailers = if self.answer.is_call_stream() { self.trailers().await? } else { None };
        if let Some(mut head) = held {
            if self.answer.holds_head() {
                head.insert_header(CONTENT_LENGTH, last.len())?;
            }
            if self.pump.downstream.is_http2() && last.is_empty() && trailers.is_none() {
                // The head ends the stream. Clients of gRPC insist on that.
                self.pump.downstream.queue_head(head, Follows::Nothing)?;
                return Ok(());
            }
            self.queue_head(head)?;
        }
        if self.pump.client.is_gone() || self.is_head() {
            return Ok(());
        }
        let queued = match trailers {
            Some(trailers) => {
                self.pump.downstream.queue(last, false)?;
                self.pump.downstream.queue_trailers(trailers)
            }
            None => self.pump.downstream.queue(last, true),
        };
        Ok(queued.or_else(|error| self.pump.client.is_lost(error))?)
    }

    /// The trailers behind the body, which has ended.
    async fn trailers(&mut self) -> Result<Option<HeaderMap>, Stop> {
        let limit = self.route.upstream.settings().timeouts.response.0;
        let Ok(read) = tokio::time::timeout(limit, self.pump.link.read_trailers()).await else {
            self.pump.link.leave_connection();
            return Err(Error::explain(ErrorType::ReadTimedout, "the trailers took too long").into_up().into());
        };
        let mut trailers = read.map_err(|error| error.into_up())?;
        trailers.iter_mut().for_each(headers::strip_trailers);
        Ok(trailers)
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
        let begun = self.kind == Kind::Events && !self.answer.is_between_events() && !self.pump.client.is_gone();
        if begun { limits::EVENT_GRACE } else { Duration::ZERO }
    }

    /// The upstream took too long. When nothing happens in an event stream, a tunnel or the stream of a gRPC call, that says nothing
    /// of its connection.
    async fn give_up(&mut self, unseen: bool) -> Result<(), Stop> {
        if self.kind == Kind::Other && !self.answer.is_call_stream() {
            self.pump.link.leave_connection();
        }
        let rejection = Rejection::new(Reason::UpstreamTimeout, "the upstream did not answer in time");
        let error = Error::explain(ErrorType::ReadTimedout, "the answer took too long");
        self.end(unseen, rejection, error.into_up()).await
    }

    /// Ends an answer early. A client that reads an event stream and waits for a response gets a JSON-RPC error as the last
    /// event, and a clean end. Any other answer is broken off with `error`, or refused with its status if the client has seen
    /// nothing yet (`unseen`).
    async fn end(&mut self, unseen: bool, rejection: Rejection, error: Box<Error>) -> Result<(), Stop> {
        let clean =
            !unseen && self.kind == Kind::Events && self.answer.is_between_events() && !self.pump.client.is_gone();
        if !clean {
            return Err(error.into());
        }
        if let Some(id) = &self.context.message.id {
            let error = error_message(Some(id), rejection.rpc_code(), &rejection.message, self.context.id.as_str());
            self.pump.downstream.queue(format!("event: message\ndata: {error}\n\n").into(), true)?;
        } else {
            self.pump.downstream.queue(Bytes::new(), true)?;
        }
        self.pump.downstream.flush().await?;
        if let Some(record) = &mut self.context.message.call {
            record.outcome = Some(CallOutcome::Failed);
        }
        self.context.rejection = Some(rejection);
        Ok(())
    }
}

/// What a relay does next.
enum Next {
    /// It passes a piece of the answer on; `None`: the answer has ended.
    Piece(Option<Bytes>),
    /// Everything queued was written.
    Written,
    /// Nothing: the answer was ended.
    Over,
}
