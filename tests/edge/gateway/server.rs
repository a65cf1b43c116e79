//! MCP servers of each era, which do what a test wants.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};

use crate::harness::{Origin, Recorded, Recorder};

/// The revisions that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Sessions,
    Stateless,
    /// It speaks as its client does.
    Both,
}

/// What a server does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Fine,
    Hangs,
    SendsJunk,
    /// It asks for a token of another host.
    Refuses,
}

/// A server. It stops when this value is dropped.
pub struct Server {
    pub origin: Origin,
    pub script: Arc<Script>,
}

pub struct Script {
    name: &'static str,
    speaks: Speaks,
    /// The list of tools, whose items are JSON.
    pub tools: Mutex<Vec<Value>>,
    pub resources: Mutex<Vec<Value>>,
    /// What is said on all open streams.
    pub events: broadcast::Sender<Value>,
    /// Answers of clients to the server's requests.
    answers: broadcast::Sender<Value>,
    mood: watch::Sender<Mood>,
    opened: AtomicUsize,
    /// Sessions with a number below this one are forgotten.
    forgotten: AtomicUsize,
    /// How many streams are open.
    pub streams: AtomicUsize,
    /// The tools are listed one on each page.
    pub pages: AtomicBool,
}

/// A tool of this name.
pub fn tool(name: &str) -> Value {
    json!({"name": name, "description": format!("Does {name}."), "inputSchema": {"type": "object"}})
}

impl Server {
    pub async fn start(name: &'static str, speaks: Speaks, tools: &[&str]) -> Self {
        let script = Arc::new(Script {
            name,
            speaks,
            tools: Mutex::new(tools.iter().map(|name| tool(name)).collect()),
            resources: Mutex::default(),
            events: broadcast::channel(1_024).0,
            answers: broadcast::channel(64).0,
            mood: watch::channel(Mood::Fine).0,
            opened: AtomicUsize::new(0),
            forgotten: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            pages: AtomicBool::new(false),
        });
        let own = Arc::clone(&script);
        let origin = Origin::scripted(move |stream, recorder| Arc::clone(&own).serve(stream, recorder)).await;
        Self { origin, script }
    }

    pub fn mood(&self, mood: Mood) {
        self.script.mood.send_replace(mood);
    }

    /// Forgets all sessions that are open now.
    pub fn forget(&self) {
        self.script.forgotten.store(self.script.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> usize {
        self.origin.requests().iter().filter(|request| message(request)["method"] == method).count()
    }

    /// How many streams were opened so far.
    pub fn gets(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.line().starts_with("GET ")).count()
    }

    /// The last message with this method, as the server got it.
    pub fn last(&self, method: &str) -> (Recorded, Value) {
        let requests = self.origin.requests();
        let found = requests.into_iter().rev().find(|request| message(request)["method"] == method);
        let found = found.unwrap_or_else(|| panic!("no `{method}` has come"));
        let message = message(&found);
        (found, message)
    }
}

fn message(request: &Recorded) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

fn respond(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nSet-Cookie: own=1\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn result(id: &Value, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

fn error(id: &Value, code: i32, text: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}}).to_string()
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

async fn say(stream: &mut TcpStream, event: &Value) -> bool {
    let event = format!("data: {event}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.is_ok()
}

impl Script {
    async fn serve(self: Arc<Self>, mut stream: TcpStream, recorder: Recorder) {
        while let Some(request) = recorder.read(&mut stream).await {
            let mood = *self.mood.borrow();
            match mood {
                Mood::Fine => {}
                Mood::SendsJunk => {
                    let _ = stream.write_all(&respond("200 OK", "", "{\"junk\":[}")).await;
                    continue;
                }
                Mood::Refuses => {
                    let challenge = "WWW-Authenticate: Bearer resource_metadata=\"https://evil.example/m\"\r\n";
                    let _ = stream.write_all(&respond("401 Unauthorized", challenge, "{}")).await;
                    continue;
                }
                Mood::Hangs => {
                    std::future::pending::<()>().await;
                }
            }
            let body = message(&request);
            let method = body["method"].as_str().unwrap_or_default().to_owned();
            if request.line().starts_with("GET ") || method == "subscriptions/listen" {
                self.stream(&mut stream, &request, &body).await;
                return;
            }
            if method == "tools/call" && body["params"]["name"] == "ask" && self.speaks != Speaks::Stateless {
                if !self.ask(&mut stream, &body).await {
                    return;
                }
                continue;
            }
            if stream.write_all(&self.answer(&request, &body, &method)).await.is_err() {
                return;
            }
        }
    }

    /// True when the session that a request names is open.
    fn knows(&self, request: &Recorded) -> bool {
        let id = request.header("mcp-session-id").and_then(|id| id.strip_prefix(self.name)?.strip_prefix('-'));
        let number: Option<usize> = id.and_then(|id| id.parse().ok());
        number.is_some_and(|number| {
            number > self.forgotten.load(Ordering::SeqCst) && number <= self.opened.load(Ordering::SeqCst)
        })
    }

    fn answer(&self, request: &Recorded, body: &Value, method: &str) -> Vec<u8> {
        let id = &body["id"];
        let speaks = match self.speaks {
            Speaks::Both if request.header("mcp-protocol-version") == Some("2026-07-28") => Speaks::Stateless,
            Speaks::Both => Speaks::Sessions,
            speaks => speaks,
        };
        match speaks {
            Speaks::Both => unreachable!("it was one of the two"),
            Speaks::Sessions => {
                if method == "initialize" && body["params"]["protocolVersion"].is_null() {
                    return respond("200 OK", "", &error(id, -32602, "Invalid params"));
                }
                if method == "initialize" {
                    let number = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
                    let hello = json!({
                        "protocolVersion": "2025-06-18",
                        "capabilities": {"tools": {}, "resources": {"subscribe": true}, "logging": {}},
                        "serverInfo": {"name": self.name, "version": "1"},
                        "instructions": format!("Use {}.", self.name),
                    });
                    let session = format!("Mcp-Session-Id: {}-{number}\r\n", self.name);
                    return respond("200 OK", &session, &result(id, hello));
                }
                // Servers of this era refuse methods that they do not know before they look for a session.
                if method == "server/discover" {
                    return respond("400 Bad Request", "", &error(&json!("server-error"), -32600, "Bad Request"));
                }
                if !self.knows(request) {
                    return respond("404 Not Found", "", &error(id, -32001, "Session not found"));
                }
                if request.header("mcp-protocol-version") != Some("2025-06-18") {
                    return respond("400 Bad Request", "", &error(id, -32600, "Unsupported protocol version"));
                }
            }
            Speaks::Stateless => {
                let is_right = request.header("mcp-protocol-version") == Some("2026-07-28")
                    && request.header("mcp-method") == Some(method)
                    && body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
                    && body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"].is_object();
                if !is_right || method == "initialize" {
                    return respond("400 Bad Request", "", &error(id, -32022, "Unsupported protocol version"));
                }
                let name = body["params"]["name"].as_str().or(body["params"]["uri"].as_str());
                if request.header("mcp-name") != name {
                    return respond("400 Bad Request", "", &error(id, -32020, "Header mismatch"));
                }
            }
        }
        if request.line().starts_with("DELETE ") || id.is_null() || body["result"].is_object() {
            if body["result"].is_object() {
                let _ = self.answers.send(body.clone());
            }
            return respond("202 Accepted", "", "");
        }
        let done = match method {
            "server/discover" => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
                "capabilities": {"tools": {"listChanged": true}, "resources": {}},
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": self.name, "version": "1"}},
            }),
            "tools/list" => self.list(body, "tools", &self.tools.lock().expect("no panic")),
            "resources/list" => self.list(body, "resources", &self.resources.lock().expect("no panic")),
            "resources/templates/list" => json!({"resourceTemplates": []}),
            "tools/call" => {
                let name = body["params"]["name"].as_str().unwrap_or_default();
                if !self.tools.lock().expect("no panic").iter().any(|tool| tool["name"] == name) {
                    return respond("200 OK", "", &error(id, -32602, &format!("Unknown tool: {name}")));
                }
                let text = format!("{}:{name}:{}", self.name, body["params"]["arguments"]);
                json!({"content": [{"type": "text", "text": text}], "isError": false, "_meta": {"own": [1, 2]}})
            }
            "resources/read" => {
                json!({"contents": [{"uri": body["params"]["uri"], "text": self.name}]})
            }
            "logging/setLevel" | "resources/subscribe" if speaks == Speaks::Sessions => json!({}),
            _ => return respond("404 Not Found", "", &error(id, -32601, "Method not found")),
        };
        respond("200 OK", "", &result(id, done))
    }

