//! MCP sessions, up to revision 2025-11-25: at which endpoint they live, who may use them, and how they end.

mod affinity;
mod connection;
mod full_queue;
mod legacy;
mod resume;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Origin, Recorded, Reply, TestEdge, Tokens, eventually, exchange, request};

/// This has spaces and escapes that no client library writes, because the edge must repeat it byte for byte.
const INITIALIZE: &str = r#"{ "jsonrpc":"2.0","id" : 0, "method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"version":"1","name":"\u0074est"}} }"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"who","arguments":{}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#;

const KEY: (&str, &str) = ("session.key", "0123456789abcdef0123456789abcdef");
const WITH_KEY: &str = "sessions: {keys: [{file: session.key}]}";

/// Two routes, `/a/` and `/b/`, to the upstream `a` at `endpoints`. `upstream` and `route` are further settings of the
/// upstream and of both routes.
fn yaml(top: &str, endpoints: &[SocketAddr], upstream: &str, route: &str) -> String {
    let items: Vec<String> = endpoints.iter().map(|address| format!("{{address: '{address}'}}")).collect();
    format!(
        "{top}
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{}], balance: round_robin{upstream}}}}}
routes:
  - {{path: /a/, upstream: a, protocol: mcp, auth: {{providers: [local]}}{route}}}
  - {{path: /b/, upstream: a, protocol: mcp, auth: {{providers: [local]}}{route}}}
",
        Tokens::PROVIDER,
        items.join(", "),
    )
}

async fn start(top: &str, endpoints: &[SocketAddr], upstream: &str, route: &str) -> TestEdge {
    TestEdge::start_with(&yaml(top, endpoints, upstream, route), &[KEY]).await
}

/// A client that writes its requests by hand.
#[derive(Clone)]
struct Caller {
    address: SocketAddr,
    path: String,
    authorization: String,
    session: Option<String>,
}

impl Caller {
    fn new(address: SocketAddr, path: &str, subject: &str) -> Self {
        let authorization = format!("Bearer {}", Tokens::token(subject, "read write"));
        Self { address, path: path.to_owned(), authorization, session: None }
    }

    /// A client that has opened a session.
    async fn open(address: SocketAddr, path: &str, subject: &str) -> Self {
        let mut caller = Self::new(address, path, subject);
        caller.initialize().await;
        caller
    }

    /// Opens a session, which replaces the client's earlier session.
    async fn initialize(&mut self) {
        self.session = None;
        let reply = self.post(INITIALIZE).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.session = Some(reply.header("mcp-session-id").expect("a session").to_owned());
        assert_eq!(self.post(INITIALIZED).await.status, 202);
    }

    fn id(&self) -> &str {
        self.session.as_deref().expect("it has a session")
    }

    /// The same client, which sends its requests to another edge.
    fn at(&self, edge: &TestEdge) -> Self {
        Self { address: edge.address, ..self.clone() }
    }

    async fn post(&self, body: &str) -> Reply {
        self.send("POST", &[], body).await
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        exchange(self.address, self.text(method, headers, body)).await
    }

    fn text(&self, method: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut all = vec![
            ("Host", "localhost"),
            ("Authorization", self.authorization.as_str()),
            ("Accept", "application/json, text/event-stream"),
        ];
        if method == "POST" {
            all.push(("Content-Type", "application/json"));
        }
        if let Some(session) = &self.session {
            all.push(("Mcp-Session-Id", session));
        }
        all.extend(headers);
        request(method, &self.path, &all, body)
    }

    /// Calls a tool, and returns the name of the server that answered.
    async fn who(&self) -> String {
        let reply = self.post(CALL).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["result"]["content"][0]["text"].as_str().expect("a text").to_owned()
    }
}

/// A server with sessions, whose tool returns the server's name. Its sessions are `NAME-1`, `NAME-2`, and so on. It
/// accepts every id that begins with `NAME-`.
async fn server(name: &'static str) -> Origin {
    let opened = AtomicUsize::new(0);
    Origin::answering(move |request| answer(name, request, &opened)).await
}

fn answer(name: &str, request: &Recorded, opened: &AtomicUsize) -> Vec<u8> {
    let method = method(request);
    if method == "initialize" {
        let id = format!("{name}-{}", opened.fetch_add(1, Ordering::SeqCst) + 1);
        // This is not the version that the client requested.
        let result =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": name, "version": "1"}});
        return respond("200 OK", &[("Mcp-Session-Id", &id)], &rpc(request, result));
    }
    let known = |id: &str| id.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    if !request.header("mcp-session-id").is_some_and(known) {
        return respond("404 Not Found", &[], r#"{"mine":"no such session"}"#);
    }
    match (request.line().split(' ').next(), method.as_str()) {
        (Some("GET"), _) => respond("200 OK", &[("Content-Type", "text/event-stream")], &format!("data: {name}\n\n")),
        (Some("DELETE"), _) => respond("204 No Content", &[], ""),
        (_, "tools/list") => respond("200 OK", &[], &rpc(request, json!({"tools": []}))),
        (_, "tools/call") => {
            respond("200 OK", &[], &rpc(request, json!({"content": [{"type": "text", "text": name}]})))
        }
        _ => respond("202 Accepted", &[], ""),
    }
}

/// The JSON-RPC method of a request; empty when its body has none.
fn method(request: &Recorded) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    body["method"].as_str().unwrap_or_default().to_owned()
}

fn rpc(request: &Recorded, result: Value) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    json!({"jsonrpc": "2.0", "id": body["id"], "result": result}).to_string()
}

/// A response whose body is JSON, unless `headers` have another content type.
fn respond(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    if !status.starts_with("204") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
        head.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    (head + "\r\n" + body).into_bytes()
}

/// The methods of the messages that reached a server.
fn methods(origin: &Origin) -> Vec<String> {
    origin.requests().iter().map(method).collect()
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

/// Removes and returns the server at which a session lives: the only one that received an `initialize`.
fn take_home(origins: &mut Vec<Origin>) -> Origin {
    let homes: Vec<usize> =
        (0..origins.len()).filter(|index| methods(&origins[*index]).contains(&"initialize".to_owned())).collect();
    assert_eq!(homes.len(), 1, "one session was opened");
    origins.remove(homes[0])
}

/// Ends a server: its connections break off, and its address no longer listens.
async fn kill(origin: Origin) {
    let address = origin.address;
    drop(origin);
    eventually("the server is gone", async || TcpStream::connect(address).await.is_err()).await;
}
