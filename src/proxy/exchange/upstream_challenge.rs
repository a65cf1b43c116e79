//! What clients see of a 401 or 403 of an upstream.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::auth::announced_metadata;
use crate::metrics::RejectionReason as Reason;
use crate::proxy::context::Client;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::location::is_at_public_host;
use crate::proxy::snapshot::RouteContext;

/// Takes challenges out that would lead clients to another host: on a route with `auth`, only the edge says where clients get
/// tokens.
///
/// # Errors
/// The upstream refuses the credential that the edge has shown. The caller is not at fault, and the challenge is not for them.
pub(super) fn check(response: &mut ResponseHeader, route: &RouteContext, client: &Client) -> Result<(), Rejection> {
    let is_challenge = response.headers.contains_key(WWW_AUTHENTICATE);
    match response.status {
        // A 403 without a challenge may be about what the caller wants to do.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            if route.credential.is_some() && (is_challenge || response.status == StatusCode::UNAUTHORIZED) =>
        {
            let message = "the upstream does not accept the credential of the edge";
            return Err(Rejection::new(Reason::UpstreamRefused, message));
        }
        _ if !is_challenge || route.settings.auth.is_none() => return Ok(()),
        _ => {}
    }
    let fields: Vec<HeaderValue> = response.headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect();
    let (own, foreign): (Vec<_>, Vec<_>) = fields.into_iter().partition(|field| is_own(field, route, client));
    if !foreign.is_empty() {
        response.remove_header(&WWW_AUTHENTICATE);
        for field in own {
            // The same map has held it before.
            let _ = response.append_header(WWW_AUTHENTICATE, field);
        }
        route.metrics.misleading.inc();
    }
    Ok(())
}

/// True for a challenge that leads nowhere, or to the host at which the client has called.
fn is_own(field: &HeaderValue, route: &RouteContext, client: &Client) -> bool {
    announced_metadata(field).is_some_and(|urls| urls.iter().all(|url| is_at_public_host(url, route, client)))
}
