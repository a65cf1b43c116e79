//! Hosts, paths, rewriting and header fields, as the origin sees them.

use crate::harness::{Origin, TestEdge, answer, call, exchange, ok, post, request};

fn upstream(name: &str, origin: &Origin) -> String {
    format!("  {name}: {{endpoints: [{{address: '{}'}}]}}\n", origin.address)
}

#[tokio::test]
async fn the_longest_prefix_wins_and_is_stripped() {
    let (a, b) = (Origin::saying("a").await, Origin::saying("b").await);
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}{}routes:
  - {{path: /a/, upstream: a, auth: none}}
  - {{path: /a/deep/, upstream: b, auth: none}}
  - {{path: /keep/, upstream: a, auth: none, rewrite: {{strip_prefix: false}}}}
  - {{path: /moved/, upstream: a, auth: none, rewrite: {{prefix: /v2/}}}}
",
        upstream("a", &a),
        upstream("b", &b)
    ))
    .await;
    for (path, body, line) in [
        ("/a/x?q=%20&r", "a", "GET /x?q=%20&r HTTP/1.1"),
        ("/a", "a", "GET / HTTP/1.1"),
        ("/a/%64eep/x", "b", "GET /x HTTP/1.1"),
        ("/a/deepx", "a", "GET /deepx HTTP/1.1"),
        ("/keep/x", "a", "GET /keep/x HTTP/1.1"),
        ("/moved/x", "a", "GET /v2/x HTTP/1.1"),
    ] {
        let reply = edge.get(path, &[]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, body), "{path}");
        let origin = if body == "a" { &a } else { &b };
        assert_eq!(origin.last().line(), line, "{path}");
    }
}

#[tokio::test]
async fn a_path_that_no_route_matches_is_404_with_the_request_id() {
    let origin = Origin::saying("a").await;
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}routes: [{{path: /fininfo/, upstream: a, auth: none}}]\n",
        upstream("a", &origin)
    ))
    .await;
    for path in ["/", "/other/", "/fininfox", "/FININFO/"] {
        let reply = edge.get(path, &[]).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json()["error"], "not_found");
        assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="not_found"}"#).await, 4.0);
}

/// Row 49 of the fault matrix.
#[tokio::test]
async fn ambiguous_paths_are_400() {
    let origin = Origin::saying("a").await;
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}routes: [{{path: /, upstream: a, auth: none}}]\n",
        upstream("a", &origin)
    ))
    .await;
    for path in [
        "/fininfo/../mcpgw/",
        "/fininfo/%2e%2e/mcpgw/",
        "/fininfo%2fmcpgw",
        "/fininfo%5cmcpgw",
        "/a\\b",
        "//mcpgw",
        "/a//b",
        "/a/..;/b",
        "/a%00",
        "/a/%252e%252e/b",
        "/a/.",
    ] {
        let reply = edge.get(path, &[]).await;
        assert_eq!(reply.status, 400, "{path}");
    }
    assert_eq!(origin.count(), 0, "no such request reaches an origin");
    assert_eq!(edge.get("/a;b=c/%C3%A4/x:y", &[]).await.status, 200);
    assert_eq!(origin.last().line(), "GET /a;b=c/%C3%A4/x:y HTTP/1.1");
}

