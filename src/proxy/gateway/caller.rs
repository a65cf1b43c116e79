//! What a gateway asks its servers itself, in the name of a caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use ring::digest::{Context as Digest, SHA256};
use tokio::time::{Instant, timeout_at};

use crate::auth::{Authenticator, Denial, Permit};
use crate::config::limits;
use crate::mcp::{MessageId, ServerFacts, encoded, response_of};
use crate::metrics::EndpointResult;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::MessageFields;
use crate::proxy::edge::Edge;
use crate::proxy::exchange::own::{self, Link, Unanswered};
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::{ServerSession, SessionKey};
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::{GatewayContext, GatewayServer};
use crate::proxy::{credential, endpoint};
use crate::types::{KnownMethod, Operation, Principal, client_network};
use crate::upstream::InFlightGuard;

/// The current revision, which has no sessions.
pub(super) const STATELESS_VERSION: &str = "2026-07-28";

/// A caller of a gateway.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) edge: &'a Edge,
    pub(super) gateway: &'a GatewayContext,
    pub(super) context: &'a RequestContext,
    /// The head of the caller's request.
    pub(super) request: &'a RequestHeader,
}

/// A message to a server.
#[derive(Clone, Debug)]
pub(super) struct Ask<'m> {
    pub(super) method: &'m str,
    /// `Mcp-Name`, where the server expects one.
    pub(super) name: Option<&'m str>,
    pub(super) body: Bytes,
    /// How long the server may take.
    pub(super) limit: Duration,
}

/// The answer of a server.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) endpoint: SocketAddr,
    /// The JSON-RPC response.
    message: Option<Vec<u8>>,
}

impl Reply {
    /// The session id in the head.
    pub(super) fn session_id(&self) -> Option<&str> {
        self.headers.get(&SESSION_HEADER)?.to_str().ok().filter(|id| !id.is_empty())
    }

    /// The result.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn result(&self) -> Result<&str, ServerError> {
        match self.message.as_deref().and_then(response_of) {
            Some(Ok(result)) => Ok(result.get()),
            Some(Err(error)) => Err(ServerError::Refused(message_of(error.get()))),
            None if !self.status.is_success() => Err(ServerError::Status(self.status)),
            None => Err(ServerError::Junk("an answer without a response")),
        }
    }

    /// The code of the JSON-RPC error in the answer.
    pub(super) fn error_code(&self) -> Option<i64> {
        let error = self.message.as_deref().and_then(response_of)?.err()?;
        serde_json::from_str::<serde_json::Value>(error.get()).ok()?.get("code")?.as_i64()
    }
}

/// The text of a JSON-RPC error.
fn message_of(error: &str) -> String {
    let error: serde_json::Value = serde_json::from_str(error).unwrap_or_default();
    let text = error.get("message").and_then(serde_json::Value::as_str).unwrap_or("without a message");
    text.chars().take(limits::LOGGED_NAME).collect()
}

/// True when the server's route accepts callers whom this provider has validated. Which scopes they need is for its policy to say.
fn accepts(server: &GatewayServer, principal: Option<&Arc<Principal>>) -> bool {
    match (&server.server.settings.auth, principal) {
        (None, _) => true,
        (Some(auth), Some(principal)) => auth.providers.contains(principal.provider()),
        (Some(_), None) => false,
    }
}

