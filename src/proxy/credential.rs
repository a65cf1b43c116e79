//! What the upstream is shown in place of the client's credential.

use pingora::http::RequestHeader;

use super::context::Access;
use super::context::rejection::Rejection;
use super::snapshot::ServerContext;
use crate::auth::UpstreamTokenError;
use crate::metrics::RejectionReason as Reason;

/// Acquires the route's credential for this caller. It is called for permitted requests, before anything is sent to the
/// upstream.
///
/// # Errors
/// There is no credential for this caller, or none can be had now.
pub(super) async fn acquire(
    request: &RequestHeader,
    access: &mut Access,
    route: &ServerContext,
) -> Result<(), Rejection> {
    let Some(credential) = &route.credential else { return Ok(()) };
    let principal = access.permit.as_ref().and_then(|permit| permit.principal());
    let shown = credential.show(principal, &request.headers).await;
    access.credential = Some(shown.map_err(|error| match error {
        UpstreamTokenError::Refused(message) => Rejection::new(Reason::CredentialRefused, message),
        UpstreamTokenError::Unavailable(message) => Rejection::new(Reason::AuthUnavailable, message),
    })?);
    Ok(())
}
