//! What is counted and logged at the end of each request.

mod line;
mod memory;

use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};

use super::client::downstream::Downstream;
use super::context::RequestContext;
use super::edge::Edge;
use crate::config::{AccessLog, LogFormat, limits};
use crate::metrics::{CallOutcome, EndpointResult, Label, RejectionReason};
pub(crate) use line::escaped as escaped_json;
use line::{Line, Millis, Time};
pub(crate) use memory::LineMemory;

/// The log target of access lines. The logger writes them unchanged.
pub(crate) const TARGET: &str = "access";

/// The status that is logged when the client left before it got one; nginx logs the same.
const CLIENT_GONE: u16 = 499;

thread_local!(static MEMORY: LineMemory = const { LineMemory::new() });

/// The request has ended: counts it, and writes its line.
pub(super) fn finish(edge: &Edge, downstream: &Downstream<'_>, error: Option<&Error>, context: &mut RequestContext) {
    let status = downstream.status().map_or(CLIENT_GONE, |status| status.as_u16());
    let duration = context.started.elapsed();
    if let Some(rejection) = &context.rejection {
        edge.metrics.rejected(rejection.reason);
    }
    if let Some(guard) = &context.attempt.endpoint {
        guard.endpoint().finished(endpoint_result(error, context));
    }
    let outcome = call_outcome(status, error, context);
    if let Some(route) = &context.route {
        route.metrics.finished(status, duration);
        if let (Some(call), Some(outcome)) = (&context.message.call, outcome) {
            // A call counts where its tool is known: at the route of its server.
            let route = context.server.as_ref().unwrap_or(route);
            route.metrics.calls.finished(call.method, call.tool.as_deref(), outcome, duration);
        }
    }
    let log = &context.snapshot.config.log;
    let wanted = match log.access {
        AccessLog::All => true,
        AccessLog::Errors => status >= 400 || error.is_some(),
        AccessLog::Off => false,
    };
    if wanted {
        let line = Line { outcome: outcome.map(Label::label), ..line(downstream, error, context, status, duration) };
        let write = |text: &mut String| {
            match edge.log_format {
                LogFormat::Json => line.write_json(text),
                LogFormat::Text => line.write_text(text),
            }
            log::info!(target: TARGET, "{text}");
        };
        MEMORY.with(|memory| memory.with(write));
    }
}

/// The outcome of an MCP call.
fn call_outcome(status: u16, error: Option<&Error>, context: &RequestContext) -> Option<CallOutcome> {
    let call = context.message.call.as_ref()?;
    let by_client = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    Some(match (call.outcome, &context.rejection) {
        (Some(outcome), _) => outcome,
        (None, Some(rejection)) if is_denial(rejection.reason) => CallOutcome::Denied,
        (None, None) if by_client || status == CLIENT_GONE => CallOutcome::Cancelled,
        (None, _) => CallOutcome::Failed,
    })
}

/// True when this caller was refused: by the policy, or by the server that issues tokens for the upstream.
fn is_denial(reason: RejectionReason) -> bool {
    matches!(reason, RejectionReason::InsufficientScope | RejectionReason::CredentialRefused)
}

fn endpoint_result(error: Option<&Error>, context: &RequestContext) -> EndpointResult {
    match error {
        _ if !context.attempt.connected && (error.is_some() || context.rejection.is_some()) => {
            EndpointResult::ConnectError
        }
        Some(error) if *error.esource() == ErrorSource::Upstream => match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => EndpointResult::Timeout,
            _ => EndpointResult::Failed,
        },
        Some(_) if context.attempt.upstream_status.is_none() => EndpointResult::Cancelled,
        _ if context.attempt.upstream_status.is_some_and(|status| status >= 500) => EndpointResult::ServerError,
        Some(_) => EndpointResult::Cancelled,
        None => EndpointResult::Ok,
    }
}

fn line<'a>(
    downstream: &'a Downstream<'_>,
    error: Option<&Error>,
    context: &'a RequestContext,
    status: u16,
    duration: Duration,
) -> Line<'a> {
    let (principal, method) = (context.access.principal(), downstream.req_header().method.as_str());
    Line {
        time: Time::now(),
        request_id: context.id.as_str(),
        client: context.client.address,
        method: Some(method).filter(|method| method.len() <= limits::METHOD_BYTES).unwrap_or("-"),
        host: &context.client.authority,
        path: &context.client.path,
        route: context.route.as_ref().map(|route| &*route.settings.name),
        server: context.server.as_ref().map(|server| &*server.settings.name),
        endpoint: context.attempt.endpoint.as_ref().map(|guard| guard.endpoint().label()),
        subject: principal.map(|principal| principal.subject()),
        mcp_method: context.message.call.as_ref().map(|call| call.method.label()),
        mcp_tool: context.message.call.as_ref().and_then(|call| call.tool.as_deref()),
        outcome: None,
        status,
        reason: context.rejection.as_ref().map(|rejection| rejection.reason.label()),
        aborted: error.is_some() && context.rejection.is_none() && status != CLIENT_GONE,
        bytes_in: downstream.bytes_in(),
        bytes_out: downstream.bytes_out(),
        duration_ms: Millis::of(duration),
        upstream_ms: context.head_time().map(Millis::of),
    }
}
