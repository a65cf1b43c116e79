//! The request of an MCP health check (a probe), and the check of its response.

use serde_json::{Value, json};

use super::sse::{EventRewrite, Verdict};
use crate::config::{Revision, limits};

/// The id of the probe's request.
const ID: &str = "mcp-edge-probe";

/// The body of the probe's request: `initialize` for the older revisions, `server/discover` from 2026-07-28 on.
pub fn probe_request(revision: Revision) -> Vec<u8> {
    let client = json!({"name": "mcp-edge", "version": env!("CARGO_PKG_VERSION")});
    let message = match revision {
        Revision::V2026_07_28 => json!({
            "jsonrpc": "2.0", "id": ID, "method": "server/discover",
            "params": {"_meta": {
                "io.modelcontextprotocol/protocolVersion": name(revision),
                "io.modelcontextprotocol/clientInfo": client,
                "io.modelcontextprotocol/clientCapabilities": {},
            }},
        }),
        _ => json!({
            "jsonrpc": "2.0", "id": ID, "method": "initialize",
            "params": {"protocolVersion": name(revision), "capabilities": {}, "clientInfo": client},
        }),
    };
    message.to_string().into_bytes()
}

/// The header fields of MCP that the probe's request carries.
pub fn probe_headers(revision: Revision) -> Vec<(&'static str, &'static str)> {
    match revision {
        Revision::V2026_07_28 => vec![("mcp-protocol-version", name(revision)), ("mcp-method", "server/discover")],
        _ => Vec::new(),
    }
}

fn name(revision: Revision) -> &'static str {
    match revision {
        Revision::V2025_03_26 => "2025-03-26",
        Revision::V2025_06_18 => "2025-06-18",
        Revision::V2025_11_25 => "2025-11-25",
        Revision::V2026_07_28 => "2026-07-28",
    }
}

/// Reads the response to a probe while it arrives.
#[derive(Debug)]
pub struct ProbeAnswer {
    form: Form,
    healthy: Option<bool>,
}

#[derive(Debug)]
enum Form {
    Json(Vec<u8>),
    Events(EventRewrite),
}

impl ProbeAnswer {
    /// A reader for a response with this `Content-Type`. A JSON response, or each event of a stream, may be at most
    /// [`limits::PROBE_RESPONSE_BYTES`] long.
    pub fn new(content_type: &str) -> Self {
        let form = if content_type.starts_with("text/event-stream") {
            Form::Events(EventRewrite::new(limits::PROBE_RESPONSE_BYTES))
        } else {
            Form::Json(Vec::new())
        };
        Self { form, healthy: None }
    }

    /// Takes the next piece. Returns whether the server is healthy, as soon as that is known: an event stream need not
    /// end first.
    pub fn push(&mut self, piece: &[u8]) -> Option<bool> {
        let healthy = &mut self.healthy;
        match &mut self.form {
            Form::Json(body) if body.len() + piece.len() > limits::PROBE_RESPONSE_BYTES => *healthy = Some(false),
            Form::Json(body) => body.extend_from_slice(piece),
            Form::Events(events) => {
                let mut check = |_: &str, data: &[u8]| {
                    *healthy = healthy.or_else(|| answer(data));
                    Verdict::Keep
                };
                if events.push(piece, &mut Vec::new(), &mut check).is_err() {
                    *healthy = Some(false);
                }
            }
        }
        *healthy
    }

    /// Whether the server is healthy, once the response has ended.
    pub fn finish(self) -> bool {
        match (self.healthy, self.form) {
            (Some(healthy), _) => healthy,
            (None, Form::Json(body)) => answer(&body) == Some(true),
            (None, Form::Events(_)) => false,
        }
    }
}

/// Whether `message` reports success. `None` when `message` is not the response to the probe.
fn answer(message: &[u8]) -> Option<bool> {
    let message: Value = serde_json::from_slice(message).ok()?;
    (message.get("id")? == ID).then(|| message.get("result").is_some_and(Value::is_object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &[u8], complete: bool) -> Option<bool> {
        let mut answer = ProbeAnswer::new(content_type);
        // Byte by byte, as a slow server may send it.
        let known = body.iter().find_map(|byte| answer.push(&[*byte]));
        known.or_else(|| complete.then(|| answer.finish()))
    }

    #[test]
    fn answers() {
        let good = format!(r#"{{"jsonrpc":"2.0","id":"{ID}","result":{{}}}}"#);
        let bad = format!(r#"{{"jsonrpc":"2.0","id":"{ID}","error":{{"code":1,"message":""}}}}"#);
        let stream = format!("data: \nid: 0\n\ndata: {good}\n\n");
        assert_eq!(read("application/json", good.as_bytes(), true), Some(true));
        assert_eq!(read("application/json", good.as_bytes(), false), None);
        assert_eq!(read("application/json", bad.as_bytes(), true), Some(false));
        assert_eq!(read("text/event-stream", stream.as_bytes(), false), Some(true));
        assert_eq!(read("text/event-stream", &stream.as_bytes()[..30], false), None);
        assert_eq!(read("text/event-stream", stream.replace("result", "error").as_bytes(), false), Some(false));
        assert_eq!(read("text/event-stream", b"data: x\n\n", true), Some(false));
        assert_eq!(read("text/html", b"<html>", true), Some(false));
        let long = vec![b' '; limits::PROBE_RESPONSE_BYTES + 1];
        assert_eq!(read("application/json", &long, false), Some(false));
    }
}
