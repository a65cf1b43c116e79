//! The line that each request leaves in the log.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use pingora::{Error, ErrorSource, ErrorType};
use serde::Serialize;

use super::client_session::ClientSession;
use super::context::RequestContext;
use super::peer::head_time;
use crate::config::{AccessLog, LogFormat};
use crate::metrics::{CallOutcome, EndpointResult, Label, Metrics, RejectionReason};

/// The target of access lines: the logger writes them as they are.
pub(crate) const TARGET: &str = "access";

/// The status that is logged when the client left before there was one (nginx's).
const CLIENT_GONE: u16 = 499;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    client: IpAddr,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The response broke off after its head.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aborted: bool,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
}

/// The request has ended: metrics and the log are told.
pub(super) fn finish(
    metrics: &Metrics,
    session: &ClientSession<'_>,
    error: Option<&Error>,
    context: &mut RequestContext,
) {
    let status = session.status().map_or(CLIENT_GONE, |status| status.as_u16());
    let duration = context.started.elapsed();
    if let Some(rejection) = &context.rejection {
        metrics.rejected(rejection.reason);
    }
    if let Some(guard) = &context.endpoint {
        guard.endpoint().finished(endpoint_result(error, context));
    }
    let outcome = call_outcome(status, error, context);
    if let Some(route) = &context.route {
        route.metrics.finished(status, duration);
        if let (Some(call), Some(outcome)) = (&context.call, outcome) {
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
        let line = Line { outcome: outcome.map(Label::label), ..line(session, error, context, status, duration) };
        let text = match log.format {
            LogFormat::Json => serde_json::to_string(&line).unwrap_or_default(),
            LogFormat::Text => to_text(&line),
        };
        log::info!(target: TARGET, "{text}");
    }
}

/// What became of an MCP call.
fn call_outcome(status: u16, error: Option<&Error>, context: &RequestContext) -> Option<CallOutcome> {
    let call = context.call.as_ref()?;
    let by_client = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    Some(match (call.outcome, &context.rejection) {
        (Some(outcome), _) => outcome,
        (None, Some(rejection)) if is_denial(rejection.reason) => CallOutcome::Denied,
        (None, None) if by_client || status == CLIENT_GONE => CallOutcome::Cancelled,
        (None, _) => CallOutcome::Failed,
    })
}

/// Refusals of this caller, by the policy or by the server that gives tokens for the upstream.
fn is_denial(reason: RejectionReason) -> bool {
    matches!(reason, RejectionReason::InsufficientScope | RejectionReason::CredentialRefused)
}

fn endpoint_result(error: Option<&Error>, context: &RequestContext) -> EndpointResult {
    if context.head_is_late() {
        return EndpointResult::Timeout;
    }
    match error {
        Some(error) if *error.esource() == ErrorSource::Upstream => match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => EndpointResult::Timeout,
            _ => EndpointResult::Failed,
        },
        Some(_) if context.upstream_status.is_none() => EndpointResult::Cancelled,
        _ if context.upstream_status.is_some_and(|status| status >= 500) => EndpointResult::ServerError,
        Some(_) => EndpointResult::Cancelled,
        None => EndpointResult::Ok,
    }
}

fn line<'a>(
    session: &'a ClientSession<'_>,
    error: Option<&Error>,
    context: &'a RequestContext,
    status: u16,
    duration: Duration,
) -> Line<'a> {
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let principal = context.permit.as_ref().and_then(|permit| permit.principal());
    Line {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        request_id: context.id.as_str(),
        client: context.client.address,
        method: session.req_header().method.as_str(),
        host: &context.client.authority,
        path: &context.client.path,
        route: context.route.as_ref().map(|route| &*route.settings.name),
        endpoint: context.endpoint.as_ref().map(|guard| guard.endpoint().label()),
        subject: principal.map(|principal| &**principal.subject()),
        mcp_method: context.call.as_ref().map(|call| call.method.label()),
        mcp_tool: context.call.as_ref().and_then(|call| call.tool.as_deref()),
        outcome: None,
        status,
        reason: context.rejection.as_ref().map(|rejection| rejection.reason.label()),
        aborted: error.is_some() && context.rejection.is_none() && status != CLIENT_GONE,
        bytes_in: session.bytes_in(),
        bytes_out: session.bytes_out(),
        duration_ms: millis(duration),
        upstream_ms: head_time(context).map(millis),
    }
}

/// `key=value` pairs; values with anything but plain characters are quoted and escaped as JSON strings are.
fn to_text(line: &Line<'_>) -> String {
    let mut text = String::new();
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(line) else { return text };
    for (key, value) in fields {
        let value = match value {
            serde_json::Value::String(value) if is_plain(&value) => value,
            other => other.to_string(),
        };
        if !text.is_empty() {
            text.push(' ');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{key}={value}");
    }
    text
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_line_or_field() {
        for evil in ["a\nb", "a b=c", "\u{1b}[31m", "\"", ""] {
            let line = Line {
                time: String::new(),
                request_id: "r",
                client: IpAddr::from([192, 0, 2, 1]),
                method: "GET",
                host: "h",
                path: "/p",
                route: None,
                endpoint: None,
                subject: Some(evil),
                mcp_method: None,
                mcp_tool: Some(evil),
                outcome: None,
                status: 200,
                reason: None,
                aborted: false,
                bytes_in: 0,
                bytes_out: 0,
                duration_ms: 1.5,
                upstream_ms: None,
            };
            let text = to_text(&line);
            assert!(text.contains(&format!("subject={}", serde_json::Value::from(evil))), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}
