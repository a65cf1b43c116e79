//! MCP sessions at the edge: the ids that clients see, and the endpoints that they lead to.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use super::context::opened_session::{LastOpened, OpenSession};
use super::context::rejection::Rejection;
use super::context::{Access, RequestContext};
use super::headers;
use super::location;
use super::location::MappedPath;
use super::snapshot::{RouteContext, ServerContext};
use crate::mcp::{SealedSession, SessionOwner, SessionTarget};
use crate::metrics::{CallOutcome, RejectionReason as Reason};
use crate::types::canonical_path;

/// The field that carries a session's id.
pub(super) static SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// The query parameter that carries a session of the 2024-11-05 transport.
const SESSION_PARAMETER: &str = "mcp_edge_session";

/// 404: the client initializes again (MCP 2025-11-25, "Session management").
pub(super) fn unknown() -> Rejection {
    // This code, with this status, is what clients recover from.
    Rejection::of_message(Reason::UnknownSession, -32001, "Session not found: initialize again")
}

fn owner<'a>(route: &'a RouteContext, access: &'a Access) -> SessionOwner<'a> {
    SessionOwner { route: &route.settings.name, principal: access.principal().map(|principal| &**principal) }
}

/// The session that a request names.
///
/// # Errors
/// The session is not the caller's, belongs to another route, or was made up.
pub(super) fn open(
    headers: &HeaderMap,
    query: Option<&str>,
    route: &RouteContext,
    context: &mut RequestContext,
) -> Result<Option<OpenSession>, Rejection> {
    let mut fields = headers.get_all(&SESSION_HEADER).iter();
    let legacy = query
        .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix(SESSION_PARAMETER)?.strip_prefix('=')));
    let (sealed, legacy) = match (fields.next(), legacy) {
        (Some(field), None) => (field.to_str().map_err(|_| unknown())?, false),
        (None, Some(sealed)) => (sealed, true),
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Rejection::new(Reason::BadRequest, "the request names two sessions")),
    };
    if fields.next().is_some() {
        return Err(Rejection::new(Reason::BadRequest, "Mcp-Session-Id is sent more than once: send it once"));
    }
    let (owner, generation) = (owner(route, &context.access), context.snapshot.generation);
    let known = context.memo.last_session.as_ref().filter(|last| last.is(sealed, generation, owner));
    let (target, said) = match known {
        Some(last) => (last.target.clone(), last.said.clone()),
        None => {
            let opened = context.snapshot.session_keys.open(sealed, owner).ok_or_else(|| {
                // It was made up, or belongs to another caller, or to another route.
                if let Some(call) = &mut context.message.call {
                    call.outcome = Some(CallOutcome::Denied);
                }
                unknown()
            })?;
            let SealedSession { target, said } = opened;
            let said = Bytes::from(said);
            let principal = context.access.principal().cloned();
            let (sealed, route) = (sealed.to_owned(), Arc::clone(&route.settings.name));
            let last = LastOpened { sealed, target: target.clone(), said: said.clone(), generation, route, principal };
            context.memo.last_session = Some(Box::new(last));
            (target, said)
        }
    };
    // A target that is a path belongs to the 2024-11-05 transport. An id of one transport is not valid in the other.
    if target.id.starts_with('/') != legacy || (legacy && !leads_to(&context.target, &target.id, route)) {
        return Err(unknown());
    }
    Ok(Some(OpenSession { sealed: sealed.to_owned(), target, said, legacy }))
}

/// True when the path that the client has asked for, and that was authorized, leads to the path of its session. `asked`: as the
/// upstream would see it.
fn leads_to(asked: &str, sealed: &str, route: &RouteContext) -> bool {
    let path = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
    let sealed = path(sealed);
    // A path outside of what the route maps has no public form, so the client was given the path of its stream.
    path(asked) == sealed || location::map(&sealed, &route.settings).is_none()
}

/// Replaces the upstream's own session id in an answer with a sealed one. `known`: the session of the request. `said`: the client's
/// `initialize`, packed, if the id shall carry it.
///
/// # Errors
/// The upstream has sent an invalid session id.
pub(super) fn seal_response(
    response: &mut ResponseHeader,
    route: &RouteContext,
    context: &RequestContext,
    known: Option<&OpenSession>,
    said: &[u8],
) -> Result<(), Rejection> {
    let bad = || Rejection::new(Reason::UpstreamFailed, "the upstream sent an invalid session id");
    let Some(id) = response.headers.get(&SESSION_HEADER) else { return Ok(()) };
    let id = id.to_str().map_err(|_| bad())?;
    let endpoint = context.attempt.endpoint.as_ref().ok_or_else(bad)?.endpoint().address();
    let sealed = match known {
        // Some servers repeat the id in every answer. The client keeps the sealed id that it has.
        Some(known) if known.target.id == id => known.sealed.clone(),
        _ if id.is_empty() || id.starts_with('/') => return Err(bad()),
        _ => {
            let target = SessionTarget { endpoint, id: id.to_owned() };
            context.snapshot.session_keys.seal(&target, said, owner(route, &context.access)).ok_or_else(bad)?
        }
    };
    let value = HeaderValue::from_str(&sealed).map_err(|_| bad())?;
    response.insert_header(SESSION_HEADER.clone(), value).map_err(|_| bad())
}

/// The public form of the URL in an `endpoint` event (MCP 2024-11-05, "HTTP with SSE"): the path at which the client can
/// reach it, with the session sealed in the query. `None` for a URL on another host, which the edge does not serve.
pub(super) fn public_endpoint(announced: &str, route: &ServerContext, context: &RequestContext) -> Option<String> {
    let endpoint = context.attempt.endpoint.as_ref()?.endpoint();
    let host = headers::upstream_host(route, &context.client, &context.attempt);
    let base = reqwest::Url::parse(&format!("http://{host}")).ok()?.join(&context.target).ok()?;
    let url = base.join(announced).ok()?;
    // A server may know its public host.
    let names = [base.authority(), endpoint.authority(), endpoint.label(), &context.client.authority];
    if !names.contains(&url.authority()) && !location::is_at_public_host(url.as_str(), route, &context.client) {
        return None;
    }
    let path = canonical_path(url.path().as_bytes()).ok()?;
    // The path at which the stream was opened certainly belongs to this route.
    let MappedPath { inner, public } = location::map(&path, &route.settings)
        .unwrap_or_else(|| MappedPath { inner: path.to_string(), public: context.client.path.clone() });
    let id = url.query().map_or_else(|| inner.clone(), |query| format!("{inner}?{query}"));
    let target = SessionTarget { endpoint: endpoint.address(), id };
    let sealed = context.snapshot.session_keys.seal(&target, b"", owner(route, &context.access))?;
    Some(format!("{public}?{SESSION_PARAMETER}={sealed}"))
}