impl<'a> Caller<'a> {
    /// Asks the policy of the server's route, which decides here as it decides there.
    ///
    /// # Errors
    /// The caller may not do one of `operations` there.
    pub(super) fn permit<'o>(
        &self,
        server: &GatewayServer,
        operations: impl IntoIterator<Item = Operation<'o>>,
    ) -> Result<Permit, Denial> {
        let principal = self.context.access.principal();
        if !accepts(server, principal) {
            return Err(Denial::default());
        }
        server.server.policy.authorize(principal.cloned(), operations)
    }

    /// True when the server's route accepts callers of this provider.
    pub(super) fn is_accepted(&self, server: &GatewayServer) -> bool {
        accepts(server, self.context.access.principal())
    }

    /// Stands for the caller at `server`, with all that the server may decide by, in the memory of the edge.
    pub(super) fn identity(&self, server: &GatewayServer, more: &[u8]) -> SessionKey {
        let mut digest = Digest::new(&SHA256);
        let mut add = |part: &[u8]| {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        match self.context.access.principal() {
            Some(principal) => {
                add(principal.provider().as_bytes());
                add(principal.subject().as_bytes());
                add(principal.grant().scopes_text().as_bytes());
                // What the server is shown may be made from the caller's own credential.
                if server.server.credential.is_some() {
                    add(principal.credential().map_or(&[][..], |digest| &digest[..]));
                }
            }
            // On an open gateway, callers are told apart by their addresses.
            None => add(client_network(self.context.client.address).to_string().as_bytes()),
        }
        for name in self.gateway.route.authenticator.iter().flat_map(Authenticator::context_headers) {
            for value in self.request.headers.get_all(name) {
                add(name.as_str().as_bytes());
                add(value.as_bytes());
            }
        }
        add(more);
        let digest = digest.finish();
        std::array::from_fn(|index| digest.as_ref()[index])
    }

    /// What the server has said about itself to this caller.
    pub(super) async fn facts(&self, server: &GatewayServer, session: &ServerSession) -> Option<Arc<ServerFacts>> {
        self.edge.gateways.facts(server, session, self.identity(server, b"")).await
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// The caller may not use the method there, or the server gives no answer.
    pub(super) async fn ask(
        &self,
        server: &GatewayServer,
        session: &ServerSession,
        ask: Ask<'_>,
    ) -> Result<Reply, ServerError> {
        let permit = self.permit(server, [Operation::Method(ask.method)]).map_err(|_| ServerError::Denied)?;
        self.ask_as(permit, server, session, ask).await
    }

    /// As [`ask`](Self::ask), for what the gateway itself needs to know: it is enough that the caller may use the route at all.
    pub(super) async fn ask_itself(
        &self,
        server: &GatewayServer,
        session: &ServerSession,
        ask: Ask<'_>,
    ) -> Result<Reply, ServerError> {
        let permit = self.permit(server, [Operation::Request]).map_err(|_| ServerError::Denied)?;
        self.ask_as(permit, server, session, ask).await
    }

    /// As [`ask`](Self::ask), for what `permit` allows.
    pub(super) async fn ask_as(
        &self,
        permit: Permit,
        server: &GatewayServer,
        session: &ServerSession,
        ask: Ask<'_>,
    ) -> Result<Reply, ServerError> {
        let id = MessageId::of_request(&ask.body);
        let repeats = KnownMethod::only_reads(ask.method) || ask.method == "initialize";
        let sending =
            Sending { method: Method::POST, fields: fields_of(session, ask.method, ask.name), body: ask.body, repeats };
        let until = Instant::now() + ask.limit;
        let exchange = async {
            let Begun { link, head, guard } = self.begin(permit, server, session, &sending, until).await?;
            let id = id.as_ref().map(MessageId::as_json);
            let message = own::response(link, &head, limits::GATEWAY_RESPONSE_BYTES, id, until).await?;
            if head.status == StatusCode::NOT_FOUND && matches!(session, ServerSession::Open { target: Some(_), .. }) {
                return Err(ServerError::Lost);
            }
            let endpoint = guard.endpoint().address();
            Ok(Reply { status: head.status, headers: head.headers.clone(), endpoint, message })
        };
        // Boxed, because a gateway waits for many of them at the same time. Its type would be too deep for the compiler otherwise.
        timeout_at(until, exchange.boxed()).await.map_err(|_| ServerError::Late)?
    }

    /// Begins an exchange, up to the head of the answer, which has to be there at `until`. The caller limits the time for what
    /// comes before: credentials and connections.
    ///
    /// # Errors
    /// There is no answer. The session is lost only if its endpoint is certainly gone.
    pub(super) async fn begin(
        &self,
        permit: Permit,
        server: &GatewayServer,
        session: &ServerSession,
        sending: &Sending,
        until: Instant,
    ) -> Result<Begun, ServerError> {
        let Sending { method, fields, body, repeats } = sending;
        let upstream = &server.server.upstream;
        let mut context = self.context.branch(permit);
        context.target = server.target.to_string();
        let request = own::request_as(self.request, method.clone())?;
        let target = match session {
            ServerSession::Open { target, .. } => target.as_ref(),
            ServerSession::Stateless => None,
        };
        let mut again = false;
        loop {
            // A signed assertion may be used once.
            let shown = credential::acquire(self.request, &mut context.access, &server.server).await;
            shown.map_err(ServerError::Credential)?;
            let endpoint = match target {
                Some(target) => match upstream.endpoint(target.endpoint) {
                    Some(endpoint) if endpoint.is_healthy() => endpoint,
                    // Nobody else has the session, and the endpoint may come back with the others.
                    Some(_) if !upstream.is_healthy() => return Err(ServerError::Unreachable),
                    _ => return Err(ServerError::Lost),
                },
                None => endpoint::choose(self.request, &context.client, &context.attempt, &server.server)
                    .map_err(|_| ServerError::Unreachable)?,
            };
            context.attempt.begin(&endpoint);
            let session = target.map(|target| target.id.as_str());
            let message = own::Message { request: &request, session, fields, body, until };
            let Unanswered { error, unsent, was_idle } =
                match own::send(self.edge, &context, &server.server, &endpoint, message).await {
                    Ok((link, head)) => {
                        endpoint.finished(EndpointResult::Ok);
                        let guard = context.attempt.endpoint.take().ok_or(ServerError::Unreachable)?;
                        return Ok(Begun { link, head, guard });
                    }
                    Err(unanswered) => unanswered,
                };
            context.attempt.failed(if unsent { EndpointResult::ConnectError } else { EndpointResult::Failed });
            if was_idle && *repeats && !std::mem::replace(&mut again, true) {
                continue;
            }
            context.attempt.tried.push(endpoint.address());
            let is_refused = matches!(error.etype(), ErrorType::ConnectRefused | ErrorType::ConnectNoRoute);
            match target {
                Some(_)
                    if is_refused
                        && endpoint::choose(self.request, &context.client, &context.attempt, &server.server)
                            .is_ok() =>
                {
                    return Err(ServerError::Lost);
                }
                None if unsent && context.attempt.tried.len() < limits::INITIALIZE_ATTEMPTS => {}
                _ => return Err(error.into()),
            }
        }
    }
}

/// What is sent to a server.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) method: Method,
    pub(super) fields: MessageFields,
    pub(super) body: Bytes,
    /// It may be sent once more if the server has closed an idle connection.
    pub(super) repeats: bool,
}

/// An exchange whose answer has begun.
pub(super) struct Begun {
    pub(super) link: Link,
    pub(super) head: Box<ResponseHeader>,
    /// The exchange counts at its endpoint as long as this lives.
    pub(super) guard: InFlightGuard,
}

/// What the head of a message to a server says about it.
pub(super) fn fields_of(session: &ServerSession, method: &str, name: Option<&str>) -> MessageFields {
    match session {
        ServerSession::Stateless => MessageFields {
            version: Some(HeaderValue::from_static(STATELESS_VERSION)),
            method: Some(encoded(method)),
            name: name.map(encoded),
            last_event: None,
        },
        // `initialize` has no version yet.
        ServerSession::Open { .. } if method == "initialize" => MessageFields::default(),
        ServerSession::Open { version, .. } => {
            MessageFields { version: Some(HeaderValue::from_static(version)), ..MessageFields::default() }
        }
    }
}
