//! The parts of JSON-RPC 2.0 that the edge itself writes: error codes, ids and error responses.

use crate::config::limits;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The body is not JSON (JSON-RPC 2.0 section 5.1).
pub const PARSE_ERROR: i32 = -32700;
/// The body is JSON, but not a valid request (JSON-RPC 2.0 section 5.1).
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC 2.0 section 5.1: there is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC 2.0 section 5.1. MCP servers answer so when there is no such tool, prompt or resource.
pub const INVALID_PARAMS: i32 = -32602;
/// A header field does not match the body (MCP 2026-07-28, "Standard headers").
pub const HEADER_MISMATCH: i32 = -32020;

/// The `id` of a JSON-RPC request, exactly as it was written: a string or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// Takes an id as written in a message. `None` when the id is neither a string nor a number, or is longer than
    /// [`limits::MESSAGE_ID_BYTES`].
    pub(super) fn written(id: &str) -> Option<Self> {
        let legal = id.starts_with('"') || id.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        (legal && id.len() <= limits::MESSAGE_ID_BYTES).then(|| Self(id.to_owned()))
    }

    /// The id in JSON, as it was written.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The id of the single request in `body`. `None` for notifications, responses and batches, and when `body` is not
    /// a valid JSON-RPC 2.0 request.
    pub fn of_request(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Request<'a> {
            jsonrpc: &'a str,
            #[serde(rename = "method")]
            _method: &'a RawValue,
            #[serde(borrow)]
            id: Option<&'a RawValue>,
        }
        let request: Request<'_> = serde_json::from_slice(body).ok()?;
        let id = Self::written(request.id?.get())?;
        (request.jsonrpc == "2.0").then_some(id)
    }
}

/// An error response to the request with `id`, which is `None` when the id could not be read. The codes -32000 to
/// -32099 are for errors that the server defines (JSON-RPC 2.0 section 5.1).
pub fn error_message(id: Option<&MessageId>, code: i32, message: &str, request_id: &str) -> String {
    error_with_data(id, code, message, serde_json::Map::new(), request_id)
}

/// As [`error_message`], with more members in `data`.
pub fn error_with_data(
    id: Option<&MessageId>,
    code: i32,
    message: &str,
    mut data: serde_json::Map<String, serde_json::Value>,
    request_id: &str,
) -> String {
    data.insert("request_id".to_owned(), request_id.into());
    let (message, data) = (serde_json::Value::from(message), serde_json::Value::from(data));
    let id = id.map_or("null", |id| &id.0);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message},"data":{data}}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(body: &str) -> Option<String> {
        MessageId::of_request(body.as_bytes()).map(|id| id.0)
    }

    #[test]
    fn ids_are_repeated_as_written() {
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#), Some("7".into()));
        assert_eq!(id(r#"{"id":"a\"b","method":"x","jsonrpc":"2.0","params":{"id":1}}"#), Some(r#""a\"b""#.into()));
        for body in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x"} x"#,
            "",
        ] {
            assert_eq!(id(body), None, "{body}");
        }
    }

    #[test]
    fn errors_are_json() {
        let id = MessageId(r#""a\"b""#.into());
        let text = error_message(Some(&id), -32003, "no \"upstream\"\n", "r1");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["id"], "a\"b");
        assert_eq!(value["error"]["code"], -32003);
        assert_eq!(value["error"]["data"]["request_id"], "r1");
        assert!(error_message(None, -32700, "", "").contains(r#""id":null"#));
    }
}
