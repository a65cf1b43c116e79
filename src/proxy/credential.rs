//! What the upstream is shown in place of the client's credential, made before anything is sent there.

use pingora::http::RequestHeader;

use super::context::RequestContext;
use super::respond::Rejection;
use crate::auth::UpstreamTokenError;
use crate::metrics::RejectionReason as Reason;

/// Puts the route's credential for this caller into `context`. It is called for requests that are permitted, in the one
/// place of each way to an upstream: the start of an MCP exchange, and what Pingora is told to go on with.
///
/// # Errors
/// There is none for this caller, or none now. Nothing is sent to the upstream.
pub(super) async fn acquire(request: &RequestHeader, context: &mut RequestContext) -> Result<(), Rejection> {
    let Some(credential) = context.route.as_ref().and_then(|route| route.credential.clone()) else { return Ok(()) };
    let principal = context.permit.as_ref().and_then(|permit| permit.principal());
    let shown = credential.show(principal, &request.headers).await;
    context.credential = Some(shown.map_err(|error| match error {
        UpstreamTokenError::Refused(message) => Rejection::new(Reason::CredentialRefused, message),
        UpstreamTokenError::Unavailable(message) => Rejection::new(Reason::AuthUnavailable, message),
    })?);
    Ok(())
}
