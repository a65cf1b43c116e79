//! An edge with rules, in front of an origin that records the requests that reach it.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Origin, Recorded, Reply, TestEdge, Tokens, is_refused_by_error, read_reply, request};

pub const IS_JSON: (&str, &str) = ("Content-Type", "application/json");

/// The session id that the origin gives out.
pub const UPSTREAM_SESSION: &str = "upstream-session";

/// An edge with four routes: `/guarded/` has rules, `/plain/` has none, `/forwarding/` passes the client's token on,
/// and `/open/` needs no token.
pub struct Guarded {
    pub edge: TestEdge,
    pub origin: Origin,
    /// The `Authorization` value of a caller with the scopes `base` and `read`.
    pub alice: String,
}

impl Guarded {
    pub async fn start() -> Self {
        Self::start_with("", Origin::answering(answer).await).await
    }

    /// Starts with `limits` and another origin.
    pub async fn start_with(limits: &str, origin: Origin) -> Self {
        let edge = TestEdge::start(&format!(
            "limits: {{{limits}}}
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - path: /guarded/
    upstream: a
    protocol: mcp
    auth: {{providers: [local], scopes: [base]}}
    tools:
      - {{match: get, scopes: [read]}}
      - {{match: place, scopes: [read, trade]}}
      - {{match: report, any_scope: [audit, trade]}}
      - {{match: never, deny: true}}
      - {{match: 'free*'}}
    prompts: [{{match: hello}}]
    resources: [{{match: 'file://open/*'}}]
  - {{path: /plain/, upstream: a, protocol: mcp, auth: {{providers: [local]}}}}
  - {{path: /forwarding/, upstream: a, protocol: mcp, auth: {{providers: [local]}}, forward_token: true}}
  - {{path: /open/, upstream: a, protocol: mcp, auth: none}}
",
            Tokens::PROVIDER,
            origin.address
        ))
        .await;
        Self { edge, origin, alice: bearer("alice", "base read") }
    }

    /// Sends bytes and reads one answer.
    pub async fn exchange(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.edge.address).await.expect("the edge listens");
        let (mut reading, mut writing) = stream.split();
        // The edge may answer and close before it has read everything, so an error of the write does not matter.
        let (_, reply) = tokio::join!(writing.write_all(bytes), read_reply(&mut reading));
        reply
    }

    /// A POST to `/guarded/mcp` as alice, with these fields and no others.
    pub async fn post(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let headers: Vec<_> = headers.iter().copied().chain([("Authorization", &*self.alice)]).collect();
        self.exchange(&post("/guarded/mcp", &headers, body.as_ref())).await
    }

    /// Does the same with a POST that must be refused: nothing of it may reach the origin.
    pub async fn refused(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let seen = (self.origin.count(), self.origin.connections());
        let reply = self.post(headers, &body).await;
        assert_eq!(
            (self.origin.count(), self.origin.connections()),
            seen,
            "{headers:?} {}: {reply:?}",
            excerpt(body.as_ref())
        );
        reply
    }

    /// Does the same with a POST that must pass: exactly its bytes reach the origin, once.
    pub async fn passes(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Recorded {
        let (seen, body) = (self.origin.count(), body.as_ref());
        let reply = self.post(headers, body).await;
        assert_eq!(reply.status, 200, "{headers:?} {}: {reply:?}", excerpt(body));
        assert_eq!(self.origin.count(), seen + 1, "{headers:?} {}", excerpt(body));
        let arrived = self.origin.last();
        assert!(arrived.body == body, "{headers:?} {} became {}", excerpt(body), excerpt(&arrived.body));
        assert_eq!(arrived.headers("content-length"), [body.len().to_string()]);
        arrived
    }
}

/// Expects a JSON-RPC error for the request `id`, which is `null` when the request has no usable id.
#[track_caller]
pub fn assert_error(reply: &Reply, status: u16, code: i64, id: &serde_json::Value, what: &str) {
    assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/json")), "{what}: {reply:?}");
    let body = reply.json();
    assert_eq!(
        (&body["jsonrpc"], &body["error"]["code"], &body["id"]),
        (&json!("2.0"), &json!(code), id),
        "{what}: {reply:?}"
    );
    assert_eq!(body["error"]["data"]["request_id"].as_str(), reply.header("x-request-id"), "{what}");
}

/// Expects a denial that names the scopes that are needed. `scopes` is empty when no scope would help.
#[track_caller]
pub fn assert_denied(reply: &Reply, scopes: &str, what: &str) {
    if scopes.is_empty() {
        assert!(is_refused_by_error(reply), "{what}: {reply:?}");
        assert_eq!(reply.header("www-authenticate"), None, "{what}: no scope helps");
        return;
    }
    assert_eq!(reply.status, 403, "{what}: {reply:?}");
    let metadata = "http://edge.example/.well-known/oauth-protected-resource/guarded/mcp";
    let expected = format!(r#"Bearer error="insufficient_scope", scope="{scopes}", resource_metadata="{metadata}""#);
    assert_eq!(reply.header("www-authenticate"), Some(&*expected), "{what}");
}

/// The value of an `Authorization` field.
pub fn bearer(subject: &str, scopes: &str) -> String {
    format!("Bearer {}", Tokens::token(subject, scopes))
}

pub fn call(tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}

/// A call in 2026-07-28.
pub fn stateless(tool: &str) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}",{meta}}}}}"#)
}

/// A POST with a declared length.
pub fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let headers: Vec<_> = headers.iter().copied().chain([("Content-Length", &*length)]).collect();
    let mut bytes = request("POST", path, &headers, "").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The answer of a server: a result, and also a session id if the request is `initialize`.
pub fn answer(request: &Recorded) -> Vec<u8> {
    let initializes = request.body.windows(12).any(|window| window == b"\"initialize\"");
    let session = if initializes { format!("Mcp-Session-Id: {UPSTREAM_SESSION}\r\n") } else { String::new() };
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{session}");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The beginning of a body, for the messages of assertions.
pub fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}
