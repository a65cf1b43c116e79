//! Protected resource metadata (RFC 9728), one document per route.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS,
};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;

use super::origin;
use crate::auth::Metadata;
use crate::config::{Authentication, limits};
use crate::metrics::RejectionReason;
use crate::proxy::client::downstream::Downstream;
use crate::proxy::context::rejection::{Rejection, Stop};
use crate::proxy::context::{Client, RequestContext};
use crate::proxy::respond;

/// The path of a document: this prefix, and after it the path of the resource (RFC 9728 section 3.1).
const PREFIX: &str = "/.well-known/oauth-protected-resource";

/// The path of the resource whose metadata the request asks for; `None` when it asks for something else.
pub(crate) fn resource_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PREFIX)?;
    match rest {
        "" => Some("/"),
        _ if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// The URLs of a protected resource, as clients know it, and of its metadata.
pub(crate) struct ResourceUrl {
    pub(crate) resource: String,
    pub(crate) metadata: String,
}

impl ResourceUrl {
    /// From the route's `public_url`, or else from the URL that the client itself used.
    pub(crate) fn new(auth: &Authentication, client: &Client, path: &str) -> Self {
        match &auth.public_url {
            Some(url) => {
                let path = if url.path() == "/" { "" } else { url.path() };
                let metadata = format!("{}{PREFIX}{path}", url.origin(&client.host));
                Self { resource: url.resource(&client.host), metadata }
            }
            None => {
                let origin = format!("{}://{}", client.scheme, client.authority);
                let below = if path == "/" { "" } else { path };
                Self { resource: format!("{origin}{below}"), metadata: format!("{origin}{PREFIX}{below}") }
            }
        }
    }
}

/// Answers a request for the metadata of a route. It needs no credential, and any page may read it. False when the request
/// asks for something else, or when the route of that path is open, takes no tokens, or does not exist: then the request is like any other, and
/// a server behind the edge may have a document of its own.
///
/// # Errors
/// Another method than GET and HEAD, or a lost connection.
pub(crate) async fn answer(downstream: &mut Downstream<'_>, context: &RequestContext) -> Result<bool, Stop> {
    let Some(path) = resource_path(&context.client.path) else { return Ok(false) };
    let Some(destination) = context.snapshot.router.find(&context.client.host, path) else { return Ok(false) };
    let route = destination.route();
    let (Some(authenticator), Some(auth)) = (&route.authenticator, &route.settings.auth) else { return Ok(false) };
    if !authenticator.takes_tokens() {
        // MCP requires at least one authorization server in the document, "Authorization", "Protected Resource Metadata".
        return Ok(false);
    }
    if auth.public_url.as_ref().is_some_and(|url| url.path().trim_end_matches('/') != path.trim_end_matches('/')) {
        // The document would name another resource than the one that it was asked for (RFC 9728 section 3.3).
        return Err(Rejection::new(RejectionReason::NotFound, "there is no such resource here").into());
    }
    let header = downstream.req_header();
    if origin::is_preflight(header) {
        let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(6))?;
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")?;
        head.insert_header(ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD")?;
        if let Some(headers) = header.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned() {
            // Clients send fields such as `MCP-Protocol-Version` along.
            head.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, headers)?;
        }
        head.insert_header(ACCESS_CONTROL_MAX_AGE, limits::CORS_MAX_AGE.as_secs())?;
        respond::write_empty(downstream, context, head).await?;
        return Ok(true);
    }
    if header.method != Method::GET && header.method != Method::HEAD {
        return Err(Rejection::new(RejectionReason::MethodNotAllowed, "metadata can only be read").into());
    }
    let url = ResourceUrl::new(auth, &context.client, path);
    let metadata = serde_json::json!(Metadata::new(&url.resource, authenticator.issuers(), &auth.scopes)).to_string();
    let mut head = ResponseHeader::build(StatusCode::OK, Some(6))?;
    head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")?;
    respond::write(downstream, context, head, "application/json", metadata.into()).await?;
    Ok(true)
}
