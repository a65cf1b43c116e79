//! The outcomes of calls, as the metrics count them.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::guarded::{IS_JSON, call, post, stateless};
use crate::harness::http2::Http2;
use crate::harness::{Origin, Recorded, TestEdge, Tokens, eventually, exchange, request};

/// A server whose tools do what their names say.
async fn origin() -> Origin {
    Origin::scripted(|mut stream, recorder| async move {
        while let Some(request) = recorder.read(&mut stream).await {
            let Some(pieces) = answer(&request) else {
                match tool(&request).as_str() {
                    "hang" => std::future::pending::<()>().await,
                    // The server closes the connection in the middle of its answer.
                    "break" => {
                        let text = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"";
                        stream.write_all(text.as_bytes()).await.expect("the edge reads");
                    }
                    _ => {}
                }
                return;
            };
            for piece in pieces {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
                // The edge must see the pieces one by one.
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
    })
    .await
}

fn tool(request: &Recorded) -> String {
    let message: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let of_call = || message["params"]["name"].as_str().map(str::to_owned);
    of_call().or_else(|| message["method"].as_str().map(str::to_owned)).unwrap_or_default()
}

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"isError\": true"}]}}"#;
const TOOL_ERROR: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"no"}],"isError":true}}"#;
const RPC_ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"isError: true"}}"#;
const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;

/// The whole response in pieces; `None` for tools that do not answer completely.
fn answer(request: &Recorded) -> Option<Vec<Vec<u8>>> {
    let tool = tool(request);
    let (kind, form) = tool.split_once('_').unwrap_or((&tool, ""));
    let message = match kind {
        "ok" => OK,
        "toolerror" => TOOL_ERROR,
        "rpcerror" => RPC_ERROR,
        "accepted" => return Some(whole("202 Accepted", "", "")),
        "none" => return Some(whole("204 No Content", "", "")),
        "text" => return Some(whole("200 OK", "text/plain", OK)),
        "junk" => return Some(whole("200 OK", "application/json", "no JSON")),
        "gzip" => return Some(whole("200 OK", "application/json\r\nContent-Encoding: gzip", OK)),
        "broken" => return Some(whole("500 Internal Server Error", "text/plain", "it broke")),
        "missing" => return Some(whole("404 Not Found", "text/plain", "no")),
        "refused" => return Some(whole("400 Bad Request", "application/json", RPC_ERROR)),
        "hang" | "break" | "die" => return None,
        "tools/list" => r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"listed"},{"name":"listed too"}]}}"#,
        _ => OK,
    };
    Some(match form {
        "events" => whole("200 OK", "text/event-stream", &events(message)),
        "tiny" => tiny("application/json", message),
        "tinyevents" => tiny("text/event-stream; charset=utf-8", &events(message)),
        _ => whole("200 OK", "application/json", message),
    })
}

fn events(message: &str) -> String {
    // Progress and a request of the server come before the answer.
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"isError":true}}"#;
    format!(
        ": hello\n\nid: 0\ndata:\n\nevent: message\r\ndata: {PROGRESS}\r\n\r\ndata: {ask}\n\nid: 1\ndata: {message}\n\n"
    )
}

fn whole(status: &str, content_type: &str, body: &str) -> Vec<Vec<u8>> {
    let length = if status.starts_with("204") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let kind = if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
    vec![format!("HTTP/1.1 {status}\r\n{kind}{length}\r\n{body}").into_bytes()]
}

/// A chunk for each byte.
fn tiny(content_type: &str, body: &str) -> Vec<Vec<u8>> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut pieces = vec![head.into_bytes()];
    pieces.extend(body.bytes().map(|byte| [b"1\r\n", &[byte][..], b"\r\n"].concat()));
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

/// An edge with three routes. `/a/` has rules that name each of [`TOOLS`], and the rule `un*`. `/free/` has no rules.
/// The endpoint of `/dead/` does not listen.
async fn edge(origin: &Origin) -> TestEdge {
    let named = TOOLS.iter().map(|(tool, _)| format!("{{match: {tool}}}, ")).collect::<String>();
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("it is bound");
    TestEdge::start(&format!(
        "auth: {{providers: {{{}}}}}
upstreams:
  a: {{endpoints: [{{address: '{}'}}], timeouts: {{response: 1s}}}}
  dead: {{endpoints: [{{address: '{nobody}'}}]}}
routes:
  - path: /a/
    upstream: a
    protocol: mcp
    auth: {{providers: [local]}}
    tools: [{named}{{match: traded, scopes: [trade]}}, {{match: never, deny: true}}, {{match: 'un*'}}]
  - {{path: /free/, upstream: a, protocol: mcp, auth: none}}
  - {{path: /dead/, upstream: dead, protocol: mcp, auth: none, tools: [{{match: ok}}]}}
",
        Tokens::PROVIDER,
        origin.address
    ))
    .await
}