    fn list(&self, body: &Value, key: &str, items: &[Value]) -> Value {
        if !self.pages.load(Ordering::SeqCst) {
            return json!({key: items, "ttlMs": 60_000, "cacheScope": "private"});
        }
        let at: usize = body["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().expect("a number"));
        let mut page = json!({key: items.get(at..=at).unwrap_or_default()});
        if at + 1 < items.len() {
            page["nextCursor"] = (at + 1).to_string().into();
        }
        page
    }

    /// Says what the test wants to be said, until the client leaves.
    async fn stream(&self, stream: &mut TcpStream, request: &Recorded, body: &Value) {
        if self.speaks == Speaks::Sessions && !self.knows(request) {
            let _ = stream.write_all(&respond("404 Not Found", "", "{}")).await;
            return;
        }
        let mut events = self.events.subscribe();
        let _ = stream.write_all(EVENTS.as_bytes()).await;
        let subscription = json!({"io.modelcontextprotocol/subscriptionId": body["id"]});
        if self.speaks == Speaks::Stateless {
            let filter = &body["params"]["notifications"];
            let first = json!({
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"_meta": subscription, "notifications": filter},
            });
            say(stream, &first).await;
        }
        self.streams.fetch_add(1, Ordering::SeqCst);
        let mut gone = [0; 1];
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Ok(mut event) = event else { break };
                    if self.speaks == Speaks::Stateless {
                        event["params"]["_meta"] = subscription.clone();
                    }
                    if !say(stream, &event).await {
                        break;
                    }
                }
                _ = stream.peek(&mut gone) => break,
            }
        }
        self.streams.fetch_sub(1, Ordering::SeqCst);
    }

    /// The tool `ask` asks the client, with an id that all servers use, and answers with what the client said.
    async fn ask(&self, stream: &mut TcpStream, body: &Value) -> bool {
        let mut answers = self.answers.subscribe();
        let _ = stream.write_all(EVENTS.as_bytes()).await;
        let question = json!({
            "jsonrpc": "2.0", "id": 1, "method": "elicitation/create",
            "params": {"message": self.name, "_meta": {"progressToken": 1}},
        });
        if !say(stream, &question).await {
            return false;
        }
        let Ok(answer) = answers.recv().await else { return false };
        assert_eq!(answer["id"], 1, "the server's own id comes back");
        let text = format!("{} heard {}", self.name, answer["result"]["text"]);
        let done = json!({"jsonrpc": "2.0", "id": body["id"], "result": {"content": [{"type": "text", "text": text}]}});
        say(stream, &done).await && stream.write_all(b"0\r\n\r\n").await.is_ok()
    }
}
