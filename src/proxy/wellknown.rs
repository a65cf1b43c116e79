//! Protected resource metadata (RFC 9728), one document per route.

use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::context::{Client, RequestContext};
use super::reject::{self, Rejection};
use crate::auth::Metadata;
use crate::config::Authentication;
use crate::metrics::RejectionReason;

/// Where the documents are: this, and behind it the path of the resource (RFC 9728 section 3.1).
const PREFIX: &str = "/.well-known/oauth-protected-resource";

/// The path of the resource whose metadata is asked for, if it is.
pub(super) fn resource_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PREFIX)?;
    match rest {
        "" => Some("/"),
        _ if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// A protected resource as clients know it, and where its metadata is.
pub(super) struct ResourceUrl {
    pub(super) resource: String,
    pub(super) metadata: String,
}

impl ResourceUrl {
    /// The route's `public_url`, or else what the client itself used.
    pub(super) fn new(auth: &Authentication, client: &Client, path: &str) -> Self {
        match &auth.public_url {
            Some(url) => {
                let path = if url.path() == "/" { "" } else { url.path() };
                let metadata = format!("{}{PREFIX}{path}", url.origin().ascii_serialization());
                Self { resource: url.to_string(), metadata }
            }
            None => {
                let origin = format!("{}://{}", client.scheme, client.authority);
                let below = if path == "/" { "" } else { path };
                Self { resource: format!("{origin}{below}"), metadata: format!("{origin}{PREFIX}{below}") }
            }
        }
    }
}

/// Answers with the metadata of the route of `path`; it needs no credential. False when that route is open, or there is
/// none: then the request is one like any other, and a server behind the edge may have a document of its own.
pub(super) async fn answer(
    session: &mut Session,
    context: &RequestContext,
    host: &str,
    path: &str,
) -> pingora::Result<Result<bool, Rejection>> {
    let Some(route) = context.snapshot.router.find(host, path) else { return Ok(Ok(false)) };
    let (Some(authenticator), Some(auth)) = (&route.authenticator, &route.settings.auth) else { return Ok(Ok(false)) };
    let method = &session.req_header().method;
    if method != Method::GET && method != Method::HEAD {
        return Ok(Err(Rejection::new(RejectionReason::MethodNotAllowed, "metadata can only be read")));
    }
    let url = ResourceUrl::new(auth, &context.client, path);
    let metadata = serde_json::json!(Metadata::new(&url.resource, authenticator.issuers(), &auth.scopes)).to_string();
    let mut head = ResponseHeader::build(StatusCode::OK, Some(6))?;
    head.insert_header("access-control-allow-origin", "*")?;
    reject::write(session, context, head, "application/json", metadata.into()).await.map(|()| Ok(true))
}