/// Each tool of the origin, and the outcome of a call of this tool.
const TOOLS: [(&str, &str); 23] = [
    ("ok", "ok"),
    ("ok_events", "ok"),
    ("ok_tiny", "ok"),
    ("ok_tinyevents", "ok"),
    ("toolerror", "tool_error"),
    ("toolerror_events", "tool_error"),
    ("toolerror_tiny", "tool_error"),
    ("toolerror_tinyevents", "tool_error"),
    ("rpcerror", "rpc_error"),
    ("rpcerror_events", "rpc_error"),
    ("rpcerror_tiny", "rpc_error"),
    ("rpcerror_tinyevents", "rpc_error"),
    ("refused", "rpc_error"),
    ("accepted", "ok_unscanned"),
    ("none", "ok_unscanned"),
    ("gzip", "ok_unscanned"),
    ("text", "ok_unscanned"),
    ("junk", "ok_unscanned"),
    ("broken", "failed"),
    ("missing", "failed"),
    ("hang", "failed"),
    ("break", "failed"),
    ("die", "failed"),
];

struct Calls {
    edge: TestEdge,
    token: String,
}

impl Calls {
    async fn start(origin: &Origin) -> Self {
        Self { edge: edge(origin).await, token: format!("Bearer {}", Tokens::token("alice", "")) }
    }

    async fn send(&self, path: &str, message: &str) -> u16 {
        let headers = [IS_JSON, ("Authorization", &*self.token)];
        exchange(self.edge.address, post(path, &headers, message.as_bytes())).await.status
    }

    /// Waits until there are `count` calls with this outcome.
    async fn counted(&self, route: &str, method: &str, tool: &str, outcome: &str, count: f64) {
        let labels = format!(r#"method="{method}",outcome="{outcome}",route="{route}",tool="{tool}""#);
        let series = format!("mcp_edge_mcp_calls_total{{{labels}}}");
        // The client may have its answer before the call is counted.
        eventually(&series, async || self.edge.metric(&series).await == count).await;
    }

    /// All series of calls whose labels have `part`, with their values.
    async fn series(&self, part: &str) -> Vec<(String, f64)> {
        let scrape = self.edge.admin_get("/metrics").await.body;
        let lines = scrape.lines().filter(|line| line.starts_with("mcp_edge_mcp_calls_total{") && line.contains(part));
        let split =
            |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().expect("a number")));
        lines.filter_map(split).collect()
    }

    async fn durations(&self, route: &str, method: &str, tool: &str) -> f64 {
        let labels = format!(r#"method="{method}",route="{route}",tool="{tool}""#);
        self.edge.metric(&format!("mcp_edge_mcp_call_duration_seconds_count{{{labels}}}")).await
    }

    async fn lines(&self) -> usize {
        self.edge.admin_get("/metrics").await.body.lines().count()
    }
}

