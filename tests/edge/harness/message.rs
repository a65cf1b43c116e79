//! MCP messages as clients send them, and answers as servers give them.

use serde_json::{Value, json};

use super::http::request;

/// A JSON-RPC request.
pub fn message(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A `tools/call` request.
pub fn call(id: &str, tool: &str) -> String {
    message(id, "tools/call", &json!({"name": tool, "arguments": {}}).to_string())
}

/// A POST with the fields that every MCP client sends.
pub fn post(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut all = vec![("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    all.extend(headers);
    request("POST", path, &all, body)
}

/// A POST in revision 2026-07-28. The body has the version in `_meta`, and header fields repeat the version, the method
/// and the name from the body.
pub fn post_stateless(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut message: Value = serde_json::from_str(body).expect("a message");
    let method = message["method"].as_str().expect("a method").to_owned();
    let params = &mut message["params"];
    let name = params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned);
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    });
    let mut all = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method.as_str())];
    all.extend(name.as_deref().map(|name| ("Mcp-Name", name)));
    all.extend(headers);
    post(path, &all, &message.to_string())
}

/// A response with this status, content type and body.
pub fn answer(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
