//! The transport of revision 2024-11-05: a stream begins with the URL to which the client posts, and this URL contains
//! the session.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use h2::RecvStream;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Sender, channel};

use super::{CALL, Caller, INITIALIZE, INITIALIZED, KEY, LIST, WITH_KEY, kill, method, respond, rpc};
use crate::harness::http2::{Http2, piece};
use crate::harness::{Origin, Recorded, Recorder, Reply, TestEdge, Tokens, exchange, request};

/// Makes the beginning of a stream from the request that opens the stream and the id of its session.
type Announcement = Arc<dyn Fn(&Recorded, &str) -> String + Send + Sync>;

/// A server of the old transport.
#[derive(Clone)]
struct Old {
    name: &'static str,
    announcement: Announcement,
    /// Whether each byte of the announcement is sent as a separate chunk.
    dripping: bool,
    opened: Arc<AtomicUsize>,
    sessions: Arc<Mutex<HashMap<String, Sender<String>>>>,
}

impl Old {
    /// A server whose sessions are `NAME-1`, `NAME-2`, ...
    async fn server(
        name: &'static str,
        announcement: impl Fn(&Recorded, &str) -> String + Send + Sync + 'static,
        dripping: bool,
    ) -> Origin {
        let (opened, sessions) = (Arc::default(), Arc::default());
        let old = Self { name, announcement: Arc::new(announcement), dripping, opened, sessions };
        Origin::scripted(move |stream, recorder| old.clone().serve(stream, recorder)).await
    }

    async fn serve(self, mut stream: TcpStream, recorder: Recorder) {
        while let Some(request) = recorder.read(&mut stream).await {
            if request.line().starts_with("GET") {
                return self.stream(&request, stream).await;
            }
            if stream.write_all(&self.post(&request)).await.is_err() {
                return;
            }
        }
    }

    async fn stream(self, request: &Recorded, mut stream: TcpStream) {
        let id = format!("{}-{}", self.name, self.opened.fetch_add(1, Ordering::SeqCst) + 1);
        let (sender, mut events) = channel(100);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut first = (self.announcement)(request, &id).into_bytes();
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if self.dripping {
            for byte in std::mem::take(&mut first) {
                drop(stream.write_all(&chunk(&[byte])).await);
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        } else if stream.write_all(&chunk(&first)).await.is_err() {
            return;
        }
        let mut nothing = [0; 1];
        loop {
            tokio::select! {
                Some(event) = events.recv() => drop(stream.write_all(&chunk(event.as_bytes())).await),
                _ = stream.read(&mut nothing) => return,
            }
        }
    }

    fn post(&self, request: &Recorded) -> Vec<u8> {
        let target = request.line().split(' ').nth(1).unwrap_or_default();
        let id = target.split_once("sessionId=").map(|(_, id)| id.split('&').next().unwrap_or_default());
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(events) = id.and_then(|id| sessions.get(id)) else {
            return respond("404 Not Found", &[], r#"{"mine":"no such session"}"#);
        };
        let result = match method(request).as_str() {
            "initialize" => {
                json!({"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": self.name, "version": "1"}})
            }
            "tools/call" => json!({"content": [{"type": "text", "text": self.name}]}),
            "tools/list" => json!({"tools": [{"name": "who"}, {"name": "drop_all"}]}),
            _ => return respond("202 Accepted", &[], ""),
        };
        drop(events.try_send(format!("event: message\ndata: {}\n\n", rpc(request, result))));
        respond("202 Accepted", &[("Content-Type", "text/plain")], "Accepted")
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn usual(_: &Recorded, id: &str) -> String {
    format!("event: endpoint\ndata: /message?sessionId={id}\n\n")
}

/// An edge with the routes `/old/` and `/other/` to `origins`. `route` has further settings of `/old/`.
async fn start(origins: &[&Origin], route: &str) -> TestEdge {
    let items: Vec<String> = origins.iter().map(|origin| format!("{{address: '{}'}}", origin.address)).collect();
    let yaml = format!(
        "{WITH_KEY}
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{}], balance: round_robin}}}}
routes:
  - {{path: /old/, upstream: a, protocol: mcp, auth: {{providers: [local]}}{route}}}
  - {{path: /other/, upstream: a, protocol: mcp, auth: {{providers: [local]}}}}
",
        Tokens::PROVIDER,
        items.join(", "),
    );
    TestEdge::start_with(&yaml, &[KEY]).await
}