/// Row 50 of the fault matrix.
#[tokio::test]
async fn a_request_must_have_exactly_one_valid_host() {
    let origin = Origin::saying("a").await;
    let edge = TestEdge::start(&format!(
        "listeners: [{{address: '127.0.0.1:0', hosts: [edge.example, '*.wild.example']}}]
upstreams:\n{}routes: [{{path: /, upstream: a, auth: none}}]\n",
        upstream("a", &origin)
    ))
    .await;
    let send = |text: &'static str| exchange(edge.address, text);
    assert_eq!(send("GET / HTTP/1.1\r\n\r\n").await.status, 400);
    assert_eq!(send("GET / HTTP/1.1\r\nHost: edge.example\r\nHost: edge.example\r\n\r\n").await.status, 400);
    assert_eq!(send("GET / HTTP/1.1\r\nHost: user@edge.example\r\n\r\n").await.status, 400);
    assert_eq!(send("GET http://other/ HTTP/1.1\r\nHost: edge.example\r\n\r\n").await.status, 400);
    assert_eq!(send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await.status, 421);
    assert_eq!(send("GET / HTTP/1.1\r\nHost: EDGE.example:8080\r\n\r\n").await.status, 200);
    assert_eq!(send("GET / HTTP/1.1\r\nHost: a.wild.example\r\n\r\n").await.status, 200);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn routes_of_a_host_come_first() {
    let (a, b, c) = (Origin::saying("a").await, Origin::saying("b").await, Origin::saying("c").await);
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}{}{}routes:
  - {{path: /, upstream: a, auth: none}}
  - {{path: /, hosts: [b.example], upstream: b, auth: none}}
  - {{path: /, hosts: ['*.example'], upstream: c, auth: none}}
",
        upstream("a", &a),
        upstream("b", &b),
        upstream("c", &c)
    ))
    .await;
    for (host, body) in [("b.example", "b"), ("x.example", "c"), ("example", "a"), ("127.0.0.1", "a")] {
        assert_eq!(edge.get("/", &[("Host", host)]).await.body, body, "{host}");
    }
}

/// Rows 51 and 52 of the fault matrix: only the edge sets these fields.
#[tokio::test]
async fn the_origin_sees_the_edges_fields_and_not_the_clients() {
    let origin = Origin::saying("a").await;
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}routes: [{{path: /, upstream: a, auth: none}}]\n",
        upstream("a", &origin)
    ))
    .await;
    let spoofed = [
        ("X-User", "root"),
        ("X_User", "root"),
        ("x-scopes", "all"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "evil"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Original-URI", "/admin"),
        ("X-Request-Id", "mine"),
        ("Authorization", "Bearer secret-of-the-client"),
        ("X-Kept", "yes"),
    ];
    let reply = edge.get("/", &spoofed).await;
    let seen = origin.last();
    for gone in
        ["x-user", "x_user", "x-scopes", "x_forwarded_for", "forwarded", "x-real-ip", "x-original-uri", "authorization"]
    {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.headers("x-forwarded-host"), ["edge.example"]);
    assert_eq!(seen.headers("x-request-id"), [reply.header("x-request-id").expect("the client gets the id, too")]);
    assert_eq!(seen.headers("host"), ["edge.example"]);
    assert_eq!(seen.header("x-kept"), Some("yes"));
}

