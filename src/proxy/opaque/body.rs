//! The bound on request bodies, as they pass.

use bytes::Bytes;
use pingora::{Error, ErrorType};

use crate::proxy::context::RequestContext;
use crate::proxy::respond::Rejection;

/// Counts a piece of the body.
///
/// # Errors
/// It is one piece too many; `context.rejection` says so.
pub(crate) fn count(context: &mut RequestContext, piece: Option<&Bytes>) -> pingora::Result<()> {
    let Some(route) = &context.route else { return Ok(()) };
    context.received += piece.map_or(0, |piece| piece.len() as u64);
    if context.received <= route.settings.body_bytes {
        return Ok(());
    }
    let rejection = Rejection::too_large(route);
    let error = Error::explain(ErrorType::HTTPStatus(rejection.status().as_u16()), "the request body is too large");
    context.rejection = Some(rejection);
    Err(error)
}
