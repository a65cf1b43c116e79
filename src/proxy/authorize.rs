//! The caller's permission, or what a client is told that has none.

use http::HeaderValue;
use pingora::http::RequestHeader;

use super::context::RequestContext;
use super::reject::Rejection;
use super::snapshot::RouteContext;
use super::wellknown::ResourceUrl;
use crate::auth::{AuthError, Challenge, Denial, OriginalRequest, Permit};
use crate::config::{Authentication, RouteAudiences};
use crate::metrics::RejectionReason as Reason;
use crate::types::{ClientCertificate, Operation, Principal, ScopeSet};

/// Finds out who sends the request, and whether the route is open to them at all.
pub(super) async fn request(
    header: &RequestHeader,
    context: &RequestContext,
    route: &RouteContext,
    query: Option<&str>,
    certificate: Option<&ClientCertificate>,
) -> Result<Permit, Rejection> {
    let principal = match (&route.authenticator, &route.settings.auth) {
        (Some(authenticator), Some(auth)) => {
            let path = &context.client.path;
            let uri = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
            let origin = format!("{}://{}", context.client.scheme, context.client.authority);
            let request = OriginalRequest {
                headers: &header.headers,
                method: header.method.as_str(),
                origin: &origin,
                uri: &uri,
                certificate,
            };
            let principal = authenticator.authenticate(&request).await;
            let meant = principal.and_then(|principal| match is_meant_for(&principal, &auth.audiences) {
                true => Ok(principal),
                false => Err(AuthError::Denied("the token is for another audience")),
            });
            Some(meant.map_err(|error| unauthenticated(error, auth, context))?)
        }
        (None, None) => None,
        // Building a snapshot makes both or none; were it otherwise, nobody gets in.
        _ => return Err(Rejection::new(Reason::Internal, "the route is not ready")),
    };
    route.policy.authorize(principal, [Operation::Request]).map_err(|denial| denied(&denial, route, context))
}

/// Whether the caller's credential was issued for this route (MCP "Authorization", token audience binding).
fn is_meant_for(principal: &Principal, audiences: &RouteAudiences) -> bool {
    let Some(meant) = principal.audiences() else { return true };
    match audiences {
        RouteAudiences::OfProviders => true,
        RouteAudiences::Listed(listed) => meant.iter().any(|audience| listed.contains(audience)),
        RouteAudiences::Own(url, providers) => !providers.contains(principal.provider()) || meant.contains(url),
    }
}

/// 403 with all scopes that are needed (RFC 6750 section 3.1, MCP "Authorization", insufficient scope).
pub(super) fn denied(denial: &Denial, route: &RouteContext, context: &RequestContext) -> Rejection {
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
    Challenge { error, scopes, resource_metadata: &resource.metadata }.to_header()
}