#[tokio::test]
async fn trusted_proxies_are_believed() {
    let origin = Origin::saying("a").await;
    let edge = TestEdge::start(&format!(
        "listeners: [{{address: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]}}]
upstreams:\n{}routes: [{{path: /, upstream: a, auth: none}}]\n",
        upstream("a", &origin)
    ))
    .await;
    edge.get(
        "/",
        &[
            ("X-Forwarded-For", "1.1.1.1, 2.2.2.2, 10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "public.example"),
        ],
    )
    .await;
    let seen = origin.last();
    assert_eq!(seen.headers("x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 10.0.0.1, 127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.headers("x-forwarded-host"), ["public.example"]);
}

/// Case D2: the host that a proxy names is held against the listener's, as any other. It does not lead to the route of a host that
/// only others may reach.
#[tokio::test]
async fn the_host_that_a_trusted_proxy_names_must_be_one_of_the_listener() {
    let origin = Origin::saying("inside").await;
    let yaml = |more: &str| {
        format!(
            "listeners: [{{address: '127.0.0.1:0', hosts: [edge.example], trusted_proxies: [127.0.0.0/8]{more}}}]
upstreams:\n{}routes:
  - {{path: /, upstream: a, auth: none}}
  - {{path: /, hosts: [admin.internal], upstream: a, auth: none, name: internal, request_headers: {{set: {{X-Route: internal}}}}}}
",
            upstream("a", &origin)
        )
    };
    let edge = TestEdge::start(&yaml("")).await;
    let mut http2 = crate::harness::http2::Http2::connect(edge.address).await;
    for (host, forwarded, expected) in [
        ("edge.example", "admin.internal", 421),
        ("edge.example", "admin.internal, edge.example", 421),
        ("edge.example", "edge.example, admin.internal", 200),
        ("10.0.0.7:8080", "edge.example", 200),
        ("admin.internal", "edge.example", 200),
        ("edge.example", "EDGE.example", 200),
        ("edge.example", "user@edge.example", 400),
    ] {
        let fields = [("Host", host), ("X-Forwarded-Host", forwarded)];
        assert_eq!(edge.get("/", &fields).await.status, expected, "{host} {forwarded}");
        if host == "edge.example" {
            let status = http2.get("/", &[("x-forwarded-host", forwarded)]).await.status();
            assert_eq!(status.as_u16(), expected, "{forwarded}");
        }
    }
    assert!(origin.requests().iter().all(|seen| seen.header("x-route").is_none()));
    // A proxy that passes on what clients send in this field: the listener does not believe it.
    let edge = TestEdge::start(&yaml(", trusted_fields: [X-Forwarded-For]")).await;
    let fields =
        [("X-Forwarded-Host", "admin.internal"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "1.1.1.1")];
    assert_eq!(edge.get("/", &fields).await.status, 200);
    let seen = origin.last();
    assert_eq!(
        (seen.headers("x-forwarded-host"), seen.headers("x-forwarded-proto")),
        (vec!["edge.example"], vec!["http"])
    );
    assert_eq!(seen.headers("x-forwarded-for"), ["1.1.1.1, 127.0.0.1"]);
    let edge = TestEdge::start(&yaml(", trusted_fields: [Forwarded]")).await;
    let fields =
        [("Forwarded", "for=\"[2001:db8::1]:80\";host=edge.example;proto=https"), ("X-Forwarded-For", "9.9.9.9")];
    assert_eq!(edge.get("/", &fields).await.status, 200);
    let seen = origin.last();
    assert_eq!(seen.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.headers("x-forwarded-for"), ["[2001:db8::1]:80, 127.0.0.1"]);
}

/// Case B1: servers on Starlette redirect `/mcp` to `/mcp/`, with the host that they were asked for, or with a path alone.
#[tokio::test]
async fn redirects_of_an_upstream_lead_back_through_the_edge() {
    let origin = Origin::answering(|seen| {
        let location = seen.header("x-location").unwrap_or_default();
        let host = seen.header("host").unwrap_or_default();
        let location = location.replace("HOST", host);
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Location: {location}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    })
    .await;
    let edge = TestEdge::start(&format!(
        "listeners: [{{address: '127.0.0.1:0', hosts: [edge.example], trusted_proxies: [127.0.0.0/8]}}]
upstreams:\n{}routes:
  - {{path: /fin/, upstream: a, protocol: mcp, auth: none}}
  - {{path: /web/, upstream: a, auth: none, host: endpoint}}
",
        upstream("a", &origin)
    ))
    .await;
    let mut http2 = crate::harness::http2::Http2::connect(edge.address).await;
    for path in ["/fin", "/web"] {
        for (location, expected) in [
            ("http://HOST/mcp/", format!("https://edge.example{path}/mcp/")),
            ("/mcp/?a=b", format!("{path}/mcp/?a=b")),
            (&format!("http://{}/x", origin.address), format!("https://edge.example{path}/x")),
            ("https://login.example/?to=/mcp/", "https://login.example/?to=/mcp/".to_owned()),
        ] {
            let fields = [("X-Location", location), ("X-Forwarded-Proto", "https"), ("Accept", "text/event-stream")];
            let reply = edge.get(&format!("{path}/mcp"), &fields).await;
            let seen = (reply.status, reply.header("location"), reply.header("content-location"));
            assert_eq!(seen, (307, Some(&*expected), Some(&*expected)), "{path} {location}");
            let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value));
            let fields = fields.each_ref().map(|(name, value)| (name.as_str(), *value));
            let response = http2.get(&format!("{path}/mcp"), &fields).await;
            assert_eq!(response.headers()["location"], expected.as_str(), "{path} {location}");
        }
    }
}

#[tokio::test]
async fn a_route_changes_fields_and_host() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer: old\r\nX-Powered-By: old\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}routes:
  - path: /a/
    upstream: a
    auth: none
    host: {{rewrite: inner.example}}
    request_headers: {{set: {{X-Team: blue}}, remove: [Accept]}}
    response_headers: {{set: {{Server: mcp-edge}}, remove: [X-Powered-By]}}
  - {{path: /b/, upstream: a, auth: none, host: endpoint, forward_token: true}}
