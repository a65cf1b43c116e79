//! The tools gateway: one endpoint for the tools, prompts and resources of several servers.

mod borders;
mod eras;
mod faults;
mod lists;
mod policy;
mod real;
mod server;
mod sessions;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{PATIENCE, Reply, TestEdge, Tokens, exchange, message, post, post_stateless, request};
use server::{Mood, Server, Speaks, tool};

const KEY: (&str, &str) = ("session.key", "0123456789abcdef0123456789abcdef");

/// Routes to `servers`, and the gateway `/mcp` for all of them. `route`: further settings of their routes. `gateway`: those of the
/// gateway, among them its `servers`.
fn yaml(servers: &[&Server], names: &[&str], route: &str, gateway: &str) -> String {
    let mut text = format!(
        "sessions: {{keys: [{{file: session.key}}]}}\nauth: {{providers: {{{}}}}}\nupstreams:\n",
        Tokens::PROVIDER
    );
    for (name, server) in names.iter().zip(servers) {
        text.push_str(&format!(
            "  {name}: {{endpoints: [{{address: '{}'}}], timeouts: {{response: 5s}}}}\n",
            server.origin.address
        ));
    }
    text.push_str("routes:\n");
    for name in names {
        text.push_str(&format!(
            "  - {{path: /{name}/, upstream: {name}, protocol: mcp, auth: {{providers: [local]}}{route}}}\n"
        ));
    }
    text + &format!("  - {{path: /mcp, auth: {{providers: [local]}}, gateway: {{{gateway}}}}}\n")
}

async fn start(servers: &[&Server], names: &[&str], route: &str, gateway: &str) -> TestEdge {
    TestEdge::start_with(&yaml(servers, names, route, gateway), &[KEY]).await
}

/// A client of one era.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    path: String,
    authorization: String,
    /// `None` in the era without sessions.
    session: Option<String>,
    stateless: bool,
    /// The answer to `initialize` or `server/discover`.
    hello: Value,
}

impl Client {
    /// A client with a session.
    async fn open(edge: &TestEdge, scopes: &str) -> Self {
        Self::open_at(edge, "/mcp", scopes).await
    }

    async fn open_at(edge: &TestEdge, path: &str, scopes: &str) -> Self {
        let mut client = Self::new(edge, path, scopes, false);
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let reply = client.post(&message("0", "initialize", &params.to_string())).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        client.session = reply.header("mcp-session-id").map(str::to_owned);
        client.hello = reply.json()["result"].clone();
        let told = client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        assert_eq!(told.status, 202, "{told:?}");
        client
    }

    /// A client of the era without sessions.
    async fn stateless(edge: &TestEdge, scopes: &str) -> Self {
        let mut client = Self::new(edge, "/mcp", scopes, true);
        client.hello = client.ask("server/discover", json!({})).await["result"].clone();
        client
    }

    async fn of(edge: &TestEdge, scopes: &str, speaks: Speaks) -> Self {
        match speaks {
            Speaks::Sessions | Speaks::Both => Self::open(edge, scopes).await,
            Speaks::Stateless => Self::stateless(edge, scopes).await,
        }
    }

    fn new(edge: &TestEdge, path: &str, scopes: &str, stateless: bool) -> Self {
        let authorization = format!("Bearer {}", Tokens::token("alice", scopes));
        Self {
            address: edge.address,
            path: path.to_owned(),
            authorization,
            session: None,
            stateless,
            hello: Value::Null,
        }
    }

    fn text(&self, body: &str) -> String {
        let mut headers = vec![("Authorization", self.authorization.as_str())];
        if let Some(session) = &self.session {
            headers.extend([("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-11-25")]);
        }
        if self.stateless { post_stateless(&self.path, &headers, body) } else { post(&self.path, &headers, body) }
    }

    async fn post(&self, body: &str) -> Reply {
        exchange(self.address, self.text(body)).await
    }

    async fn bare(&self, method: &str) -> Reply {
        let session = self.session.clone().unwrap_or_default();
        let headers = [("Authorization", self.authorization.as_str()), ("Mcp-Session-Id", &session)];
        exchange(self.address, request(method, &self.path, &headers, "")).await
    }

    /// The whole response to a request.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let reply = self.post(&message("5", method, &params.to_string())).await;
        assert_eq!(reply.status, 200, "{method} {params}: {reply:?}");
        let body = match reply.header("content-type") {
            Some("text/event-stream") => {
                reply.body.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default()
            }
            _ => &reply.body,
        };
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
    }

    /// The names of a list.
    async fn list(&self, method: &str, key: &str, name: &str) -> Vec<String> {
        let answer = self.ask(method, json!({})).await;
        let items = answer["result"][key].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
        items.iter().map(|item| item[name].as_str().expect("a name").to_owned()).collect()
    }

    async fn tools(&self) -> Vec<String> {
        self.list("tools/list", "tools", "name").await
    }

    /// The text that a tool answers with, or the error.
    async fn call(&self, tool: &str) -> Result<String, Value> {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": {"x": 1}})).await;
        match answer["result"]["content"][0]["text"].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(answer["error"].clone()),
        }
    }

    /// Opens a stream, and gives what comes on it.
    async fn stream(&self, head: String) -> Events {
        let mut stream = TcpStream::connect(self.address).await.expect("the edge listens");
        stream.write_all(head.as_bytes()).await.expect("the edge reads");
        Events { stream, text: String::new() }
    }

    async fn get(&self) -> Events {
        let session = self.session.clone().unwrap_or_default();
        let headers = [
            ("Authorization", self.authorization.as_str()),
            ("Mcp-Session-Id", &session),
            ("Accept", "text/event-stream"),
        ];
        self.stream(request("GET", &self.path, &headers, "")).await
    }
}

/// An event stream that is read bit by bit.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    /// The next message.
    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.read()).await.unwrap_or_else(|_| panic!("no event in {}", self.text))
    }

    async fn read(&mut self) -> Value {
        loop {
            let begin = self.text.find("data: ");
            if let Some((begin, length)) = begin.and_then(|begin| Some((begin, self.text[begin..].find("\n\n")?))) {
                let event = self.text[begin + 6..begin + length].to_owned();
                self.text.drain(..begin + length);
                return serde_json::from_str(&event).unwrap_or_else(|error| panic!("{error}: {event}"));
            }
            let mut bytes = [0; 4_096];
            let count = self.stream.read(&mut bytes).await.expect("the edge sends");
            assert_ne!(count, 0, "the stream has ended: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}
