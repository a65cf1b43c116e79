//! What a gateway asks its servers itself, in the name of a caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use ring::digest::{Context as Digest, SHA256};

use crate::auth::{Denial, Permit};
use crate::config::limits;
use crate::mcp::{encoded, response_of};
use crate::metrics::EndpointResult;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::MessageFields;
use crate::proxy::edge::Edge;
use crate::proxy::exchange::own::{self, Link};
use crate::proxy::gateway_memory::server_error::ServerError;
use crate::proxy::gateway_memory::session::{ServerSession, SessionKey};
use crate::proxy::mcp_session::SESSION_HEADER;
use crate::proxy::snapshot::{GatewayContext, GatewayServer};
use crate::proxy::{credential, endpoint};
use crate::types::{Operation, Principal, client_network};
use crate::upstream::Endpoint;

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
    pub(super) endpoint: Arc<Endpoint>,
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

    /// Stands for the caller, with all that servers may decide by, in the memory of the edge.
    pub(super) fn identity(&self, more: &[u8]) -> SessionKey {
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
            }
            // On an open gateway, callers are told apart by their addresses.
            None => add(client_network(self.context.client.address).to_string().as_bytes()),
        }
        add(more);
        let digest = digest.finish();
        std::array::from_fn(|index| digest.as_ref()[index])
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
        let fields = fields_of(session, ask.method, ask.name);
        let exchange = async {
            let (link, head, endpoint) = self.begin(permit, server, session, Method::POST, &fields, &ask.body).await?;
            let message = own::response(self.edge, link, &head, limits::GATEWAY_RESPONSE_BYTES).await?;
            if head.status == StatusCode::NOT_FOUND && matches!(session, ServerSession::Open { target: Some(_), .. }) {
                return Err(ServerError::Lost);
            }
            Ok(Reply { status: head.status, headers: head.headers.clone(), endpoint, message })
        };
        // Boxed, because a gateway waits for many of them at the same time.
        tokio::time::timeout(ask.limit, Box::pin(exchange)).await.map_err(|_| ServerError::Late)?
    }

    /// Begins an exchange, up to the head of the answer. The caller limits the time.
    pub(super) async fn begin(
        &self,
        permit: Permit,
        server: &GatewayServer,
        session: &ServerSession,
        method: Method,
        fields: &MessageFields,
        body: &Bytes,
    ) -> Result<(Link, Box<ResponseHeader>, Arc<Endpoint>), ServerError> {
        let mut context = self.context.branch(permit);
        context.target = server.target.to_string();
        let shown = credential::acquire(self.request, &mut context.access, &server.server).await;
        shown.map_err(ServerError::Credential)?;
        let request = own::request_as(self.request, method)?;
        let target = match session {
            ServerSession::Open { target, .. } => target.as_ref(),
            ServerSession::Stateless => None,
        };
        loop {
            let endpoint = match target {
                Some(target) => {
                    let endpoint = server.server.upstream.endpoint(target.endpoint).filter(|at| at.is_healthy());
                    endpoint.filter(|at| !context.attempt.tried.contains(&at.address())).ok_or(ServerError::Lost)?
                }
                None => endpoint::choose(self.request, &context.client, &context.attempt, &server.server)
                    .map_err(|_| ServerError::Unreachable)?,
            };
            context.attempt.begin(&endpoint);
            let session = target.map(|target| target.id.as_str());
            let message = own::Message { request: &request, session, fields, body };
            match own::send(self.edge, &context, &server.server, &endpoint, message).await {
                Ok((link, head)) => {
                    endpoint.finished(EndpointResult::Ok);
                    return Ok((link, head, endpoint));
                }
                Err(error) => {
                    context.attempt.failed(EndpointResult::Failed);
                    context.attempt.tried.push(endpoint.address());
                    if context.attempt.tried.len() >= limits::INITIALIZE_ATTEMPTS {
                        return Err(error.into());
                    }
                }
            }
        }
    }
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