/// A client of the old transport, with its stream open.
struct Client {
    address: SocketAddr,
    authorization: String,
    body: RecvStream,
    received: String,
    /// The URL to which the client posts.
    url: String,
    _connection: Http2,
}

impl Client {
    /// Opens the stream, without reading its events.
    async fn connect(edge: &TestEdge, subject: &str) -> Self {
        let authorization = format!("Bearer {}", Tokens::token(subject, "read write"));
        let mut connection = Http2::connect(edge.address).await;
        let response =
            connection.get("/old/sse", &[("authorization", &authorization), ("accept", "text/event-stream")]).await;
        assert_eq!(response.status(), 200);
        let (body, received, url) = (response.into_body(), String::new(), String::new());
        Self { address: edge.address, authorization, body, received, url, _connection: connection }
    }

    /// Opens the stream and reads the URL to which the client posts.
    async fn open(edge: &TestEdge, subject: &str) -> Self {
        let mut client = Self::connect(edge, subject).await;
        let event = client.event().await;
        let url = event.strip_prefix("event: endpoint\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
        client.url = url.unwrap_or_else(|| panic!("no announcement: {event:?}")).to_owned();
        client
    }

    /// The next event or comment, with its empty line.
    async fn event(&mut self) -> String {
        loop {
            if let Some(end) = self.received.find("\n\n") {
                let rest = self.received.split_off(end + 2);
                return std::mem::replace(&mut self.received, rest);
            }
            let piece = piece(&mut self.body).await.expect("the stream goes on").expect("it does not break off");
            write!(self.received, "{}", String::from_utf8_lossy(&piece)).expect("a string");
        }
    }

    async fn post(&self, body: &str) -> Reply {
        post(self.address, &self.url, &self.authorization, body).await
    }

    /// Posts `body` and returns the answer that arrives on the stream.
    async fn call(&mut self, body: &str) -> serde_json::Value {
        let reply = self.post(body).await;
        assert_eq!((reply.status, reply.body.as_str()), (202, "Accepted"), "{reply:?}");
        let event = self.event().await;
        let data = event.strip_prefix("event: message\ndata: ").unwrap_or_else(|| panic!("{event:?}"));
        serde_json::from_str(data).expect("JSON")
    }

    /// The name of the server that answers.
    async fn who(&mut self) -> String {
        let answer = self.call(CALL).await;
        answer["result"]["content"][0]["text"].as_str().expect("a text").to_owned()
    }
}

async fn post(address: SocketAddr, url: &str, authorization: &str, body: &str) -> Reply {
    let headers = [("Content-Type", "application/json"), ("Authorization", authorization)];
    exchange(address, request("POST", url, &headers, body)).await
}

fn posts(origin: &Origin) -> Vec<Recorded> {
    origin.requests().into_iter().filter(|request| request.line().starts_with("POST")).collect()
}

#[tokio::test]
async fn posts_reach_the_server_of_their_stream_at_its_own_url() {
    let origins = [Old::server("a", usual, false).await, Old::server("b", usual, false).await];
    let edge = start(&[&origins[0], &origins[1]], "").await;
    let mut clients = [Client::open(&edge, "alice").await, Client::open(&edge, "alice").await];
    let mut homes = Vec::new();
    for client in &mut clients {
        assert!(client.url.starts_with("/old/message?"), "{}", client.url);
        assert!(!client.url.contains("sessionId") && !client.url.contains("a-1") && !client.url.contains("b-1"));
        assert_eq!(client.call(INITIALIZE).await["result"]["protocolVersion"], "2024-11-05");
        assert_eq!(client.post(INITIALIZED).await.status, 202);
        homes.push(client.who().await);
    }
    homes.sort();
    assert_eq!(homes, ["a", "b"], "streams are balanced");
    for client in &mut clients {
        let home = client.who().await;
        for _ in 0..20 {
            assert_eq!(client.who().await, home);
        }
    }
    for (origin, name) in origins.iter().zip(["a", "b"]) {
        assert!(origin.requests()[0].line().starts_with("GET /sse HTTP/1.1"));
        let posts = posts(origin);
        assert_eq!(posts.len(), 24);
        for post in posts {
            assert_eq!(post.line(), format!("POST /message?sessionId={name}-1 HTTP/1.1"));
            assert_eq!(post.headers("x-user"), ["alice"]);
        }
    }
}

#[tokio::test]
async fn the_public_path_follows_the_rewrite_of_the_route() {
    type Case = (&'static str, &'static str, fn(&Recorded, &str) -> String, &'static str, &'static str);
    let cases: [Case; 4] = [
        (
            ", rewrite: {strip_prefix: false}",
            "GET /old/sse ",
            |_, id| format!("event: endpoint\ndata: /old/message?sessionId={id}\n\n"),
            "/old/message?",
            "POST /old/message?sessionId=a-1 ",
        ),
        (
            ", rewrite: {prefix: /x/}",
            "GET /x/sse ",
            |_, id| format!("event: endpoint\ndata: /x/message?sessionId={id}\n\n"),
            "/old/message?",
            "POST /x/message?sessionId=a-1 ",
        ),
        // The route's rewrite cannot produce this path, so it has no public path. Posts reach it all the same.
        (", rewrite: {strip_prefix: false}", "GET /old/sse ", usual, "/old/", "POST /message?sessionId=a-1 "),
        (", rewrite: {prefix: /x/}", "GET /x/sse ", usual, "/old/", "POST /message?sessionId=a-1 "),
    ];
    for (route, opened, announcement, public, posted) in cases {
        let origin = Old::server("a", announcement, false).await;
        let edge = start(&[&origin], route).await;
        let mut client = Client::open(&edge, "alice").await;
        assert!(client.url.starts_with(public), "{route}: {}", client.url);
        assert_eq!(client.who().await, "a", "{route}");
        let seen = origin.requests();
        assert!(seen[0].line().starts_with(opened), "{route}: {}", seen[0].line());
        assert!(seen[1].line().starts_with(posted), "{route}: {}", seen[1].line());
    }
}

#[tokio::test]
async fn urls_in_any_form_lead_to_the_server_and_urls_of_other_hosts_are_refused() {
    type Case = (&'static str, fn(&Recorded, &str) -> String);
    let same_host = |request: &Recorded, id: &str| {
        let host = request.header("host").expect("a host");
        format!("event: endpoint\ndata: http://{host}/message?sessionId={id}\n\n")
    };
    let relative = |_: &Recorded, id: &str| format!("event: endpoint\ndata: message?sessionId={id}\n\n");
    let cases: [Case; 3] = [("", same_host), (", host: endpoint", same_host), ("", relative)];
    for (route, announcement) in cases {
        let origin = Old::server("a", announcement, false).await;
        let edge = start(&[&origin], route).await;
        let mut client = Client::open(&edge, "alice").await;
        assert!(client.url.starts_with("/old/message?"), "{route}: {}", client.url);
        assert_eq!(client.who().await, "a");
        assert_eq!(origin.last().line(), "POST /message?sessionId=a-1 HTTP/1.1");
    }
    for foreign in [
        "http://other.example/message?sessionId=1",
        "https://edge.example.evil/m",
        "//other.example/m",
        "http://x@other.example/m",
    ] {
        let origin = Old::server("a", move |_, _| format!("event: endpoint\ndata: {foreign}\n\n"), false).await;
        // Case B3: a client would post its messages, and perhaps its token, to that host.
        let edge = start(&[&origin], "").await;
        let authorization = format!("Bearer {}", Tokens::token("alice", "read write"));
        let fields = [("authorization", authorization.as_str()), ("accept", "text/event-stream")];
        let mut response = Http2::connect(edge.address).await.get("/old/sse", &fields).await;
        // The first event may come together with the head, or later.
        if response.status() != 502 {
            let first = piece(response.body_mut()).await;
            assert!(first.is_none_or(|piece| piece.is_err()), "the stream ends without an event");
        }
        assert_eq!(edge.metric(r#"mcp_edge_misleading_answers_total{route="/old/"}"#).await, 1.0);
        // An open route has no credential that could get lost.
        let open = TestEdge::start(&format!(
            "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes: [{{path: /old/, upstream: a, protocol: mcp, auth: none}}]\n",
            origin.address
        ))
        .await;
        assert_eq!(Client::open(&open, "alice").await.url, foreign);
    }
}

/// Some clients take an announcement at any time, and with its lines in any order.
#[tokio::test]
async fn no_event_of_a_stream_can_lead_a_client_with_a_credential_elsewhere() {
    for events in [
        "data: https://evil.example/x\nevent: endpoint\n\n",
        "event: ping\ndata: 1\n\nevent: endpoint\ndata: https://evil.example/x\n\n",
        "event: endpoint\ndata: /message?sessionId=1\n\nevent: endpoint\ndata: https://evil.example/x\n\n",
    ] {
        for route in ["", ", tools: [{match: who}]"] {
            let origin = Old::server("a", move |_, _| events.to_owned(), false).await;
            let edge = start(&[&origin], route).await;
            let authorization = format!("Bearer {}", Tokens::token("alice", "read write"));
            let fields = [("authorization", authorization.as_str()), ("accept", "text/event-stream")];
            let mut response = Http2::connect(edge.address).await.get("/old/sse", &fields).await;
            let mut seen = String::new();
            while let Some(Ok(piece)) = piece(response.body_mut()).await {
                seen += &String::from_utf8_lossy(&piece);
            }
            assert!(!seen.contains("evil.example"), "{route} {seen}");
            assert_eq!(edge.metric(r#"mcp_edge_misleading_answers_total{route="/old/"}"#).await, 1.0);
        }
    }
}

/// Case B4: `uvicorn --root-path /old`, or a server with its public URL in its settings.
#[tokio::test]
async fn a_server_that_knows_its_public_path_is_not_given_the_prefix_again() {
    let announcements: [fn(&Recorded, &str) -> String; 3] = [
        |_, id| format!("event: endpoint\ndata: /old/message?sessionId={id}\n\n"),
        |_, id| format!("event: endpoint\ndata: http://edge.example/old/message?sessionId={id}\n\n"),
        |_, id| format!("event: endpoint\ndata: https://public.example/old/message?sessionId={id}\n\n"),
    ];
    for announcement in announcements {
        let origins = [Old::server("a", announcement, false).await, Old::server("b", announcement, false).await];
        let items: Vec<String> = origins.iter().map(|origin| format!("{{address: '{}'}}", origin.address)).collect();
        let edge = TestEdge::start(&format!(
            "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{}], balance: round_robin}}}}
routes: [{{path: /old/, upstream: a, protocol: mcp, auth: {{providers: [local], public_url: 'https://public.example/old/sse'}}}}]
",
            Tokens::PROVIDER,
            items.join(", ")
        ))
        .await;
        let mut homes = Vec::new();
        for _ in 0..2 {
            let mut client = Client::open(&edge, "alice").await;
            assert!(client.url.starts_with("/old/message?"), "{}", client.url);
            assert!(!client.url.contains("sessionId"), "{}", client.url);
            homes.push(client.who().await);
            for _ in 0..4 {
                assert_eq!(&client.who().await, homes.last().expect("a home"));
            }
        }
        homes.sort();
        assert_eq!(homes, ["a", "b"]);
        assert!(posts(&origins[0]).iter().all(|post| post.line().starts_with("POST /message?sessionId=a-1 ")));
    }
}

/// Case E12: what was authorized is the path that the client asked for.
#[tokio::test]
async fn a_session_is_reached_at_its_own_path_only() {
    let origin = Old::server("a", usual, false).await;
    let edge = start(&[&origin], "").await;
    let mut client = Client::open(&edge, "alice").await;
    assert_eq!(client.who().await, "a");
    let own = client.url.clone();
    for other in ["/old/other", "/old/", "/old/message/", "/old/sse"] {
        client.url = own.replacen("/old/message", other, 1);
        assert_eq!(client.post(CALL).await.status, 404, "{other}");
    }
    client.url = own;
    assert_eq!(client.who().await, "a");
    assert_eq!(posts(&origin).len(), 2);
}

#[tokio::test]
async fn the_servers_own_address_counts_as_the_same_host() {
    // The server announces the address on which it listens, not the host that the client names.
    let listening = Arc::new(Mutex::new(None::<SocketAddr>));
    let known = Arc::clone(&listening);
    let origin = Old::server(
        "a",
        move |_, id| {
            let address = known.lock().unwrap_or_else(PoisonError::into_inner).expect("it listens");
            format!("event: endpoint\ndata: http://{address}/message?sessionId={id}\n\n")
        },
        false,
    )
    .await;
    *listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(origin.address);
    let edge = start(&[&origin], "").await;
    let mut client = Client::open(&edge, "alice").await;
    assert!(client.url.starts_with("/old/message?"), "{}", client.url);
    assert_eq!(client.who().await, "a");
}

#[tokio::test]
async fn the_announcement_may_come_in_single_bytes() {
    let origin = Old::server("a", usual, true).await;
    let edge = start(&[&origin], "").await;
    let mut client = Client::open(&edge, "alice").await;
    assert!(client.url.starts_with("/old/message?"), "{}", client.url);
    assert_eq!(client.who().await, "a");
}

#[tokio::test]
async fn comments_and_other_fields_around_the_announcement_stay() {
    for dripping in [false, true] {
        let origin = Old::server(
            "a",
            |_, id| {
                format!(": hello\n\n:\n\nid: 1\r\nevent: endpoint\r\nretry: 5\r\ndata: /message?sessionId={id}\r\n\r\n: end\n\n")
            },
            dripping,
        )
        .await;
        let edge = start(&[&origin], "").await;
        let mut client = Client::connect(&edge, "alice").await;
        assert_eq!(client.event().await, ": hello\n\n");
        assert_eq!(client.event().await, ":\n\n");
        let rest = client.event().await;
        let url = rest.strip_prefix("id: 1\r\nevent: endpoint\r\nretry: 5\r\ndata: ").expect("its fields");
        client.url = url.strip_suffix("\r\n\r\n: end\n\n").expect("its end").to_owned();
        assert!(client.url.starts_with("/old/message?"));
        assert_eq!(client.who().await, "a");
    }
}

/// Settings of a route without and with a filter of lists, which looks at all events.
const RULES: [&str; 2] = ["", ", tools: [{match: who}]"];

#[tokio::test]
async fn every_announcement_of_a_stream_is_made_public() {
    const FIRST: [&str; 6] = [
        "event: ping\ndata: 2026-11-22T10:00:00Z\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1}\n\n",
        "event: message\ndata: {}\n\n",
        "event: Endpoint\ndata: /message?sessionId=1\n\n",
        "event: endpoints\ndata: /message?sessionId=1\n\n",
        "id: 5\nevent:  endpoint\ndata: /message?sessionId=1\n\n",
    ];
    for rules in RULES {
        for first in FIRST {
            let later = "event: endpoint\ndata: /message?sessionId=2\n\n";
            let origin = Old::server("a", move |_, _| format!("{first}{later}"), false).await;
            let edge = start(&[&origin], rules).await;
            let mut client = Client::connect(&edge, "alice").await;
            assert_eq!(client.event().await, first, "{rules}");
            let event = client.event().await;
            let url = event.strip_prefix("event: endpoint\ndata: ").expect("an announcement").trim_end();
            assert!(url.starts_with("/old/message?") && !url.contains("sessionId"), "{rules}: {first:?} came first");
        }
        // Some clients take a second one.
        let origin =
            Old::server("a", |request, id| usual(request, id) + "event: endpoint\ndata: /message?x=2\n\n", false).await;
        let edge = start(&[&origin], rules).await;
        let mut client = Client::open(&edge, "alice").await;
        assert!(client.event().await.starts_with("event: endpoint\ndata: /old/message?mcp_edge_session="), "{rules}");
        assert_eq!(client.who().await, "a");
    }
}

#[tokio::test]
async fn another_principal_cannot_post_to_a_session() {
    let origin = Old::server("a", usual, false).await;
    let edge = start(&[&origin], "").await;
    let mut alice = Client::open(&edge, "alice").await;
    let bob = format!("Bearer {}", Tokens::token("bob", "read write"));
    assert_eq!(post(edge.address, &alice.url, &bob, CALL).await.status, 404);
    let elsewhere = alice.url.replacen("/old/", "/other/", 1);
    assert_eq!(
        post(edge.address, &elsewhere, &alice.authorization, CALL).await.status,
        404,
        "the session is unknown on another route"
    );
    assert!(posts(&origin).is_empty());
    assert_eq!(alice.who().await, "a");
}

#[tokio::test]
async fn a_url_that_the_edge_did_not_make_is_unknown() {
    let origin = Old::server("a", usual, false).await;
    let edge = start(&[&origin], "").await;
    let mut client = Client::open(&edge, "alice").await;
    let (parameter, sealed) =
        client.url.split_once('?').and_then(|(_, query)| query.split_once('=')).expect("a parameter");
    for made_up in
        ["", "x", "a-1", &sealed[1..], &sealed[..sealed.len() - 1], &format!("{sealed}AAAA"), &"A".repeat(5_000)]
    {
        let url = format!("/old/message?{parameter}={made_up}");
        assert_eq!(post(edge.address, &url, &client.authorization, CALL).await.status, 404, "{made_up:?}");
    }
    assert!(posts(&origin).is_empty(), "nothing reached the server");
    // The other parameters do not matter: the request goes to the URL of the session.
    let url = format!("/old/message?x=y&{parameter}={sealed}&sessionId=a-2");
    assert_eq!(post(edge.address, &url, &client.authorization, INITIALIZED).await.status, 202);
    assert_eq!(origin.last().line(), "POST /message?sessionId=a-1 HTTP/1.1");
    assert_eq!(client.who().await, "a");
}

#[tokio::test]
async fn rules_hold_for_posts_and_for_lists_on_the_stream() {
    let origin = Old::server("a", usual, false).await;
    let edge = start(&[&origin], ", tools: [{match: who, scopes: [read]}, {match: drop_all, scopes: [admin]}]").await;
    let mut client = Client::open(&edge, "alice").await;
    let reply = client.post(&CALL.replace("who", "drop_all")).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(posts(&origin).is_empty());
    assert_eq!(client.who().await, "a");
    let listed = client.call(LIST).await;
    assert_eq!(listed["result"]["tools"], json!([{"name": "who"}]));
    assert_eq!(listed["id"], 8);
    // A route without rules shows all tools.
    let edge = start(&[&origin], "").await;
    let listed = Client::open(&edge, "alice").await.call(LIST).await;
    assert_eq!(listed["result"]["tools"], json!([{"name": "who"}, {"name": "drop_all"}]));
}

#[tokio::test]
async fn sessions_of_one_transport_are_not_sessions_of_the_other() {
    let old = Old::server("a", usual, false).await;
    let edge = start(&[&old], "").await;
    let mut client = Client::open(&edge, "alice").await;
    let announced = client.url.clone();
    let (url, sealed) = announced.split_once('=').expect("a parameter");
    let mut caller = Caller::new(edge.address, "/old/mcp", "alice");
    caller.session = Some(sealed.to_owned());
    assert_eq!(caller.post(CALL).await.status, 404, "a session of the old transport in the header field");
    // A session in the URL together with a session in the header field is refused.
    caller.path.clone_from(&client.url);
    assert_eq!(caller.post(CALL).await.status, 400);
    assert!(posts(&old).is_empty());
    assert_eq!(client.who().await, "a");
    // The same route leads to a new server now.
    let new = super::server("n").await;
    let yaml = std::fs::read_to_string(edge.path("edge.yaml")).expect("it is there");
    edge.reload(&yaml.replace(&old.address.to_string(), &new.address.to_string())).await.expect("it reloads");
    let caller = Caller::open(edge.address, "/old/mcp", "alice").await;
    let before = new.count();
    let url = format!("{url}={}", caller.id());
    assert_eq!(
        post(edge.address, &url, &caller.authorization, CALL).await.status,
        404,
        "a session of the new transport in the URL"
    );
    assert_eq!(new.count(), before);
    assert_eq!(caller.who().await, "n");
}

#[tokio::test]
async fn the_end_of_the_server_ends_the_session_even_if_the_route_resumes_sessions() {
    for route in ["", ", sessions: {resume: true}"] {
        let mut origins = vec![Old::server("a", usual, false).await, Old::server("b", usual, false).await];
        let edge = start(&[&origins[0], &origins[1]], route).await;
        let mut client = Client::open(&edge, "alice").await;
        let home = usize::from(client.who().await == "b");
        kill(origins.remove(home)).await;
        assert_eq!(client.post(CALL).await.status, 404);
        assert_eq!(origins[0].count(), 0);
        let mut again = Client::open(&edge, "alice").await;
        again.who().await;
    }
}

#[tokio::test]
async fn a_url_outlives_a_reload_and_works_at_another_edge_with_the_key() {
    let origins = [Old::server("a", usual, false).await, Old::server("b", usual, false).await];
    let both = [&origins[0], &origins[1]];
    let edges = [start(&both, "").await, start(&both, "").await];
    let mut client = Client::open(&edges[0], "alice").await;
    let home = client.who().await;
    let yaml = std::fs::read_to_string(edges[0].path("edge.yaml")).expect("it is there");
    edges[0].reload(&yaml.replace("round_robin", "least_request")).await.expect("it reloads");
    for round in 0..6 {
        client.address = edges[round % 2].address;
        assert_eq!(client.who().await, home);
    }
}