#[tokio::test]
async fn every_call_has_one_outcome() {
    let origin = origin().await;
    let calls = Calls::start(&origin).await;
    for (tool, outcome) in TOOLS {
        for times in 1..=2 {
            calls.send("/a/mcp", &call(tool)).await;
            calls.counted("/a/", "tools/call", tool, outcome, f64::from(times)).await;
        }
        // The tool has no other outcome, and the duration of each call was measured.
        assert_eq!(calls.series(&format!(r#"tool="{tool}""#)).await.len(), 1, "{tool}");
        assert_eq!(calls.durations("/a/", "tools/call", tool).await, 2.0, "{tool}");
    }
    // The edge itself answers these calls.
    for (tool, label, status) in [("traded", "traded", 403), ("never", "never", 200), ("other one", "other", 200)] {
        let seen = origin.count();
        assert_eq!((calls.send("/a/mcp", &call(tool)).await, origin.count()), (status, seen), "{tool}");
        calls.counted("/a/", "tools/call", label, "denied", 1.0).await;
        assert_eq!(calls.durations("/a/", "tools/call", label).await, 1.0, "{tool}");
    }
    assert_eq!(calls.send("/dead/mcp", &call("ok")).await, 503);
    calls.counted("/dead/", "tools/call", "ok", "failed", 1.0).await;
    // Messages that are not calls of tools are counted by their method.
    for (message, method, outcome) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "ping", "ok"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a"}}"#, "resources/read", "ok"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"evil/1"}"#, "other", "denied"),
        // The outcome of a notification does not depend on the body of the answer.
        (
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"name":"accepted"}}"#,
            "notifications/*",
            "ok",
        ),
    ] {
        calls.send("/a/mcp", message).await;
        calls.counted("/a/", method, "", outcome, 1.0).await;
        assert_eq!(calls.durations("/a/", method, "").await, 1.0, "{method}");
    }
    // A client's answer to a request of the server is not counted. An invalid message is not counted either.
    let before = calls.series("").await;
    assert_eq!(calls.send("/a/mcp", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await, 200);
    assert_eq!(calls.send("/a/mcp", "{").await, 400);
    assert_eq!(calls.send("/a/mcp", &call("ok").replace("2.0", "1.0")).await, 400);
    // This call comes last. When it has been counted, the messages before it would have been counted as well.
    calls.send("/a/mcp", &call("ok")).await;
    calls.counted("/a/", "tools/call", "ok", "ok", 3.0).await;
    let after = calls.series("").await;
    let sum = |series: &[(String, f64)]| series.iter().map(|(_, count)| count).sum::<f64>();
    assert_eq!((after.len(), sum(&after)), (before.len(), sum(&before) + 1.0));
}

/// In the newest revision, a client that leaves cancels its call.
#[tokio::test]
async fn a_client_that_leaves_is_counted_as_cancelled() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        drop(recorder.read(&mut stream).await);
        std::future::pending::<()>().await;
    })
    .await;
    let edge = TestEdge::start(&format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, protocol: mcp, auth: none, tools: [{{match: get}}]}}]
",
        origin.address
    ))
    .await;
    let calls = Calls { edge, token: String::new() };
    let fields = [IS_JSON, ("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "get")];
    let mut client = TcpStream::connect(calls.edge.address).await.expect("the edge listens");
    client.write_all(&post("/a/mcp", &fields, stateless("get").as_bytes())).await.expect("the edge reads");
    eventually("it has arrived", async || origin.count() == 1).await;
    drop(client);
    calls.counted("/a/", "tools/call", "get", "cancelled", 1.0).await;
    // A reset of an HTTP/2 stream is counted in the same way.
    let mut http2 = Http2::connect(calls.edge.address).await;
    let request = fields
        .iter()
        .fold(http::Request::post("http://edge.example/a/mcp"), |request, (name, value)| request.header(*name, *value));
    let (response, mut sending) = http2.send(request.body(()).expect("a request"), false).await;
    sending.send_data(stateless("get").into(), true).expect("the stream is open");
    eventually("it has arrived", async || origin.count() == 2).await;
    sending.send_reset(h2::Reason::CANCEL);
    calls.counted("/a/", "tools/call", "get", "cancelled", 2.0).await;
    assert_eq!(calls.durations("/a/", "tools/call", "get").await, 2.0);
    assert_eq!(calls.series("").await.len(), 1, "there is no other outcome");
    drop(response);
}

/// In older revisions, a client that leaves does not cancel its call. But if it leaves before the end of its answer,
/// the outcome is `cancelled`, because it has not received the whole answer.
#[tokio::test]
async fn a_client_that_leaves_before_the_end_of_its_answer_is_not_counted_as_a_failure() {
    static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    let origin = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            let mut pieces = tiny("application/json", OK);
            let end = pieces.pop().expect("an end");
            stream.write_all(&pieces.concat()).await.expect("the edge reads");
            GATE.acquire().await.expect("it is never closed").forget();
            stream.write_all(&end).await.expect("the edge reads");
        }
    })
    .await;
    let calls = Calls::start(&origin).await;
    for times in 1..=2 {
        let mut client = TcpStream::connect(calls.edge.address).await.expect("the edge listens");
        client.write_all(&post("/free/mcp", &[IS_JSON], call("get").as_bytes())).await.expect("the edge reads");
        let mut seen = Vec::new();
        while !seen.ends_with(b"}\r\n") {
            assert_ne!(client.read_buf(&mut seen).await.expect("there is more"), 0);
        }
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        drop(client);
        GATE.add_permits(1);
        calls.counted("/free/", "tools/call", "other", "cancelled", f64::from(times)).await;
    }
    assert_eq!(calls.series("").await.len(), 1, "there is no other outcome");
}

