//! Chooses the endpoint that a request goes to.

use std::sync::Arc;

use http::header::COOKIE;
use pingora::http::RequestHeader;

use super::context::rejection::Rejection;
use super::context::{Attempt, Client};
use super::snapshot::ServerContext;
use crate::config::HashOn;
use crate::metrics::RejectionReason;
use crate::upstream::{Endpoint, NoEndpoint};

/// A healthy endpoint that the request has not failed on yet.
///
/// # Errors
/// There is none.
pub(super) fn choose(
    request: &RequestHeader,
    client: &Client,
    attempt: &Attempt,
    route: &ServerContext,
) -> Result<Arc<Endpoint>, Rejection> {
    let key = route.upstream.hash_on().and_then(|on| hash_key(on, request, client));
    route.upstream.choose(key.as_deref(), &attempt.tried).map_err(|NoEndpoint| {
        if attempt.tried.is_empty() {
            Rejection::new(RejectionReason::NoEndpoint, "no endpoint of the upstream is healthy")
        } else {
            // Nothing was sent, and the same is true of any request: the client may come back.
            Rejection::new(RejectionReason::NoEndpoint, "no endpoint of the upstream can be reached")
        }
    })
}

/// What `balance: {hash: ...}` hashes; `None` when the request does not have it.
fn hash_key(on: &HashOn, request: &RequestHeader, client: &Client) -> Option<Vec<u8>> {
    let headers = &request.headers;
    if let Some(name) = &on.header {
        return headers.get(&name.0).map(|value| value.as_bytes().to_vec());
    }
    if let Some(name) = &on.cookie {
        let cookies =
            headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|field| field.split(';'));
        let mut pairs = cookies.filter_map(|pair| pair.trim().split_once('='));
        return pairs.find(|(key, _)| key == name).map(|(_, value)| value.as_bytes().to_vec());
    }
    on.client_address.then(|| client.address.to_string().into_bytes())
}
