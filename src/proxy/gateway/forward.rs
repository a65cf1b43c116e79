//! Passes a request of a client on to the server that it is for, through the exchange that path routes use. Only the name in it
//! changes, and what belongs to the other era where client and server are of different ones. Answers pass as they are.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::caller::{Caller, fields_of};
use super::open::{ClientSession, lost, session_at, stateless_members};
use super::resolve::Found;
use crate::config::limits;
use crate::mcp::{Era, IdRestore, Message, ServerMark, SessionTarget, Splice};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::admit;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::call::{
    Call, CallKind, CallRecord, HeldBody, MessageFields, Outgoing, OutgoingBody, ThroughGateway,
};
use crate::proxy::context::opened_session::OpenSession;
use crate::proxy::context::rejection::{Rejection, Stop};
use crate::proxy::context::{Attempt, RequestContext};
use crate::proxy::edge::Edge;
use crate::proxy::exchange;
use crate::proxy::gateway_memory::server_error::{ServerError, told};
use crate::proxy::gateway_memory::session::ServerSession;
use crate::proxy::mcp_session::unknown;
use crate::proxy::snapshot::GatewayContext;
use crate::types::{KnownMethod, Operation, Target};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Tool,
    Prompt,
    Resource,
    Task,
}

impl About {
    fn target(self, name: &str) -> Target<'_> {
        match self {
            Self::Tool => Target::Tool(name),
            Self::Prompt => Target::Prompt(name),
            Self::Resource => Target::Resource(name),
            Self::Task => Target::Task(name),
        }
    }
}

/// A request of a client for one server.
pub(super) struct Request<'m> {
    pub(super) client: ClientSession<'m>,
    pub(super) message: &'m Message<'m>,
    pub(super) method: &'m str,
    pub(super) era: Era,
    pub(super) body: HeldBody,
}

/// Passes a request on to the server that `found` names.
///
/// # Errors
/// The policy of the server's route denies it, the server gives no answer, or the exchange broke off.
pub(super) async fn forward(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &GatewayContext,
    request: Request<'_>,
    (about, found): (About, Found),
) -> Result<(), Stop> {
    let Request { client, message, method, era, body } = request;
    let Found { server, name } = found;
    let server = &server;
    let shown_server = &server.settings.name;
    context.server = Some(Arc::clone(&server.server.route));
    let operation = Operation::Targeted(method, about.target(&name));
    if let Some(record) = &mut context.message.call
        && about == About::Tool
    {
        record.tool = Some(CallRecord::tool(&name));
    }
    let caller = Caller { edge, gateway, context, request: downstream.req_header() };
    // As on the server's own route: first the scopes that every request needs, and then the rules.
    if caller.is_accepted(server) {
        let every = caller.permit(server, [Operation::Request]);
        every.map_err(|denial| admit::denied(&denial, &gateway.route, &context.client))?;
    }
    let permit = caller.permit(server, [operation]);
    let permit = permit.map_err(|denial| admit::refuse(context, &gateway.route, denial, Some(message), era))?;
    let session_error = |error: ServerError| match error {
        // Another edge has what the client said, or nobody has: the client initializes again.
        ServerError::Forgotten => unknown(),
        error => error.rejection(shown_server),
    };
    let mut session = session_at(caller, client, server).await.map_err(session_error)?;
    let version = downstream.req_header().headers.get(crate::mcp::VERSION_HEADER).cloned();
    context.access.permit = Some(permit);
    // It is the gateway's.
    context.access.leaves_authorization = false;
    context.target = server.target.to_string();
    // The memory of a large message counts until its answer has ended, because the message is kept as long.
    let HeldBody { bytes: original, held: _held } = body;
    let mut attempts_left = 1;
    loop {
        let mut splice = Splice::new(&original).ok_or_else(|| internal("the message cannot be changed"))?;
        let in_reference = method == "completion/complete";
        match about {
            About::Tool | About::Prompt => splice.set_name(&name, in_reference),
            About::Resource => splice.set_uri(&name, in_reference),
            About::Task => splice.set_task(&name),
        }
        if era == Era::Sessions && session == ServerSession::Stateless {
            let said = match client {
                ClientSession::Open(session) => session.params(),
                ClientSession::Stateless => None,
            };
            splice.set_meta(&stateless_members(said.as_deref()));
        }
        let mut fields = fields_of(&session, method, Some(&name));
        if era == Era::Stateless && session == ServerSession::Stateless {
            fields.version = version.clone().or(fields.version);
        }
        let (target, mark) = match &session {
            ServerSession::Open { target, .. } => (target.clone(), Some(server.mark)),
            ServerSession::Stateless => (None, None),
        };
        // Clients of the era without sessions share the session, and may use the same id.
        let shares = era == Era::Stateless && mark.is_some();
        let restore = message.id.as_ref().filter(|_| shares).map(|id| IdRestore::new(id.as_json()));
        if let Some(restore) = &restore {
            splice.set_id(restore.token());
        }
        let open = target.map(of_gateway);
        let in_session = open.is_some();
        let call = Call {
            era,
            kind: CallKind::Request { only_reads: KnownMethod::only_reads(method) },
            session: open,
            endless: false,
            deadline: (about == About::Tool).then(|| server.server.policy.timeout(&name)).flatten(),
            gateway: Some(Box::new(ThroughGateway { fields, mark, restore, server: server.key })),
        };
        let body = HeldBody { bytes: splice.finish().into(), held: None };
        // A large message is not kept for a second attempt, because the answer may take long.
        let again = attempts_left > 0 && in_session && original.len() <= limits::SMALL_BODY_BYTES;
        let outgoing = Outgoing { body: OutgoingBody::Held(body), call: Some(call), upgrades: false };
        let stop = match exchange::run(edge, downstream, context, &server.server, outgoing).await {
            Ok(()) => return Ok(()),
            Err(stop) => stop,
        };
        match stop {
            Stop::Rejected(rejection) if rejection.reason == Reason::UnknownSession && in_session => {
                attempts_left -= 1;
                let caller = Caller { edge, gateway, context, request: downstream.req_header() };
                session =
                    lost(caller, client, server, &session).await.map_err(|error| error.rejection(shown_server))?;
                if !again {
                    return Err(ServerError::Lost.rejection(shown_server).into());
                }
                context.attempt = Attempt::default();
            }
            Stop::Rejected(rejection) if rejection.is_upstream_failure() => {
                return Err(told(&rejection, shown_server).into());
            }
            Stop::Rejected(rejection) => return Err(rejection.into()),
            Stop::Broken(error) => {
                if context.rejection.is_none() {
                    let rejection = Rejection::from_error(&error).filter(Rejection::is_upstream_failure);
                    context.rejection = rejection.map(|rejection| told(&rejection, shown_server));
                }
                return Err(error.into());
            }
        }
    }
}