/// A tool has a label of its own when the configuration names it or its server has listed it.
#[tokio::test]
async fn labels_of_tools_come_from_configuration_and_lists() {
    for list in ["tools/list", "tools/list_events", "tools/list_tiny", "tools/list_tinyevents"] {
        // The client must send the real method, which does not name a form of the answer. So the origin replaces the
        // method before it chooses the form.
        let origin = Origin::scripted(move |mut stream, recorder| async move {
            while let Some(mut request) = recorder.read(&mut stream).await {
                if tool(&request) == "tools/list" {
                    request.body = format!(r#"{{"method":"{list}"}}"#).into_bytes();
                }
                for piece in answer(&request).expect("it answers") {
                    stream.write_all(&piece).await.expect("the edge reads");
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            }
        })
        .await;
        let calls = Calls::start(&origin).await;
        for path in ["/free/", "/a/"] {
            let mcp = format!("{path}mcp");
            let named = if path == "/a/" { "unlisted" } else { "listed too" };
            assert_eq!(calls.send(&mcp, &call(named)).await, 200);
            calls.counted(path, "tools/call", "other", "ok", 1.0).await;
        }
        let asked = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
        assert_eq!(calls.send("/free/mcp", &asked).await, 200);
        calls.counted("/free/", "tools/list", "", "ok", 1.0).await;
        for (tool, label, count) in
            [("listed", "listed", 1.0), ("listed too", "listed too", 1.0), ("Listed", "other", 2.0)]
        {
            assert_eq!(calls.send("/free/mcp", &call(tool)).await, 200, "{list}");
            calls.counted("/free/", "tools/call", label, "ok", count).await;
        }
        // Each route has its own labels.
        assert_eq!(calls.send("/a/mcp", &call("unlisted")).await, 200);
        calls.counted("/a/", "tools/call", "other", "ok", 2.0).await;
        assert_eq!(calls.send("/a/mcp", &call("ok")).await, 200);
        calls.counted("/a/", "tools/call", "ok", "ok", 1.0).await;
    }
}

/// Row 69 of the fault matrix: names that a client invents do not become series.
#[tokio::test]
async fn random_names_make_no_series() {
    let origin = origin().await;
    let calls = Calls::start(&origin).await;
    let send = async |from: usize, to: usize| {
        for number in from..to {
            let name = format!("un-{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let message = match number % 5 {
                0 => call(&name),
                1 => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{name}"}}"#),
                2 => format!(r#"{{"jsonrpc":"2.0","method":"notifications/{name}"}}"#),
                3 => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{{"name":"{name}"}}}}"#),
                _ => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"{name}"}}}}"#),
            };
            for path in ["/a", "/free"] {
                calls.send(&format!("{path}/{name}"), &message).await;
                // Hosts and HTTP methods that a client invents do not become series either.
                let host = request("GET", &format!("{path}/"), &[("Host", &name)], "");
                assert_eq!(exchange(calls.edge.address, host).await.status, 421);
                let method = request(&name, &format!("{path}/"), &[("Authorization", &calls.token)], "");
                assert_eq!(exchange(calls.edge.address, method).await.status, 405);
            }
        }
    };
    // One message of each kind creates the series that all later messages share.
    send(0, 5).await;
    for route in ["/a/", "/free/"] {
        calls.counted(route, "resources/read", "", "ok", 1.0).await;
    }
    let before = calls.lines().await;
    send(5, 505).await;
    for (route, method, tool, outcome) in [
        ("/a/", "tools/call", "other", "ok"),
        ("/free/", "tools/call", "other", "ok"),
        ("/a/", "other", "", "denied"),
        ("/free/", "other", "", "ok"),
        ("/a/", "notifications/*", "", "ok"),
        ("/free/", "prompts/get", "", "ok"),
        ("/a/", "resources/read", "", "ok"),
    ] {
        calls.counted(route, method, tool, outcome, 101.0).await;
    }
    let scrape = calls.edge.admin_get("/metrics").await.body;
    assert_eq!(scrape.lines().count(), before, "{scrape}");
    assert!(!scrape.contains("un-"), "{scrape}");
}
