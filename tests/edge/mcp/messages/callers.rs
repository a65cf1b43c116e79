//! Who calls, and what the upstream gets to know about the caller: rows 62 to 64 of the fault matrix.

use serde_json::json;

use super::guarded::*;
use crate::harness::http2::Http2;
use crate::harness::{Origin, Reply, TestEdge, answer, exchange, request};

const SESSION: &str = "Mcp-Session-Id";

/// Opens a session, with `token` if there is one.
async fn open(guarded: &Guarded, path: &str, token: Option<&str>) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let headers: Vec<_> = token.map(|token| ("Authorization", token)).into_iter().chain([IS_JSON]).collect();
    let reply = guarded.exchange(&post(path, &headers, body.as_bytes())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(guarded.origin.last().headers("mcp-session-id").is_empty());
    let session = reply.header(SESSION).expect("a session").to_owned();
    assert!(!session.contains(UPSTREAM_SESSION), "the client does not see the upstream's own id: {session}");
    session
}

/// Row 62 of the fault matrix.
#[tokio::test]
async fn a_session_belongs_to_its_opener_and_its_route_and_authenticates_nobody() {
    let guarded = Guarded::start().await;
    let (alice, bob) = (Some(&*guarded.alice), bearer("bob", "base read"));
    let (carol, mallory) = (bearer("alice", "base read trade"), bearer("alice2", "base read"));
    let session = open(&guarded, "/guarded/mcp", alice).await;
    let plain = open(&guarded, "/plain/mcp", alice).await;
    let anybodys = open(&guarded, "/open/mcp", None).await;
    let bobs = open(&guarded, "/guarded/mcp", Some(&bob)).await;
    // Sends a request with one of the three methods that a session has.
    let send = async |method: &str, path: &str, token: Option<&str>, sessions: &[&str]| -> Reply {
        let token = token.map(|token| ("Authorization", token));
        let headers: Vec<_> = sessions.iter().map(|id| (SESSION, *id)).chain(token).chain([IS_JSON]).collect();
        if method == "POST" {
            guarded.exchange(&post(path, &headers, call("get").as_bytes())).await
        } else {
            exchange(guarded.edge.address, request(method, path, &headers, "")).await
        }
    };
    let methods = ["POST", "GET", "DELETE"];
    for method in methods {
        for (path, token, id) in [
            ("/guarded/mcp", alice, &session),
            // Another token of the same caller.
            ("/guarded/mcp", Some(&*carol), &session),
            ("/guarded/mcp", Some(&*bob), &bobs),
            ("/plain/mcp", alice, &plain),
            ("/open/mcp", None, &anybodys),
        ] {
            let seen = guarded.origin.count();
            let reply = send(method, path, token, &[id]).await;
            assert_eq!((reply.status, guarded.origin.count()), (200, seen + 1), "{method} {path}: {reply:?}");
            assert_eq!(guarded.origin.last().headers("mcp-session-id"), [UPSTREAM_SESSION], "{method} {path}");
        }
    }
    let seen = (guarded.origin.count(), guarded.origin.connections());
    let changed = |at: usize| {
        let mut bytes = session.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let made_up: Vec<String> = [0, 5, session.len() / 2, session.len() - 2].into_iter().map(changed).collect();
    let (shorter, longer, twice) = (&session[..session.len() - 1], session.clone() + "A", session.repeat(2));
    let long = "A".repeat(5 << 10);
    let mut strangers = vec![
        ("another caller's", "/guarded/mcp", alice, &*bobs),
        ("another caller's, the other way round", "/guarded/mcp", Some(&*bob), &*session),
        ("of a caller whose name begins alike", "/guarded/mcp", Some(&*mallory), &*session),
        ("of another route", "/plain/mcp", alice, &*session),
        ("of another route, the other way round", "/guarded/mcp", alice, &*plain),
        ("of a route with the same rules", "/forwarding/mcp", alice, &*plain),
        ("of an open route", "/guarded/mcp", alice, &*anybodys),
        ("on an open route", "/open/mcp", None, &*session),
        ("on an open route, with the token", "/open/mcp", alice, &*session),
        ("the upstream's own", "/guarded/mcp", alice, UPSTREAM_SESSION),
        ("the upstream's own on an open route", "/open/mcp", None, UPSTREAM_SESSION),
        ("nothing", "/guarded/mcp", alice, ""),
        ("a path", "/guarded/mcp", alice, "/mcp"),
        ("too short", "/guarded/mcp", alice, shorter),
        ("too long", "/guarded/mcp", alice, &*longer),
        ("twice in one", "/guarded/mcp", alice, &*twice),
        ("long", "/guarded/mcp", alice, &*long),
    ];
    strangers.extend(made_up.iter().map(|id| ("changed", "/guarded/mcp", alice, &**id)));
    for (what, path, token, id) in strangers {
        for method in methods {
            let reply = send(method, path, token, &[id]).await;
            let id = if method == "POST" { json!(1) } else { json!(null) };
            assert_error(&reply, 404, -32001, &id, what);
        }
    }
    for method in methods {
        // A session id is not a credential: a request without a valid token is refused.
        for token in [None, Some("Bearer junk"), Some("Basic YTpi")] {
            assert_eq!(send(method, "/guarded/mcp", token, &[&session]).await.status, 401, "{method} {token:?}");
        }
        assert_eq!(send(method, "/guarded/mcp", Some(&bearer("alice", "read")), &[&session]).await.status, 403);
        // Two session ids in one request are refused, even if both sessions belong to the caller.
        for two in [[&*session, &*session], [&*session, &*bobs]] {
            assert_eq!(send(method, "/guarded/mcp", alice, &two).await.status, 400, "{method}");
        }
        // The id does not work as a session of the oldest transport, which has the session in the query.
        let query = |id: &str| format!("/guarded/mcp?mcp_edge_session={id}");
        for id in [&*session, &*bobs, UPSTREAM_SESSION, ""] {
            assert_eq!(send(method, &query(id), alice, &[]).await.status, 404, "{method} {id}");
        }
        assert_eq!(send(method, &query(&session), alice, &[&session]).await.status, 400, "{method}");
    }
    assert_eq!((guarded.origin.count(), guarded.origin.connections()), seen, "no refused request reached the origin");
    // The newest revision has no sessions, so the edge ignores the field and does not pass it on.
    for id in [&*session, &*bobs, UPSTREAM_SESSION] {
        let headers = [
            IS_JSON,
            (SESSION, id),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", "get"),
        ];
        let arrived = guarded.passes(&headers, stateless("get")).await;
        assert!(arrived.headers("mcp-session-id").is_empty());
    }
}

/// Row 63 of the fault matrix.
#[tokio::test]
async fn a_page_of_another_origin_may_not_call() {
    let guarded = Guarded::start().await;
    let alice = ("Authorization", &*guarded.alice);
    for origins in [
        vec!["http://evil.example"],
        vec!["https://edge.example"],
        vec!["http://edge.example:8080"],
        vec!["http://edge.example.evil.example"],
        vec!["http://evil-edge.example"],
        vec!["http://sub.edge.example"],
        vec!["http://edge.example@evil.example"],
        vec!["http://evil.example/http://edge.example"],
        vec!["http://edge.example/"],
        vec!["http://localhost:3000"],
        vec!["http://127.0.0.1"],
        vec!["edge.example"],
        vec!["null"],
        vec!["*"],
        vec![""],
        vec!["file://"],
        vec!["http://edge.example http://evil.example"],
        vec!["http://edge.example, http://evil.example"],
        vec!["http://edge.example", "http://evil.example"],
        vec!["http://evil.example", "http://edge.example"],
        vec!["http://edge.example", "http://edge.example"],
        vec!["http://édge.example"],
    ] {
        let fields: Vec<_> = origins.iter().map(|origin| ("Origin", *origin)).collect();
        let with = |more: &[(&'static str, &'static str)]| [&fields[..], more].concat();
        for (method, body) in [("POST", call("get")), ("GET", String::new()), ("DELETE", String::new())] {
            for path in ["/guarded/mcp", "/open/mcp"] {
                let headers = [&with(&[IS_JSON])[..], &[alice]].concat();
                let reply = exchange(guarded.edge.address, request(method, path, &headers, &body)).await;
                let error = reply.json()["error"].clone();
                assert_eq!((reply.status, error), (403, json!("forbidden_origin")), "{method} {origins:?}");
                let told = ["www-authenticate", "access-control-allow-origin", "access-control-expose-headers"];
                assert!(told.iter().all(|name| reply.header(name).is_none()), "{reply:?}");
            }
        }
        // A preflight is refused in the same way, before the edge requires a token.
        let preflight = with(&[("Access-Control-Request-Method", "POST")]);
        let reply = exchange(guarded.edge.address, request("OPTIONS", "/guarded/mcp", &preflight, "")).await;
        assert_eq!(reply.status, 403, "{origins:?}");
    }
    assert_eq!((guarded.origin.count(), guarded.origin.connections()), (0, 0));
    let mut http2 = Http2::connect(guarded.edge.address).await;
    let reply = http2.get("/open/mcp", &[("origin", "http://evil.example")]).await;
    assert_eq!((reply.status().as_u16(), guarded.origin.count()), (403, 0));
    for origin in ["http://edge.example", "http://edge.example:80", "HTTP://Edge.Example"] {
        guarded.passes(&[IS_JSON, ("Origin", origin)], call("get")).await;
    }
    // For a request to another host of the listener, the same page is of another origin.
    let headers = [("Host", "localhost"), ("Origin", "http://edge.example"), IS_JSON];
    let reply = guarded.exchange(&post("/open/mcp", &headers, call("get").as_bytes())).await;
    assert_eq!((reply.status, guarded.origin.count()), (403, 3));
}

/// Row 64 of the fault matrix, and other fields in which a client claims an identity.
#[tokio::test]
async fn a_token_is_forwarded_only_where_the_route_says_so_and_only_the_edge_sets_the_identity() {
    let guarded = Guarded::start().await;
    let token = &*guarded.alice;
    let lies = [
        ("X-User", "root"),
        ("x-user", "admin"),
        ("X_User", "root"),
        ("X-Scopes", "admin"),
        ("X_Scopes", "admin"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "1"),
        ("X_Forwarded_For", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Real-IP", "10.0.0.1"),
        ("X-Original-URI", "/admin"),
        ("X-Original-URL", "/admin"),
        ("X-Original-Method", "GET"),
        ("X-Request-Id", "mine"),
        ("Proxy-Authorization", token),
    ];
    let named = "authorization, x-user, x-scopes, x-forwarded-for, mcp-session-id, content-length, close";
    for (path, forwarded) in
        [("/guarded/mcp", false), ("/plain/mcp", false), ("/forwarding/mcp", true), ("/open/mcp", false)]
    {
        for (method, body) in [("POST", call("get")), ("GET", String::new()), ("DELETE", String::new())] {
            for authorization in ["Authorization", "AUTHORIZATION"] {
                for connection in [&[][..], &[("Connection", named)]] {
                    let headers = [&lies[..], &[(authorization, token), IS_JSON], connection].concat();
                    let seen = guarded.origin.count();
                    let bytes = match method {
                        "POST" => post(path, &headers, body.as_bytes()),
                        _ => request(method, path, &headers, "").into_bytes(),
                    };
                    let what = format!("{method} {path} {connection:?}");
                    let reply = guarded.exchange(&bytes).await;
                    assert_eq!((reply.status, guarded.origin.count()), (200, seen + 1), "{what}: {reply:?}");
                    let arrived = guarded.origin.last();
                    // A field that `Connection` names is not passed on, even on a route that forwards tokens.
                    let expected: &[&str] = if forwarded && connection.is_empty() { &[token] } else { &[] };
                    assert_eq!(arrived.headers("authorization"), expected, "{what}");
                    let whole = format!("{}{}", arrived.head, String::from_utf8_lossy(&arrived.body));
                    let secret = token.strip_prefix("Bearer ").expect("a bearer token");
                    assert_eq!(whole.contains(secret), !expected.is_empty(), "{what}: {whole}");
                    let (user, scopes): (&[&str], &[&str]) =
                        if path == "/open/mcp" { (&[], &[]) } else { (&["alice"], &["base read"]) };
                    assert_eq!(
                        (arrived.headers("x-user"), arrived.headers("x-scopes")),
                        (user.to_vec(), scopes.to_vec()),
                        "{what}"
                    );
                    assert_eq!(arrived.headers("x-forwarded-for"), ["127.0.0.1"], "{what}");
                    assert_eq!(arrived.headers("x-forwarded-host"), ["edge.example"], "{what}");
                    assert_eq!(arrived.headers("x-forwarded-proto"), ["http"], "{what}");
                    assert_eq!(
                        arrived.headers("x-request-id"),
                        [reply.header("x-request-id").expect("an id")],
                        "{what}"
                    );
                    for (name, value) in lies {
                        assert!(!arrived.headers(name).contains(&value), "{what}: {name}: {}", arrived.head);
                    }
                    assert_eq!(arrived.body, body.as_bytes(), "{what}");
                }
            }
        }
    }
    // Two `Authorization` fields are refused, also on a route that forwards tokens.
    let headers = [("Authorization", token), ("Authorization", token), IS_JSON];
    for path in ["/guarded/mcp", "/forwarding/mcp"] {
        let seen = guarded.origin.count();
        let reply = guarded.exchange(&post(path, &headers, call("get").as_bytes())).await;
        assert_eq!((reply.status, guarded.origin.count()), (400, seen), "{path}");
    }
}

/// A route's `request_headers` cannot set fields that the edge itself must control.
#[tokio::test]
async fn a_route_cannot_set_fields_that_the_edge_must_control() {
    let origin =
        Origin::answering(|_| answer("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
    let yaml = format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - path: /a/
    upstream: a
    protocol: mcp
    auth: none
    request_headers: {{set: {{Accept-Encoding: gzip, Expect: 100-continue, Mcp-Session-Id: made-up, X-Team: blue}}}}
",
        origin.address
    );
    let edge = TestEdge::start(&yaml).await;
    for method in ["POST", "GET"] {
        let body = if method == "POST" { call("get") } else { String::new() };
        let fields = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
        let reply = exchange(edge.address, request(method, "/a/mcp", &fields, &body)).await;
        assert_eq!(reply.status, 200, "{method}");
        let sent = origin.last();
        let seen = ["accept-encoding", "expect", "mcp-session-id", "x-team"].map(|name| sent.header(name));
        assert_eq!(seen, [None, None, None, Some("blue")], "{method}");
    }
}
