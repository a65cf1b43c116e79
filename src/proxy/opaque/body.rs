//! The limit on request bodies that Pingora passes on.

use bytes::Bytes;
use pingora::{Error, ErrorType};

use crate::proxy::context::RequestContext;
use crate::proxy::context::rejection::Rejection;

/// Counts a piece of the body.
///
/// # Errors
/// The body is larger than the route allows; `context.rejection` says so.
pub(crate) fn count(context: &mut RequestContext, piece: Option<&Bytes>) -> pingora::Result<()> {
    let Some(route) = &context.route else { return Ok(()) };
    context.received += piece.map_or(0, |piece| piece.len() as u64);
    if context.received <= route.settings.body_bytes {
        return Ok(());
    }
    let rejection = Rejection::too_large(route.settings.body_bytes);
    let error = Error::explain(ErrorType::HTTPStatus(rejection.status().as_u16()), "the request body is too large");
    context.rejection = Some(rejection);
    Err(error)
}