/// Goes on with a stream of the server with this mark, which broke off after the event `last_event` (MCP 2025-11-25, "Resumability and
/// Redelivery").
///
/// # Errors
/// The caller may not use the server any more, the server gives no answer, or the exchange broke off.
pub(super) async fn resume_stream(
    edge: &Edge,
    downstream: &mut Downstream<'_>,
    context: &mut RequestContext,
    gateway: &GatewayContext,
    client: ClientSession<'_>,
    (mark, last_event): (ServerMark, HeaderValue),
) -> Result<(), Stop> {
    let server = gateway.servers.iter().find(|server| server.mark == mark).ok_or_else(unknown)?;
    let caller = Caller { edge, gateway, context, request: downstream.req_header() };
    let permit = caller.permit(server, [Operation::Request]);
    let permit = permit.map_err(|denial| admit::refuse(context, &gateway.route, denial, None, Era::Sessions))?;
    let session = session_at(caller, client, server).await.map_err(|error| error.rejection(&server.settings.name))?;
    let ServerSession::Open { target: Some(target), .. } = &session else { return Err(unknown().into()) };
    let fields = MessageFields { last_event: Some(last_event), ..fields_of(&session, "", None) };
    context.server = Some(Arc::clone(&server.server.route));
    context.access.permit = Some(permit);
    context.access.leaves_authorization = false;
    context.target = server.target.to_string();
    let call = Call {
        era: Era::Sessions,
        kind: CallKind::Get,
        session: Some(of_gateway(target.clone())),
        endless: true,
        deadline: None,
        gateway: Some(Box::new(ThroughGateway { fields, mark: Some(mark), restore: None, server: server.key })),
    };
    let body = OutgoingBody::Held(HeldBody::default());
    exchange::run(edge, downstream, context, &server.server, Outgoing { body, call: Some(call), upgrades: false }).await
}

/// A session that the client does not see: it has the id of the gateway's session only.
fn of_gateway(target: SessionTarget) -> OpenSession {
    OpenSession { sealed: String::new(), target, said: Bytes::new(), legacy: false }
}

fn internal(message: &'static str) -> Rejection {
    Rejection::new(Reason::Internal, message)
}
