//! What a health check says to an MCP server, and what it expects to hear.

use serde_json::{Value, json};

use crate::config::Revision;

/// The id of the probe's request.
const ID: &str = "mcp-edge-probe";

/// `initialize` of the older revisions, `server/discover` from 2026-07-28 on.
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

/// The fields that the request carries beside its body's.
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

/// What is known of the answer after a part of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The result is there.
    Healthy,
    /// An error is there, or something else than an answer.
    Unhealthy,
    /// Not enough was read.
    Incomplete,
}

impl ProbeAnswer {
    /// Looks for the answer in `body`, all that was read so far; an event stream need not end for it.
    pub fn read(content_type: &str, body: &[u8], complete: bool) -> Self {
        let message = if content_type.starts_with("text/event-stream") {
            events(body).find_map(|data| answer(data.as_bytes()))
        } else if complete {
            answer(body)
        } else {
            None
        };
        match message {
            Some(true) => Self::Healthy,
            Some(false) => Self::Unhealthy,
            None if complete => Self::Unhealthy,
            None => Self::Incomplete,
        }
    }
}

/// Whether `message` answers the probe, and well.
fn answer(message: &[u8]) -> Option<bool> {
    let message: Value = serde_json::from_slice(message).ok()?;
    (message.get("id")? == ID).then(|| message.get("result").is_some_and(Value::is_object))
}

/// The data of the complete events of a stream.
fn events(body: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n");
    let complete = text.rfind("\n\n").map_or("", |end| &text[..end]).to_owned();
    let events: Vec<String> = complete
        .split("\n\n")
        .map(|event| {
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
        })
        .collect();
    events.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        use ProbeAnswer::*;
        let good = format!(r#"{{"jsonrpc":"2.0","id":"{ID}","result":{{}}}}"#);
        let bad = format!(r#"{{"jsonrpc":"2.0","id":"{ID}","error":{{"code":1,"message":""}}}}"#);
        let stream = format!("data: \nid: 0\n\ndata: {good}\n\n");
        assert_eq!(ProbeAnswer::read("application/json", good.as_bytes(), true), Healthy);
        assert_eq!(ProbeAnswer::read("application/json", good.as_bytes(), false), Incomplete);
        assert_eq!(ProbeAnswer::read("application/json", bad.as_bytes(), true), Unhealthy);
        assert_eq!(ProbeAnswer::read("text/event-stream", stream.as_bytes(), false), Healthy);
        assert_eq!(ProbeAnswer::read("text/event-stream", &stream.as_bytes()[..30], false), Incomplete);
        assert_eq!(ProbeAnswer::read("text/event-stream", b"data: x\n\n", true), Unhealthy);
        assert_eq!(ProbeAnswer::read("text/html", b"<html>", true), Unhealthy);
    }
}