",
        upstream("a", &origin)
    ))
    .await;
    let reply = edge.get("/a/", &[("X-Team", "red"), ("Accept", "x")]).await;
    let seen = origin.last();
    assert_eq!((seen.headers("x-team"), seen.header("accept")), (vec!["blue"], None));
    assert_eq!(seen.headers("host"), ["inner.example"]);
    assert_eq!((reply.header("server"), reply.header("x-powered-by")), (Some("mcp-edge"), None));
    edge.get("/b/", &[("Authorization", "Bearer theirs")]).await;
    assert_eq!(origin.last().headers("host"), [origin.address.to_string()]);
    assert_eq!(origin.last().header("authorization"), Some("Bearer theirs"));
}

#[tokio::test]
async fn a_connection_serves_many_requests_also_after_refusals() {
    use tokio::io::AsyncWriteExt;
    let origin = Origin::answering(|request| ok(&request.body.len().to_string())).await;
    let edge = TestEdge::start(&format!(
        "upstreams:\n{}routes: [{{path: /a/, upstream: a, auth: none}}]\n",
        upstream("a", &origin)
    ))
    .await;
    let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens");
    for (path, status) in [("/a/", 200), ("/none", 404), ("/a/", 200), ("/a/x", 200)] {
        stream.write_all(request("POST", path, &[], "hello").as_bytes()).await.expect("the connection is open");
        assert_eq!(crate::harness::read_reply(&mut stream).await.status, status, "{path}");
    }
    assert_eq!(origin.connections(), 1, "and the upstream connection is reused");
    assert_eq!(edge.metric(r#"mcp_edge_upstream_connections_total{reused="true",upstream="a"}"#).await, 2.0);
}

/// The upstream gets the route's secret, and the client's value of this field is removed. A reload reads a changed
/// secret.
#[tokio::test]
async fn a_route_shows_its_upstream_a_secret_of_its_own() {
    let origin = Origin::answering(|_| answer("200 OK", "application/json", "{}")).await;
    let yaml = format!(
        "upstreams:\n{}routes:
  - {{path: /a/, upstream: a, auth: none, credential: {{secret: {{file: one.secret}}}}}}
  - {{path: /mcp/, upstream: a, protocol: mcp, auth: none, credential: {{secret: {{file: two.secret}}, header: X-Api-Key}}}}
  - {{path: /basic/, upstream: a, auth: none, credential: {{secret: {{file: two.secret}}, scheme: Basic}}}}
",
        upstream("a", &origin)
    );
    let edge = TestEdge::start_with(&yaml, &[("one.secret", "first-secret\n"), ("two.secret", "dXNlcjpwYXNz")]).await;
    let theirs = [("Authorization", "Bearer theirs"), ("X-Api-Key", "theirs")];
    edge.get("/a/", &theirs).await;
    assert_eq!(origin.last().headers("authorization"), ["Bearer first-secret"]);
    assert_eq!(origin.last().headers("x-api-key"), ["theirs"], "the route does not set this field");
    edge.get("/basic/", &theirs).await;
    assert_eq!(origin.last().headers("authorization"), ["Basic dXNlcjpwYXNz"]);
    exchange(edge.address, post("/mcp/", &theirs, &call("1", "any"))).await;
    assert_eq!(
        (origin.last().headers("x-api-key"), origin.last().header("authorization")),
        (vec!["dXNlcjpwYXNz"], None)
    );
    edge.write("one.secret", "second-secret");
    edge.reload(&yaml).await.expect("the configuration is valid");
    edge.get("/a/", &[]).await;
    assert_eq!(origin.last().headers("authorization"), ["Bearer second-secret"]);
    for page in ["/status", "/metrics"] {
        assert!(!edge.admin_get(page).await.body.contains("second-secret"), "{page}");
    }
}
