//! Authentication servers that decide by the operation of an MCP message, and the challenges that they send to refused
//! clients.

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::http2::Http2;
use crate::harness::{Origin, Recorded, TestEdge, Tokens, answer, call, exchange, message, post, read_reply, request};

const ALLOWED: &[u8] = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n";

fn yaml(server: &Origin, origin: &Origin, lookup: &str, route: &str) -> String {
    format!(
        "auth: {{providers: {{{}, gate: {{lookup: {{url: 'http://{}/validate', original_uri: false{lookup}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, protocol: mcp, auth: {{providers: [gate{route}]}}}}]
",
        Tokens::PROVIDER,
        server.address,
        origin.address
    )
}

const OPERATION: &str = ", operation: {method: X-Op, name: X-Op-Name}";

async fn upstream() -> Origin {
    Origin::answering(|_| answer("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await
}

/// An authentication server that allows everything except the tool `drop_table`.
async fn per_tool() -> Origin {
    Origin::answering(|request| match request.header("x-op-name") {
        Some("drop_table") => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ALLOWED.to_vec(),
    })
    .await
}

async fn start(server: &Origin, origin: &Origin, lookup: &str, route: &str) -> TestEdge {
    TestEdge::start_with(&yaml(server, origin, lookup, route), &[Tokens::SECRET_FILE]).await
}

fn send(body: &str) -> String {
    post("/a/mcp", &[("Authorization", "Bearer t"), ("X-Op", "ping"), ("X-Op-Name", "get_a")], body)
}

#[tokio::test]
async fn a_decision_is_cached_for_one_operation() {
    let (server, origin) = (per_tool().await, upstream().await);
    let edge = start(&server, &origin, OPERATION, "").await;
    let status = async |body: &str| exchange(edge.address, send(body)).await.status;
    for (body, expected, questions, sent) in [
        (call("1", "get_a"), 200, 1, 1),
        (call("2", "get_a"), 200, 1, 2),
        (call("3", "drop_table"), 403, 2, 2),
        (call("4", "drop_table"), 403, 2, 2),
        (call("5", "get_b"), 200, 3, 3),
        (message("6", "tools/list", "{}"), 200, 4, 4),
        (message("7", "tools/list", "{}"), 200, 4, 5),
        (message("8", "resources/read", r#"{"uri":"file:///get_a"}"#), 200, 5, 6),
    ] {
        assert_eq!(status(&body).await, expected, "{body}");
        assert_eq!((server.count(), origin.count()), (questions, sent), "{body}");
    }
    let asked = |request: &Recorded| {
        let field = |name| request.headers(name).join(",");
        format!("{} {}", field("x-op"), field("x-op-name"))
    };
    let asked: Vec<String> = server.requests().iter().map(asked).collect();
    assert_eq!(
        asked,
        [
            "tools/call get_a",
            "tools/call drop_table",
            "tools/call get_b",
            "tools/list ",
            "resources/read file:///get_a"
        ]
    );
}

#[tokio::test]
async fn the_operation_comes_from_the_body_and_not_from_fields_of_the_client() {
    let (server, origin) = (per_tool().await, upstream().await);
    let edge = start(&server, &origin, ", operation: {}", "").await;
    let fields = [("Authorization", "Bearer t"), ("Mcp-Method", "ping"), ("Mcp-Name", "get_a")];
    let reply = exchange(edge.address, post("/a/mcp", &fields, &call("1", "güt\r\nX-User: eve"))).await;
    assert_eq!(reply.status, 200);
    let asked = server.last();
    assert_eq!(asked.headers("mcp-method"), ["tools/call"]);
    assert_eq!(asked.headers("mcp-name"), ["=?base64?Z8O8dA0KWC1Vc2VyOiBldmU=?="]);
    assert!(asked.header("x-user").is_none());
}

#[tokio::test]
async fn requests_without_a_message_have_no_operation() {
    let (server, origin) = (per_tool().await, Origin::saying("").await);
    let edge = start(&server, &origin, OPERATION, "").await;
    let fields = [("Authorization", "Bearer t"), ("X-Op-Name", "drop_table")];
    exchange(edge.address, request("GET", "/a/mcp", &fields, "")).await;
    let asked = server.last();
    assert_eq!((asked.header("x-op"), asked.header("x-op-name")), (None, None));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_body_is_read_early_only_with_a_credential_for_the_server() {
    let (server, origin) = (per_tool().await, upstream().await);
    let edge = start(&server, &origin, OPERATION, ", local").await;
    let foreign = format!("Bearer {}x", Tokens::token("alice", ""));
    for fields in [&[][..], &[("Authorization", &*foreign)]] {
        // The client never sends the body.
        let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        let fields = [fields, &[("Content-Type", "application/json"), ("Content-Length", "1000000")]].concat();
        let head = request("POST", "/a/mcp", &fields, "");
        stream.write_all(head.as_bytes()).await.expect("the edge reads");
        assert_eq!(read_reply(&mut stream).await.status, 401, "{fields:?}");
    }
    assert_eq!((server.count(), origin.count()), (0, 0));
    let token = format!("Bearer {}", Tokens::token("alice", ""));
    let reply = exchange(edge.address, post("/a/mcp", &[("Authorization", &token)], &call("1", "drop_table"))).await;
    assert_eq!((reply.status, server.count()), (200, 0), "the other provider accepts the token");
}

#[tokio::test]
async fn messages_that_the_server_cannot_decide_on_are_refused() {
    let (server, origin) = (per_tool().await, upstream().await);
    let edge = start(&server, &origin, OPERATION, "").await;
    let long = call("1", &"x".repeat(3000));
    let large = call("1", &"x".repeat(5 << 20));
    for (body, expected) in [
        (format!("[{},{}]", call("1", "get_a"), call("2", "drop_table")), 400),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_a","name":"drop_table"}}"#.into(), 400),
        ("{".into(), 400),
        (long, 400),
        (large, 413),
    ] {
        let reply = exchange(edge.address, send(&body)).await;
        assert_eq!(reply.status, expected, "{reply:?}");
    }
    let coded = [("Authorization", "Bearer t"), ("Content-Encoding", "gzip")];
    assert_eq!(exchange(edge.address, post("/a/mcp", &coded, &call("1", "get_a"))).await.status, 415);
    assert_eq!((server.count(), origin.count()), (0, 0));
}

#[tokio::test]
async fn a_refusal_keeps_the_challenges_of_the_server_and_adds_the_metadata() {
    let server = Origin::answering(|request| match request.header("authorization") {
        Some("Bearer scope") => {
            b"HTTP/1.1 403 No\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"b a\", \
              error_description=\"ask for more\", resource_metadata=\"http://internal/\"\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        }
        Some("Bearer dpop") => {
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: DPoP algs=\"ES256\", error=\"use_dpop_nonce\"\r\n\
              WWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        }
        _ => b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
    })
    .await;
    let origin = upstream().await;
    let edge = start(&server, &origin, "", "").await;
    let metadata = "resource_metadata=\"http://edge.example/.well-known/oauth-protected-resource/a/mcp\"";
    for (token, status, challenges) in [
        (
            "scope",
            403,
            vec![format!(
                "Bearer error=\"insufficient_scope\", error_description=\"ask for more\", scope=\"a b\", {metadata}"
            )],
        ),
        (
            "dpop",
            401,
            vec![
                format!("Bearer error=\"invalid_token\", {metadata}"),
                "DPoP algs=\"ES256\", error=\"use_dpop_nonce\"".into(),
                "Negotiate".into(),
            ],
        ),
        ("other", 401, vec![format!("Bearer error=\"invalid_token\", {metadata}")]),
    ] {
        // The second answer comes from the cache.
        for _ in 0..2 {
            let reply = edge.get_as(token, "/a/mcp").await;
            let told: Vec<&str> = reply
                .head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
                .map(|(_, value)| value)
                .collect();
            assert_eq!((reply.status, told), (status, challenges.iter().map(String::as_str).collect()), "{token}");
        }
    }
    assert_eq!((server.count(), origin.count()), (3, 0));
}

#[tokio::test]
async fn credential_fields_are_not_forwarded_and_context_fields_are() {
    let (server, origin) = (per_tool().await, upstream().await);
    let lookup = ", headers: [Authorization, X-Authorization, Cookie], context_headers: [X-Tenant]";
    let edge = start(&server, &origin, lookup, "").await;
    let fields = |tenant| [("X-Authorization", "Bearer t"), ("Cookie", "session=1"), ("X-Tenant", tenant)];
    for (tenant, questions) in [("blue", 1), ("red", 2), ("blue", 2)] {
        let reply = exchange(edge.address, post("/a/mcp", &fields(tenant), &call("1", "get_a"))).await;
        assert_eq!((reply.status, server.count()), (200, questions), "{tenant}");
        let sent = origin.last();
        let seen = ["x-authorization", "cookie", "x-tenant", "x-user"].map(|name| sent.header(name));
        assert_eq!(seen, [None, None, Some(tenant), Some("alice")]);
    }
    assert_eq!(server.requests()[1].header("x-tenant"), Some("red"));
    // A context field alone is not a credential.
    let reply = exchange(edge.address, post("/a/mcp", &[("X-Tenant", "blue")], &call("1", "get_a"))).await;
    assert_eq!((reply.status, server.count()), (401, 2));
    let forwarding = yaml(&server, &origin, lookup, "").replace("path: /a/", "path: /a/, forward_token: true");
    edge.reload(&forwarding).await.expect("the configuration is good");
    exchange(edge.address, post("/a/mcp", &fields("blue"), &call("1", "get_a"))).await;
    assert_eq!(origin.last().header("x-authorization"), Some("Bearer t"));
}

/// HTTP/2 may split the cookies (RFC 9113 section 8.2.3). The server gets one field, as an upstream does.
#[tokio::test]
async fn cookies_of_http_2_are_joined_for_the_server() {
    let (server, origin) = (per_tool().await, upstream().await);
    let edge = start(&server, &origin, ", headers: [Cookie]", "").await;
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("accept", "text/event-stream")];
    assert_eq!(Http2::connect(edge.address).await.get("/a/mcp", &fields).await.status(), 200);
    assert_eq!(server.last().headers("cookie"), ["a=1; b=2"]);
}

/// The server fails after the edge has read the message. So the error answers the client's call, with its id.
#[tokio::test]
async fn an_outage_is_reported_with_the_id_of_the_call() {
    let server = Origin::answering(|_| answer("500 No", "text/plain", "no")).await;
    let origin = upstream().await;
    let edge = start(&server, &origin, OPERATION, "").await;
    let reply = exchange(edge.address, send(&call("7", "get_a"))).await;
    assert_eq!((reply.status, &reply.json()["id"], origin.count()), (503, &Value::from(7), 0));
}

/// The server and the upstream must get the same values. Otherwise the request is refused.
#[tokio::test]
async fn fields_that_the_server_decides_by_must_be_unambiguous() {
    let (server, origin) = (per_tool().await, upstream().await);
    let edge = start(&server, &origin, ", headers: [X-Key], context_headers: [X-Tenant]", "").await;
    for fields in [
        &[("X-Key", "k"), ("X-Tenant", "blue"), ("Connection", "X-Tenant")][..],
        &[("X-Key", "k"), ("X-Tenant", "blue"), ("Connection", "keep-alive, x-key")],
        &[("X-Key", "k"), ("X-Tenant", "blue"), ("X-Tenant", "red")],
    ] {
        let reply = exchange(edge.address, post("/a/mcp", fields, &call("1", "get_a"))).await;
        assert_eq!((reply.status, server.count(), origin.count()), (400, 0, 0), "{fields:?}");
    }
    let spelt = [("X-Key", "k"), ("X-Tenant", "blue"), ("X_Tenant", "red"), ("X_Key", "other"), ("X_Other", "x")];
    assert_eq!(exchange(edge.address, post("/a/mcp", &spelt, &call("1", "get_a"))).await.status, 200);
    let sent = origin.last();
    let seen = ["x-tenant", "x_tenant", "x_key", "x_other"].map(|name| sent.header(name));
    assert_eq!(seen, [Some("blue"), None, None, None]);
    // The provider does not read bearer tokens. So the server is not asked about this one, and the body is not read.
    let reply = exchange(edge.address, post("/a/mcp", &[("Authorization", "Bearer t")], &call("1", "get_a"))).await;
    assert_eq!((reply.status, server.count()), (401, 1));
}

/// Bodies that are read before the caller is authenticated have stricter limits of time and memory than other bodies.
#[tokio::test]
async fn bodies_of_unauthenticated_callers_have_their_own_limits() {
    let (server, origin) = (per_tool().await, upstream().await);
    let listeners = "listeners: [{address: '127.0.0.1:0', hosts: [edge.example], trusted_proxies: [127.0.0.0/8]}]\n";
    let yaml = yaml(&server, &origin, OPERATION, ", local").replace("routes:", "limits: {body_timeout: 3s}\nroutes:");
    let yaml = listeners.to_owned() + &yaml;
    let edge = TestEdge::start_with(&yaml, &[Tokens::SECRET_FILE]).await;
    let size = 4_000_000;
    let begin = async |address: &str, token: &str| {
        let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        let length = (size + 100).to_string();
        let fields = [
            ("Authorization", token),
            ("Content-Type", "application/json"),
            ("Content-Length", length.as_str()),
            ("X-Forwarded-For", address),
        ];
        stream.write_all(request("POST", "/a/mcp", &fields, "").as_bytes()).await.expect("the edge reads");
        // The edge may refuse the request before the whole body is sent.
        let _ = stream.write_all(&vec![b' '; size]).await;
        stream
    };
    let mut held = Vec::new();
    let each = mcp_edge::config::limits::EARLY_BYTES as usize / size / 2;
    let begun = std::time::Instant::now();
    for address in ["192.0.2.1", "192.0.2.2"] {
        for number in 0..each {
            held.push(begin(address, &format!("Bearer {number}")).await);
        }
        // Case F3: one address leaves room for others.
        let mut one_more = begin(address, "Bearer another").await;
        assert_eq!(read_reply(&mut one_more).await.status, 503);
    }
    let mut one_more = begin("192.0.2.3", "Bearer another").await;
    assert_eq!(read_reply(&mut one_more).await.status, 503, "all together have taken everything");
    let small = [("X-Key", "k"), ("X-Forwarded-For", "192.0.2.1")];
    let reply = exchange(edge.address, post("/a/mcp", &small, &call("1", "get_a"))).await;
    assert_ne!(reply.status, 503, "case F3: large bodies leave room for small ones");
    let known = format!("Bearer {}", Tokens::token("alice", ""));
    let large = call("1", &"x".repeat(1 << 20));
    let reply = exchange(edge.address, post("/a/mcp", &[("Authorization", &known)], &large)).await;
    assert_eq!(reply.status, 200, "authenticated callers have their own memory limit");
    // Bytes that came fast do not extend the deadline.
    for mut stream in held {
        assert_eq!(read_reply(&mut stream).await.status, 408);
    }
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!((server.count(), origin.count()), (0, 1));
}
