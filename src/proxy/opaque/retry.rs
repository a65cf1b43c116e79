//! What happens when Pingora's exchange with an endpoint fails: whether another attempt follows.

use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use crate::config::limits;
use crate::metrics::EndpointResult;
use crate::proxy::context::RequestContext;
use crate::proxy::context::repeat;

/// No connection could be made, so nothing was sent: any request may go to another endpoint.
pub(crate) fn after_connect_error(context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    let attempt = &mut context.attempt;
    if let Some(guard) = attempt.endpoint.take() {
        guard.endpoint().finished(EndpointResult::ConnectError);
        attempt.tried.push(guard.endpoint().address());
    }
    error.set_retry(attempt.tried.len() < limits::ATTEMPTS);
    error
}

/// The exchange failed after the request was sent, or may have been sent. A request that is safe to repeat, and of which the
/// client has seen no answer, is sent once more.
pub(crate) fn after_exchange_error(
    session: &Session,
    context: &mut RequestContext,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let unanswered = session.response_written().is_none() && context.attempt.upstream_status.is_none();
    let upstream_failed = *error.esource() == ErrorSource::Upstream && !context.opaque.head_is_late();
    let retry = repeat::is_safe(&session.req_header().method, None)
        && unanswered
        && upstream_failed
        && !context.opaque.upgrade
        && !session.retry_buffer_truncated()
        && !context.attempt.retried;
    let attempt = &mut context.attempt;
    if retry && let Some(guard) = attempt.endpoint.take() {
        guard.endpoint().finished(EndpointResult::Failed);
        attempt.retried = true;
        // An idle connection that the replica had closed says nothing about the replica.
        if !reused {
            attempt.tried.push(guard.endpoint().address());
        }
    }
    error.set_retry(retry);
    error
}
