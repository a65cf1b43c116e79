//! The caller's permission, or what a client is told that has none.

use http::HeaderValue;

use super::wellknown::ResourceUrl;
use crate::auth::{Asked, AskedOperation, AuthError, Challenge, Denial, OriginalRequest, Permit, Refusal};
use crate::config::{Authentication, RouteAudiences};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::session::ClientSession;
use crate::proxy::context::RequestContext;
use crate::proxy::headers;
use crate::proxy::respond::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::types::{ClientCertificate, Operation, Principal, ScopeSet};

/// What providers may look at.
pub(crate) fn original<'a>(
    session: &'a ClientSession<'_>,
    context: &'a RequestContext,
    query: Option<&'a str>,
    operation: Option<&'a AskedOperation>,
) -> OriginalRequest<'a> {
    let header = session.req_header();
    OriginalRequest {
        headers: &header.headers,
        method: header.method.as_str(),
        scheme: context.client.scheme,
        authority: &context.client.authority,
        path: &context.client.path,
        query,
        operation,
        certificate: client_certificate(session),
    }
}

/// What the client has shown when the connection was made; the listener has verified it. Both versions of HTTP know it.
fn client_certificate<'a>(session: &'a ClientSession<'_>) -> Option<&'a ClientCertificate> {
    session.tls()?.extension.get()
}

/// Refuses a request whose fields an authentication server would read otherwise than the upstream.
pub(crate) fn check_fields(session: &ClientSession<'_>, route: &RouteContext) -> Result<(), Rejection> {
    let Some(authenticator) = &route.authenticator else { return Ok(()) };
    let fields = &session.req_header().headers;
    if headers::named_in_connection(fields).any(|name| authenticator.shows(&name)) {
        let message = "`Connection` names a field that this route's authentication server decides on";
        return Err(Rejection::new(Reason::BadRequest, message));
    }
    match authenticator.context_headers().find(|name| fields.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => Err(Rejection::new(Reason::BadRequest, format!("there is more than one `{name}`"))),
        None => Ok(()),
    }
}

/// Finds out who sends the request, and whether the route is open to them at all. Beside the permit there is what makes it
/// shorter for a request with the same head.
pub(crate) async fn request(
    request: &OriginalRequest<'_>,
    context: &RequestContext,
    route: &RouteContext,
) -> Result<(Permit, Option<Asked>), Rejection> {
    let mut asked = None;
    let principal = match (&route.authenticator, &route.settings.auth) {
        (Some(authenticator), Some(auth)) => {
            let caller = authenticator.authenticate(request, context.asked).await;
            let meant = caller.and_then(|(principal, again)| match is_meant_for(&principal, &auth.audiences) {
                true => {
                    asked = again;
                    Ok(principal)
                }
                false => Err(AuthError::Denied("the token is for another audience")),
            });
            Some(meant.map_err(|error| unauthenticated(error, auth, context))?)
        }
        (None, None) => None,
        // Building a snapshot makes both or none; were it otherwise, nobody gets in.
        _ => return Err(Rejection::new(Reason::Internal, "the route is not ready")),
    };
    let permit = route.policy.authorize(principal, [Operation::Request]);
    permit.map(|permit| (permit, asked)).map_err(|denial| denied(&denial, route, context))
}

/// Whether the caller's credential was issued for this route (MCP "Authorization", token audience binding).
fn is_meant_for(principal: &Principal, audiences: &RouteAudiences) -> bool {
    let Some(meant) = principal.grant().audiences() else { return true };
    match audiences {
        RouteAudiences::OfProviders => true,
        RouteAudiences::Listed(listed) => meant.iter().any(|audience| listed.contains(audience)),
        RouteAudiences::Own(url, providers) => !providers.contains(principal.provider()) || meant.contains(url),
    }
}

/// 403 with all scopes that are needed (RFC 6750 section 3.1, MCP "Authorization", insufficient scope).
pub(crate) fn denied(denial: &Denial, route: &RouteContext, context: &RequestContext) -> Rejection {
    let message = if denial.scopes.is_empty() {
        "the policy of this route does not allow this".to_owned()
    } else {
        format!("this needs the scopes `{}`", denial.scopes)
    };
    let rejection = Rejection::new(Reason::InsufficientScope, message);
    match &route.settings.auth {
        Some(auth) => rejection.with_challenge(challenge(Some("insufficient_scope"), &denial.scopes, auth, context)),
        None => rejection,
    }
}

/// What the authentication server said, beside what only the edge knows: where the metadata is.
fn refused(refusal: &Refusal, auth: &Authentication, context: &RequestContext) -> Rejection {
    let (reason, message, error) = match refusal.forbidden {
        false => (Reason::InvalidToken, "the authentication server does not accept the credential", "invalid_token"),
        true => (Reason::InsufficientScope, "the authentication server refuses the request", "insufficient_scope"),
    };
    let resource = ResourceUrl::new(auth, &context.client, &context.client.path);
    let challenge = Challenge {
        error: Some(refusal.error.as_deref().unwrap_or(error)),
        description: refusal.description.as_deref(),
        scopes: if refusal.scopes.is_empty() { &auth.scopes } else { &refusal.scopes },
        resource_metadata: &resource.metadata,
    };
    let rejection = Rejection::new(reason, message).with_challenge(challenge.to_header());
    refusal.others.iter().cloned().fold(rejection, Rejection::with_challenge)
}

fn unauthenticated(error: AuthError, auth: &Authentication, context: &RequestContext) -> Rejection {
    let scopes = &auth.scopes;
    match error {
        AuthError::Missing => Rejection::new(Reason::Unauthenticated, "no credential was sent")
            .with_challenge(challenge(None, scopes, auth, context)),
        AuthError::Denied(message) => Rejection::new(Reason::InvalidToken, message).with_challenge(challenge(
            Some("invalid_token"),
            scopes,
            auth,
            context,
        )),
        AuthError::Forbidden(message) => Rejection::new(Reason::InsufficientScope, message).with_challenge(challenge(
            Some("insufficient_scope"),
            scopes,
            auth,
            context,
        )),
        AuthError::Refused(refusal) => refused(&refusal, auth, context),
        AuthError::BadRequest(message) => Rejection::new(Reason::BadRequest, message),
        AuthError::Unavailable(message) => Rejection::new(Reason::AuthUnavailable, message),
    }
}

/// Only those who are refused are told where the metadata is.
fn challenge(
    error: Option<&'static str>,
    scopes: &ScopeSet,
    auth: &Authentication,
    context: &RequestContext,
) -> HeaderValue {
    let resource = ResourceUrl::new(auth, &context.client, &context.client.path);
    Challenge { error, description: None, scopes, resource_metadata: &resource.metadata }.to_header()
}
