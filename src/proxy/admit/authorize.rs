//! Who the caller is and whether they may use the route, or what a client without permission is told.

use http::HeaderValue;

use super::wellknown::ResourceUrl;
use crate::auth::{AuthError, Challenge, Denial, OperationFields, OriginalRequest, Refusal};
use crate::config::{Authentication, RouteAudiences};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::context::{Client, RequestContext};
use crate::proxy::headers;
use crate::proxy::snapshot::RouteContext;
use crate::types::{ClientCertificate, Operation, Principal, ScopeSet};

/// What providers may see of the request.
pub(crate) fn original<'a>(
    downstream: &'a Downstream<'_>,
    client: &'a Client,
    operation: Option<&'a OperationFields>,
) -> OriginalRequest<'a> {
    let header = downstream.req_header();
    OriginalRequest {
        headers: &header.headers,
        method: header.method.as_str(),
        scheme: client.scheme,
        authority: &client.authority,
        path: &client.path,
        query: client.query.as_deref(),
        operation,
        certificate: client_certificate(downstream),
    }
}

/// The certificate that the client has shown in the TLS handshake. The listener has verified it.
fn client_certificate<'a>(downstream: &'a Downstream<'_>) -> Option<&'a ClientCertificate> {
    downstream.tls()?.extension.get()
}

/// Refuses a request whose fields the authentication server and the upstream would read differently.
pub(crate) fn check_fields(downstream: &Downstream<'_>, route: &RouteContext) -> Result<(), Rejection> {
    let Some(authenticator) = &route.authenticator else { return Ok(()) };
    let fields = &downstream.req_header().headers;
    if headers::named_in_connection(fields).any(|name| authenticator.shows(&name)) {
        let message = "`Connection` names a field that this route's authentication server decides on";
        return Err(Rejection::new(Reason::BadRequest, message));
    }
    match authenticator.context_headers().find(|name| fields.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => Err(Rejection::new(Reason::BadRequest, format!("there is more than one `{name}` field"))),
        None => Ok(()),
    }
}

/// Finds out who sends the request, and whether they may use the route at all. The permit, and what makes the next request with
/// the same head cheaper, are in `context` afterwards.
///
/// # Errors
/// There is no valid credential, or it does not open the route, or a provider cannot tell.
pub(crate) async fn authorize(
    downstream: &Downstream<'_>,
    context: &mut RequestContext,
    route: &RouteContext,
    operation: Option<&OperationFields>,
) -> Result<(), Rejection> {
    let mut cached_lookup = None;
    let principal = match (&route.authenticator, &route.settings.auth) {
        (Some(authenticator), Some(auth)) => {
            context.access.revocations_checked = authenticator.revocations().generation();
            let headers = &downstream.req_header().headers;
            context.access.leaves_authorization = authenticator.leaves_authorization(headers);
            let request = original(downstream, &context.client, operation);
            let caller = authenticator.authenticate(&request, context.memo.cached_lookup).await;
            let meant = caller.and_then(|(principal, lookup)| {
                match is_meant_for(&principal, &auth.audiences, &context.client, route) {
                    true => {
                        cached_lookup = lookup;
                        Ok(principal)
                    }
                    false => Err(AuthError::Denied("the token is for another audience")),
                }
            });
            Some(meant.map_err(|error| unauthenticated(error, auth, route, &context.client))?)
        }
        (None, None) => None,
        // A snapshot has both or none. If it had only one, nobody would get in.
        _ => return Err(Rejection::new(Reason::Internal, "the route is not ready")),
    };
    let permit = route.policy.authorize(principal, [Operation::Request]);
    context.access.permit = Some(permit.map_err(|denial| denied(&denial, route, &context.client))?);
    context.memo.cached_lookup = cached_lookup;
    Ok(())
}

