//! MCP sessions at the edge: what clients see of them, and where they lead.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use super::context::RequestContext;
use super::headers;
use super::respond::Rejection;
use super::snapshot::RouteContext;
use crate::config::Rewrite;
use crate::mcp::{KeyRing, SessionOwner, SessionTarget};
use crate::metrics::RejectionReason as Reason;
use crate::types::{Principal, canonical_path};

/// The field that carries a session's id.
pub(super) static SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// The query parameter that carries a session of the 2024-11-05 transport.
const SESSION_PARAMETER: &str = "mcp_edge_session";

/// A session of the caller.
#[derive(Clone, Debug)]
pub(super) struct OpenSession {
    /// What the client calls it.
    pub(super) sealed: String,
    /// Where it lives.
    pub(super) target: SessionTarget,
    /// Whether it is of the 2024-11-05 transport: its target is a path, and it has no field.
    pub(super) legacy: bool,
}

/// The session that was opened last on a connection, with everything that decides what opens: most requests on it are of
/// the same one, and opening it again is most of what sessions cost.
#[derive(Debug)]
pub(super) struct LastOpened {
    sealed: String,
    target: SessionTarget,
    /// Of the snapshot, whose keys opened it.
    generation: u64,
    route: Arc<str>,
    principal: Option<Arc<Principal>>,
}

impl LastOpened {
    /// True when it was `sealed` that was opened, with the keys of `generation` and for `owner`.
    fn is(&self, sealed: &str, generation: u64, owner: SessionOwner<'_>) -> bool {
        fn whom(principal: &Principal) -> (&str, &str) {
            (principal.provider(), principal.subject())
        }
        self.generation == generation
            && self.sealed == sealed
            && *self.route == *owner.route
            && self.principal.as_deref().map(whom) == owner.principal.map(whom)
    }
}

/// 404, upon which a client initializes again (MCP 2025-11-25, "Session management").
pub(super) fn unknown() -> Rejection {
    Rejection::new(Reason::UnknownSession, "the session is not known here: initialize again")
}

fn owner<'a>(route: &'a RouteContext, context: &'a RequestContext) -> SessionOwner<'a> {
    let principal = context.permit.as_ref().and_then(|permit| permit.principal()).map(|principal| &**principal);
    SessionOwner { route: &route.settings.name, principal }
}

/// The session that a request names.
///
/// # Errors
/// It is not the caller's, not of this route, or made up.
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
        return Err(Rejection::new(Reason::BadRequest, "there is more than one Mcp-Session-Id"));
    }
    let (whose, generation) = (owner(route, context), context.snapshot.generation);
    let known = context.last_session.as_ref().filter(|last| last.is(sealed, generation, whose));
    let target = match known {
        Some(last) => last.target.clone(),
        None => {
            let target = context.snapshot.session_keys.open(sealed, whose).ok_or_else(unknown)?;
            let principal = context.permit.as_ref().and_then(|permit| permit.principal()).cloned();
            let (sealed, route) = (sealed.to_owned(), Arc::clone(&route.settings.name));
            let last = LastOpened { sealed, target: target.clone(), generation, route, principal };
            context.last_session = Some(Box::new(last));
            target
        }
    };
    // A path stands for a session of the old transport only: neither kind can be used as the other.
    if target.id.starts_with('/') != legacy {
        return Err(unknown());
    }
    Ok(Some(OpenSession { sealed: sealed.to_owned(), target, legacy }))
}

/// Puts what the client may see in the place of the upstream's own session id.
///
/// # Errors
/// The upstream has sent what is no session id.
pub(super) fn seal_response(
    response: &mut ResponseHeader,
    keys: &KeyRing,
    route: &RouteContext,
    context: &RequestContext,
    known: Option<&OpenSession>,
) -> Result<(), Rejection> {
    let bad = || Rejection::new(Reason::UpstreamFailed, "the upstream sent a session id that is none");
    let Some(id) = response.headers.get(&SESSION_HEADER) else { return Ok(()) };
    let id = id.to_str().map_err(|_| bad())?;
    let endpoint = context.endpoint.as_ref().ok_or_else(bad)?.endpoint().address();
    let sealed = match known {
        // The same session is called the same: some servers repeat its id in every response.
        Some(known) if known.target.id == id => known.sealed.clone(),
        _ if id.is_empty() || id.starts_with('/') => return Err(bad()),
        _ => {
            let target = SessionTarget { endpoint, id: id.to_owned() };
            keys.seal(&target, owner(route, context)).ok_or_else(bad)?
        }
    };
    let value = HeaderValue::from_str(&sealed).map_err(|_| bad())?;
    response.insert_header(SESSION_HEADER.clone(), value).map_err(|_| bad())
}

/// The public form of the URL in an `endpoint` event (MCP 2024-11-05, "HTTP with SSE"): the path that the client can
/// reach it at, with the session sealed in it. `None` for a URL on another host, which is none of the edge's.
pub(super) fn public_endpoint(
    announced: &str,
    keys: &KeyRing,
    route: &RouteContext,
    context: &RequestContext,
) -> Option<String> {
    let endpoint = context.endpoint.as_ref()?.endpoint();
    let host = headers::upstream_host(route, context);
    let base = reqwest::Url::parse(&format!("http://{host}")).ok()?.join(&context.target).ok()?;
    let url = base.join(announced).ok()?;
    if url.authority() != base.authority() && url.authority() != endpoint.authority() {
        return None;
    }
    let path = canonical_path(url.path().as_bytes()).ok()?;
    let id = url.query().map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
    let target = SessionTarget { endpoint: endpoint.address(), id };
    let sealed = keys.seal(&target, owner(route, context))?;
    let prefix = &route.settings.prefix;
    let public = match &route.settings.rewrite {
        Rewrite::Strip => format!("{prefix}{path}"),
        Rewrite::Keep if path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/')) => {
            path.into_owned()
        }
        Rewrite::Replace(inner) if path.strip_prefix(inner.as_str()).is_some_and(|rest| rest.starts_with('/')) => {
            format!("{prefix}{}", &path[inner.len()..])
        }
        // The path that the stream itself was opened at is one of this route in any case.
        Rewrite::Keep | Rewrite::Replace(_) => context.client.path.clone(),
    };
    Some(format!("{public}?{SESSION_PARAMETER}={sealed}"))
}
