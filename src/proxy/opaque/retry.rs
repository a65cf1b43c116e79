//! What is tried again, and what is not: nothing is sent twice that is not known to be safe to repeat.

use http::Method;
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use crate::config::limits;
use crate::metrics::EndpointResult;
use crate::proxy::context::RequestContext;

/// There was no connection, so nothing was sent: any request may go to another endpoint.
pub(crate) fn after_connect_error(context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    if let Some(guard) = context.endpoint.take() {
        guard.endpoint().finished(EndpointResult::ConnectError);
        context.tried.push(guard.endpoint().address());
    }
    error.set_retry(context.tried.len() < limits::ATTEMPTS);
    error
}

/// The exchange failed after the request was, or may have been, sent: only a request that is safe by definition
/// (RFC 9110 section 9.2.1) and of which the client has seen no answer is sent again, once.
pub(crate) fn after_exchange_error(
    session: &Session,
    context: &mut RequestContext,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let safe = matches!(session.req_header().method, Method::GET | Method::HEAD | Method::OPTIONS);
    let unanswered = session.response_written().is_none() && context.upstream_status.is_none();
    let upstream_failed = *error.esource() == ErrorSource::Upstream && !context.head_is_late();
    let retry = safe
        && unanswered
        && upstream_failed
        && !context.upgrade
        && !session.retry_buffer_truncated()
        && !context.retried;
    if retry && let Some(guard) = context.endpoint.take() {
        guard.endpoint().finished(EndpointResult::Failed);
        context.retried = true;
        // An idle connection that the replica had closed says nothing about the replica.
        if !reused {
            context.tried.push(guard.endpoint().address());
        }
    }
    error.set_retry(retry);
    error
}