/// True when the caller's credential was issued for this route (MCP "Authorization", token audience binding).
fn is_meant_for(principal: &Principal, audiences: &RouteAudiences, client: &Client, route: &RouteContext) -> bool {
    let Some(meant) = principal.grant().audiences() else { return true };
    match audiences {
        RouteAudiences::OfProviders => true,
        RouteAudiences::Listed(listed) => meant.iter().any(|audience| listed.contains(audience)),
        RouteAudiences::Own(url, providers) => {
            // `check` sees what is configured, and the listener is as it was at start.
            let is_checked = client.host_is_listed || !route.settings.hosts.is_empty();
            let is_own =
                |audience: &String| (is_checked || !url.is_of_any_host()) && url.is_named_by(audience, &client.host);
            !providers.contains(principal.provider()) || meant.iter().any(is_own)
        }
    }
}

/// 403 with all scopes that are needed (RFC 6750 section 3.1, MCP "Authorization", insufficient scope).
pub(crate) fn denied(denial: &Denial, route: &RouteContext, client: &Client) -> Rejection {
    let message = if denial.scopes.is_empty() {
        "the policy of this route does not allow this".to_owned()
    } else {
        format!("this needs the scopes `{}`", denial.scopes)
    };
    let rejection = Rejection::new(Reason::InsufficientScope, message);
    match &route.settings.auth {
        // Where no scope helps, a challenge would send the client to the login page for nothing (RFC 6750 section 3.1).
        Some(auth) if !denial.scopes.is_empty() => {
            rejection.with_challenge(challenge(Some("insufficient_scope"), &denial.scopes, auth, route, client))
        }
        _ => rejection,
    }
}

/// Passes on what the authentication server said, with the URL of the metadata, which only the edge knows.
fn refused(refusal: &Refusal, auth: &Authentication, route: &RouteContext, client: &Client) -> Rejection {
    let (reason, message, error) = match refusal.forbidden {
        false => (Reason::InvalidToken, "the authentication server does not accept the credential", "invalid_token"),
        true => (Reason::InsufficientScope, "the authentication server refuses the request", "insufficient_scope"),
    };
    let metadata = metadata(auth, route, client);
    let challenge = Challenge {
        error: Some(refusal.error.as_deref().unwrap_or(error)),
        description: refusal.description.as_deref(),
        scopes: if refusal.scopes.is_empty() { &auth.scopes } else { &refusal.scopes },
        resource_metadata: metadata.as_deref(),
    };
    let rejection = Rejection::new(reason, message).with_challenge(challenge.to_header());
    refusal.others.iter().cloned().fold(rejection, Rejection::with_challenge)
}

fn unauthenticated(error: AuthError, auth: &Authentication, route: &RouteContext, client: &Client) -> Rejection {
    let challenge = |error| challenge(error, &auth.scopes, auth, route, client);
    match error {
        AuthError::Missing => {
            Rejection::new(Reason::Unauthenticated, "no credential was sent").with_challenge(challenge(None))
        }
        AuthError::Denied(_) | AuthError::Claim { .. } => {
            Rejection::new(Reason::InvalidToken, error.to_string()).with_challenge(challenge(Some("invalid_token")))
        }
        AuthError::Forbidden(message) => {
            Rejection::new(Reason::InsufficientScope, message).with_challenge(challenge(Some("insufficient_scope")))
        }
        AuthError::Refused(refusal) => refused(&refusal, auth, route, client),
        AuthError::BadRequest(message) => Rejection::new(Reason::BadRequest, message),
        AuthError::Unavailable(message) => Rejection::new(Reason::AuthUnavailable, message),
    }
}

fn challenge(
    error: Option<&'static str>,
    scopes: &ScopeSet,
    auth: &Authentication,
    route: &RouteContext,
    client: &Client,
) -> HeaderValue {
    let metadata = metadata(auth, route, client);
    Challenge { error, description: None, scopes, resource_metadata: metadata.as_deref() }.to_header()
}

/// The URL of the route's metadata, which is made only for those who are refused. `None`: the route takes keys or
/// certificates only, and a client that looked for an authorization server would register nowhere.
fn metadata(auth: &Authentication, route: &RouteContext, client: &Client) -> Option<String> {
    route.authenticator.as_ref().filter(|authenticator| authenticator.takes_tokens())?;
    Some(ResourceUrl::new(auth, client, &client.path).metadata)
}
