//! How a client is told that a policy denies what its message asks for.

use http::StatusCode;

use super::authorize;
use crate::auth::Denial;
use crate::config::{Refusals, limits};
use crate::mcp::{Era, INVALID_PARAMS, METHOD_NOT_FOUND, Message};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::context::RequestContext;
use crate::proxy::context::call::CallRecord;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::snapshot::RouteContext;
use crate::types::{Operation, Target};

/// How a denial of a policy is told, as `route` says, through which the caller came in. `single`: the message, unless it is a batch.
pub(crate) fn refuse(
    context: &RequestContext,
    route: &RouteContext,
    denial: Denial,
    single: Option<&Message<'_>>,
    era: Era,
) -> Rejection {
    if denial.too_long {
        let message = format!(
            "the names in the message are together longer than {} bytes: send several messages",
            limits::NAMES_BYTES
        );
        return Rejection::of_message(Reason::InvalidMessage, INVALID_PARAMS, message);
    }
    let refusal = authorize::denied(&denial, route, &context.client);
    let by_error = match route.settings.refusals {
        Refusals::Auto => denial.scopes.is_empty(),
        Refusals::Http => false,
        Refusals::Jsonrpc => true,
    };
    match single {
        Some(message) if by_error => as_a_server_refuses(refusal, message, era),
        _ => refusal,
    }
}

/// Refuses a message in the way of a server that does not have what it asks for.
fn as_a_server_refuses(refusal: Rejection, message: &Message<'_>, era: Era) -> Rejection {
    let (Some(method), Some(_)) = (message.method(), &message.id) else { return refusal.in_silence() };
    let text = |what: &str, name: &str| format!("{what}: {}", CallRecord::tool(name));
    let mut targets = message.operations().filter_map(Operation::target);
    let (code, text) = match (targets.next(), targets.next()) {
        // The policy does not say which of them.
        (Some(_), Some(_)) => (INVALID_PARAMS, "Unknown resource".to_owned()),
        (Some(target), None) => match target {
            Target::Prompt(name) => (INVALID_PARAMS, text("Unknown prompt", name)),
            Target::Resource(uri) => (INVALID_PARAMS, text("Unknown resource", uri)),
            Target::Tool(name) => (INVALID_PARAMS, text("Unknown tool", name)),
            Target::Task(_) => (METHOD_NOT_FOUND, text("Method not found", method)),
        },
        _ if method == "tools/call" || method == "prompts/get" => (INVALID_PARAMS, "the name is missing".to_owned()),
        _ => (METHOD_NOT_FOUND, text("Method not found", method)),
    };
    // MCP 2026-07-28, "Streamable HTTP": an unknown method is 404 there, and 200 in the revisions before.
    let status = match era {
        Era::Stateless if code == METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    refusal.told_by_error(code, status, text)
}
