//! Which requests may be sent a second time, after the first attempt failed without an answer.
//!
//! The rule is the same on all routes, and stands here only: a request is repeated when doing it twice does the same as doing
//! it once. The HTTP methods GET, HEAD and OPTIONS are safe by definition (RFC 9110 section 9.2.1). Of MCP requests those are
//! safe that only read: lists, `ping`, `server/discover`.

use http::Method;

use super::call::CallKind;

/// True when a request that may have reached an upstream may be sent again. `kind`: what the request is on an MCP route.
pub(crate) fn is_safe(method: &Method, kind: Option<CallKind>) -> bool {
    let only_reads = matches!(kind, Some(CallKind::List(_) | CallKind::Request { only_reads: true }));
    only_reads || matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::ListKind;

    #[test]
    fn methods_that_are_safe_by_definition_are_repeated_on_all_routes() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(is_safe(&method, None) && is_safe(&method, Some(CallKind::Bare)), "{method}");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!is_safe(&method, None) && !is_safe(&method, Some(CallKind::Bare)), "{method}");
        }
    }

    #[test]
    fn of_messages_only_those_are_repeated_that_read() {
        let is_safe = |kind| is_safe(&Method::POST, Some(kind));
        assert!(is_safe(CallKind::List(ListKind::Tools)) && is_safe(CallKind::Request { only_reads: true }));
        for kind in [
            CallKind::Initialize,
            CallKind::Request { only_reads: false },
            CallKind::Batch { lists: true },
            CallKind::Other,
        ] {
            assert!(!is_safe(kind), "{kind:?}");
        }
    }
}
