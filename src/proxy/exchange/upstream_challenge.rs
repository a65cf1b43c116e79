//! What clients see of a 401 or 403 of an upstream.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::auth::announced_metadata;
use crate::metrics::RejectionReason as Reason;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::context::{Client, RequestContext};
use crate::proxy::location::is_at_public_host;
use crate::proxy::snapshot::ServerContext;

/// Takes challenges out that would lead clients to another host: on a route with `auth`, only the edge says where clients get
/// tokens.
///
/// # Errors
/// The upstream refuses the credential that the edge has shown. The caller is not at fault, and the challenge is not for them.
pub(super) fn check(
    response: &mut ResponseHeader,
    route: &ServerContext,
    context: &RequestContext,
) -> Result<(), Rejection> {
    let (client, access) = (&context.client, &context.access);
    // If the client's own `Authorization` went along, the refusal may be about that.
    let only_of_the_edge = route.credential.is_some() && !route.settings.forward_token && !access.leaves_authorization;
    let is_challenge = response.headers.contains_key(WWW_AUTHENTICATE);
    match response.status {
        // A 403 without a challenge may be about what the caller wants to do.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            if only_of_the_edge && (is_challenge || response.status == StatusCode::UNAUTHORIZED) =>
        {
            let message = "the upstream does not accept the credential of the edge";
            return Err(Rejection::new(Reason::UpstreamRefused, message));
        }
        // What counts is where the client has called, which may be a gateway.
        _ if !is_challenge || context.route.as_ref().is_none_or(|entrance| entrance.settings.auth.is_none()) => {
            return Ok(());
        }
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

/// True for a challenge without a metadata URL, or with one at the host at which the client has called.
fn is_own(field: &HeaderValue, route: &ServerContext, client: &Client) -> bool {
    announced_metadata(field)
        .is_some_and(|urls| urls.iter().all(|url| is_path(url) || is_at_public_host(url, route, client)))
}

/// True for a path, which stays at its host.
fn is_path(url: &str) -> bool {
    url.starts_with('/') && !url.starts_with("//")
}
