//! Request heads that repeat on a connection. The edge does not read a repeated head again, but it makes every decision
//! again.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{
    Claims, Origin, Reply, TestEdge, Tokens, answer, call, eventually, exchange, message, post, read_reply, request,
};

fn yaml(origin: &Origin, route: &str) -> String {
    format!(
        "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mcp/, upstream: a, protocol: mcp, auth: {{providers: [local]}}{route}}}
",
        Tokens::PROVIDER,
        origin.address
    )
}

async fn origin() -> Origin {
    Origin::answering(|_| answer("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await
}

/// One connection of a client.
struct Client(TcpStream);

impl Client {
    async fn connect(edge: &TestEdge) -> Self {
        Self(TcpStream::connect(edge.address).await.expect("the edge listens"))
    }

    async fn ask(&mut self, token: &str, body: &str) -> Reply {
        let authorization = format!("Bearer {token}");
        let fields = [("Authorization", authorization.as_str()), ("X-Kept", "yes"), ("X-Forwarded-For", "6.6.6.6")];
        self.0.write_all(post("/mcp/x?q=1", &fields, body).as_bytes()).await.expect("the edge reads");
        read_reply(&mut self.0).await
    }
}

#[tokio::test]
async fn each_body_arrives_complete_behind_the_same_head() {
    let origin = origin().await;
    let edge = TestEdge::start(&yaml(&origin, "")).await;
    let mut client = Client::connect(&edge).await;
    let (alice, bob) = (Tokens::token("alice", ""), Tokens::token("bob", ""));
    let mut ids = std::collections::BTreeSet::new();
    for (token, subject) in [(&alice, "alice"), (&alice, "alice"), (&bob, "bob"), (&bob, "bob"), (&alice, "alice")] {
        for tool in ["x", "x", "a_longer_name", "y", &"z".repeat(3_000)] {
            let body = call("1", tool);
            assert_eq!(client.ask(token, &body).await.status, 200);
            let seen = origin.last();
            assert_eq!((seen.line(), seen.body.as_slice()), ("POST /x?q=1 HTTP/1.1", body.as_bytes()));
            let fields = ["x-kept", "x-user", "x-forwarded-for"].map(|name| seen.headers(name));
            assert_eq!(fields, [vec!["yes"], vec![subject], vec!["127.0.0.1"]]);
            assert_eq!((seen.header("authorization"), seen.headers("content-length").len()), (None, 1));
            ids.insert(seen.header("x-request-id").expect("each request has an id").to_owned());
        }
    }
    assert_eq!(ids.len(), 25, "each request has an id of its own");
    let series = r#"mcp_edge_auth_cache_requests_total{result="hit"}"#;
    assert_eq!(edge.metric(series).await, 23.0, "each request but the first one of each caller");
}

/// Pipelined requests have the same head, but each has its own body.
#[tokio::test]
async fn pipelined_requests_may_repeat_a_head() {
    let origin = origin().await;
    let edge = TestEdge::start(&yaml(&origin, "")).await;
    let authorization = format!("Bearer {}", Tokens::token("alice", ""));
    let bodies: Vec<String> = ["a", "b", "cc", "c"].iter().map(|tool| call("1", tool)).collect();
    let text: String = bodies.iter().map(|body| post("/mcp/", &[("Authorization", &authorization)], body)).collect();
    let mut client = Client::connect(&edge).await;
    client.0.write_all(text.as_bytes()).await.expect("the edge reads");
    for _ in &bodies {
        assert_eq!(read_reply(&mut client.0).await.status, 200);
    }
    let seen: Vec<_> = origin.requests().into_iter().map(|seen| String::from_utf8(seen.body).expect("UTF-8")).collect();
    assert_eq!(seen, bodies);
}

/// Invariant 3 (one snapshot for each request): results of an earlier snapshot that a connection remembers are not
/// used.
#[tokio::test]
async fn a_reload_applies_to_a_repeated_head() {
    let (first, second) = (origin().await, origin().await);
    let edge = TestEdge::start(&yaml(&first, "")).await;
    let (mut client, token) = (Client::connect(&edge).await, Tokens::token("alice", "read"));
    for _ in 0..3 {
        assert_eq!(client.ask(&token, &call("1", "x")).await.status, 200);
    }
    edge.reload(&yaml(&second, ", request_headers: {set: {X-Kept: no, X-New: new}}"))
        .await
        .expect("the configuration is valid");
    for _ in 0..3 {
        assert_eq!(client.ask(&token, &call("1", "x")).await.status, 200);
        let seen = second.last();
        assert_eq!(["x-kept", "x-new"].map(|name| seen.headers(name)), [vec!["no"], vec!["new"]]);
    }
    assert_eq!((first.count(), second.count()), (3, 3));
    for (route, status) in
        [(", refusals: http, tools: [{match: y}]", 403), ("", 200), (", request_headers: {remove: [X-Kept]}", 200)]
    {
        edge.reload(&yaml(&second, route)).await.expect("the configuration is valid");
        for _ in 0..3 {
            assert_eq!(client.ask(&token, &call("1", "x")).await.status, status, "{route}");
        }
    }
    assert_eq!(second.last().header("x-kept"), None);
    // The path now belongs to an opaque route.
    let opaque = yaml(&second, "").replace("protocol: mcp, ", "");
    edge.reload(&opaque).await.expect("the configuration is valid");
    let body = "no message";
    for _ in 0..3 {
        assert_eq!(client.ask(&token, body).await.status, 200);
    }
    assert_eq!(second.last().body, body.as_bytes());
    // And to an MCP route again.
    edge.reload(&yaml(&second, "")).await.expect("the configuration is valid");
    assert_eq!(client.ask(&token, body).await.status, 400);
}

#[tokio::test]
async fn a_revoked_credential_is_refused_with_the_same_head() {
    let origin = origin().await;
    let edge = TestEdge::start(&yaml(&origin, "")).await;
    let (mut client, token) = (Client::connect(&edge).await, Tokens::token("alice", ""));
    for _ in 0..3 {
        assert_eq!(client.ask(&token, &call("1", "x")).await.status, 200);
    }
    let purge = request(
        "POST",
        "/auth/purge",
        &[("Host", "localhost")],
        &json!({"subject": "alice", "refuse_for": "1h"}).to_string(),
    );
    assert_eq!(exchange(edge.admin, purge).await.json()["purged"], 1);
    for _ in 0..3 {
        assert_eq!(client.ask(&token, &call("1", "x")).await.status, 401);
    }
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn an_expired_credential_is_refused_with_the_same_head() {
    let origin = origin().await;
    let edge = TestEdge::start(&yaml(&origin, "")).await;
    let mut client = Client::connect(&edge).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let token = Tokens::sign(&Claims::good("alice", "").with("exp", json!(now + 2)).0);
    assert_eq!(client.ask(&token, &call("1", "x")).await.status, 200);
    let ends = async || client.ask(&token, &call("1", "x")).await.status == 401;
    eventually("the credential has ended", ends).await;
    assert_eq!(client.ask(&token, &call("1", "x")).await.status, 401);
}

/// A request that is refused because of its head is refused again. A request that is refused because of its message
/// does not affect the next message.
#[tokio::test]
async fn each_refusal_is_decided_again() {
    let origin = origin().await;
    let edge = TestEdge::start(&yaml(&origin, ", refusals: http, tools: [{match: 'x*'}]")).await;
    let (mut client, token) = (Client::connect(&edge).await, Tokens::token("alice", ""));
    for (body, status) in [
        (call("1", "x"), 200),
        (call("1", "y"), 403),
        (call("1", "x"), 200),
        (message("1", "tools/call", r#"{"name":"x","name":"y"}"#), 400),
        (call("1", "x2"), 200),
    ] {
        assert_eq!(client.ask(&token, &body).await.status, status, "{body}");
    }
    for _ in 0..3 {
        assert_eq!(client.ask("no.token", &call("1", "x")).await.status, 401);
    }
    assert_eq!(client.ask(&token, &call("1", "x")).await.status, 200);
    assert_eq!(origin.count(), 4);
    eventually("all are counted", async || {
        edge.metric(r#"mcp_edge_rejections_total{reason="invalid_token"}"#).await == 3.0
    })
    .await;
}

/// The lookup sends the operation of the message to the authentication server. So the edge looks up each operation
/// once, even with the same head.
#[tokio::test]
async fn a_lookup_that_sends_the_operation_is_made_for_each_operation() {
    let origin = origin().await;
    let server = Origin::answering(|request| match request.header("x-op-name") {
        Some("b") => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n".to_vec(),
    })
    .await;
    let gate = format!(
        "gate: {{lookup: {{url: 'http://{}/', original_uri: false, operation: {{method: X-Op, name: X-Op-Name}}}}}}",
        server.address
    );
    let yaml = yaml(&origin, "").replace(Tokens::PROVIDER, &gate).replace("[local]", "[gate]");
    let edge = TestEdge::start(&yaml).await;
    let mut client = Client::connect(&edge).await;
    for (tool, status) in [("a", 200), ("b", 403), ("a", 200), ("c", 200), ("b", 403), ("c", 200)] {
        assert_eq!(client.ask("t", &call("1", tool)).await.status, status, "{tool}");
    }
    assert_eq!((server.count(), origin.count()), (3, 4));
}

/// Requests of several clients to several routes on one connection, as a proxy in front of the edge sends them.
#[tokio::test]
async fn alternating_heads_are_not_confused() {
    let origin = origin().await;
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8]}}]\n{}  - {{path: /open/, upstream: a, protocol: mcp, auth: none}}\n",
        yaml(&origin, "")
    );
    let edge = TestEdge::start(&yaml).await;
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    let tokens = ["alice", "bob"].map(|subject| format!("Bearer {}", Tokens::token(subject, "")));
    let body = call("1", "x");
    for turn in 0..12 {
        let (path, client) = (["/mcp/x", "/open/y"][turn / 2 % 2], ["10.0.0.1", "10.0.0.2"][turn / 3 % 2]);
        let fields = [("Authorization", tokens[turn % 2].as_str()), ("X-Forwarded-For", client)];
        stream.write_all(post(path, &fields, &body).as_bytes()).await.expect("the edge reads");
        assert_eq!(read_reply(&mut stream).await.status, 200);
        let seen = origin.last();
        let user = (path == "/mcp/x").then_some(["alice", "bob"][turn % 2]);
        assert_eq!(
            (seen.line(), seen.header("x-user")),
            (format!("POST {} HTTP/1.1", &path[path.len() - 2..]).as_str(), user)
        );
        assert_eq!(seen.headers("x-forwarded-for"), [format!("{client}, 127.0.0.1")]);
    }
}

/// The edge checks the form of a head once. What the head asks for, what it is refused for, and what depends on the body, is
/// decided for every request.
#[tokio::test]
async fn what_a_repeated_head_asks_for_is_done_each_time() {
    let origin = origin().await;
    let opaque =
        "  - {path: /opaque/, upstream: a, auth: none, cors: {origins: ['https://good.example']}, body_bytes: 200B}";
    let edge = TestEdge::start(&format!("{}{opaque}\n", yaml(&origin, ", body_bytes: 200B"))).await;
    let authorization = format!("Bearer {}", Tokens::token("alice", ""));
    // Between 100 and 200 bytes, so that the head of the large body below is as long as this one.
    let body = call("1", &"x".repeat(50));
    let text = |path, field, body: &str| post(path, &[("Authorization", &authorization), field], body);
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    for _ in 0..4 {
        let text = text("/mcp/", ("Expect", "100-continue"), &body);
        stream.write_all(text.trim_end_matches(&body).as_bytes()).await.expect("the edge reads");
        assert_eq!(read_reply(&mut stream).await.status, 100);
        stream.write_all(body.as_bytes()).await.expect("the edge reads");
        assert_eq!(read_reply(&mut stream).await.status, 200);
    }
    let large = call("1", &"x".repeat(200));
    assert!((100..200).contains(&body.len()) && (200..1000).contains(&large.len()));
    for path in ["/mcp/", "/opaque/"] {
        for (field, status, allows) in [
            (("Origin", "https://evil.example"), if path == "/mcp/" { 403 } else { 200 }, None),
            (("Origin", "https://good.example"), if path == "/mcp/" { 403 } else { 200 }, Some("https://good.example")),
            (("Content-Encoding", "gzip"), if path == "/mcp/" { 415 } else { 200 }, None),
            (("Connection", "x-a, content-type"), if path == "/mcp/" { 400 } else { 200 }, None),
            // Nobody asks to switch protocols without `Connection: upgrade`.
            (("Upgrade", "websocket"), 200, None),
            (("X-Other", "1"), 200, None),
        ] {
            for _ in 0..4 {
                stream.write_all(text(path, field, &body).as_bytes()).await.expect("the edge reads");
                let reply = read_reply(&mut stream).await;
                assert_eq!(reply.status, status, "{path} {field:?}");
                assert_eq!(reply.header("access-control-allow-origin"), allows.filter(|_| status == 200), "{path}");
            }
        }
        // The same head again, but for the length of a body that is too large. The edge still knows the head.
        stream.write_all(text(path, ("X-Other", "1"), &large).as_bytes()).await.expect("it reads");
        assert_eq!(read_reply(&mut stream).await.status, 413, "{path}");
        stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    }
}
