//! Web pages as callers: `Origin`, `Host` and CORS.

use crate::harness::{Origin, Reply, TestEdge, Tokens, answer, call, exchange, post, request};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const APP: &str = "https://app.example";

/// An edge with the routes `/mcp/`, `/open/` (opaque), and two routes with `cors`: `/cors/`, which needs tokens, and
/// `/any/` for all pages.
async fn edge(origin: &Origin, listener: &str) -> TestEdge {
    TestEdge::start(&format!(
        "listeners: [{{address: '127.0.0.1:0'{listener}}}]
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mcp/, upstream: a, protocol: mcp, auth: none}}
  - {{path: /open/, upstream: a, protocol: http, auth: none}}
  - {{path: /any/, upstream: a, protocol: mcp, auth: none, cors: {{origins: ['*']}}}}
  - path: /cors/
    upstream: a
    protocol: mcp
    auth: {{providers: [local], scopes: [base]}}
    tools: [{{match: free}}]
    cors: {{origins: ['{APP}'], max_age: 7m}}
",
        Tokens::PROVIDER,
        origin.address
    ))
    .await
}

async fn json_origin() -> Origin {
    Origin::answering(|_| answer("200 OK", "application/json", RESULT)).await
}

/// The status of a call with one `Origin` field for each of `origins`.
async fn status(edge: &TestEdge, path: &str, host: &str, origins: &[&str]) -> u16 {
    let mut headers = vec![("Host", host)];
    headers.extend(origins.iter().map(|origin| ("Origin", *origin)));
    exchange(edge.address, post(path, &headers, &call("1", "any"))).await.status
}

/// All values of a field.
fn fields<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    let fields = reply.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

fn preflight(path: &str, origin: &str) -> String {
    let asked = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,mcp-session-id"),
    ];
    request("OPTIONS", path, &asked, "")
}

const GARBAGE: [&str; 4] = ["not an origin", "https://", "http://127.0.0.1/path", "\u{fc}"];

#[tokio::test]
async fn on_loopback_only_pages_of_this_machine_may_call() {
    let origin = json_origin().await;
    let edge = edge(&origin, "").await;
    for good in [
        &[][..],
        &["http://127.0.0.1"],
        &["http://localhost:5173"],
        &["https://localhost"],
        &["http://app.localhost:1"],
        &["http://[::1]:8080"],
        &["http://127.9.9.9:1"],
    ] {
        for host in ["127.0.0.1", "localhost:1234", "[::1]:1"] {
            assert_eq!(status(&edge, "/mcp/", host, good).await, 200, "{host} {good:?}");
        }
    }
    let passed = origin.count();
    for bad in [
        &["https://evil.example"][..],
        &["null"],
        &["http://localhost", "http://localhost"],
        &["http://localhost", "https://evil.example"],
        &["http://localhost.evil.example"],
        &["http://127.0.0.1.evil.example"],
        &["http://localhost@evil.example"],
    ] {
        assert_eq!(status(&edge, "/mcp/", "localhost", bad).await, 403, "{bad:?}");
    }
    for garbage in GARBAGE {
        assert_eq!(status(&edge, "/mcp/", "localhost", &[garbage]).await, 403, "{garbage}");
    }
    assert_eq!(origin.count(), passed, "no refused call reached the upstream");
}

/// The owner of a page can make its host name resolve to any address. So a host name is an allowed origin only if the
/// listener's `hosts` name it.
#[tokio::test]
async fn a_host_name_that_the_listener_does_not_name_is_not_an_allowed_origin() {
    let origin = json_origin().await;
    let everywhere = TestEdge::start(&format!(
        "listeners: [{{address: '0.0.0.0:0'}}]
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /mcp/, upstream: a, protocol: mcp, auth: none}}]
",
        origin.address
    ))
    .await;
    assert_eq!(status(&everywhere, "/mcp/", "rebound.example", &["http://rebound.example"]).await, 403);
    assert_eq!(
        status(&everywhere, "/mcp/", "rebound.example", &[]).await,
        200,
        "without `Origin` there is nothing to check"
    );
    assert_eq!(
        status(&everywhere, "/mcp/", "192.0.2.7:80", &["http://192.0.2.7"]).await,
        200,
        "an IP address does not resolve to another one"
    );
}

#[tokio::test]
async fn a_listener_with_hosts_lets_its_own_pages_call() {
    let origin = json_origin().await;
    let edge = edge(&origin, ", hosts: [edge.example]").await;
    for good in [&[][..], &["http://edge.example"], &["HTTP://EDGE.example:80"]] {
        assert_eq!(status(&edge, "/mcp/", "edge.example", good).await, 200, "{good:?}");
    }
    assert_eq!(status(&edge, "/mcp/", "edge.example:8080", &["http://edge.example:8080"]).await, 200);
    for bad in [
        &["https://edge.example"][..],
        &["http://edge.example:8080"],
        &["http://localhost"],
        &["https://evil.example"],
        &["http://sub.edge.example"],
        &["null"],
        &["http://edge.example", "http://edge.example"],
    ] {
        assert_eq!(status(&edge, "/mcp/", "edge.example", bad).await, 403, "{bad:?}");
    }
    for garbage in GARBAGE {
        assert_eq!(status(&edge, "/mcp/", "edge.example", &[garbage]).await, 403, "{garbage}");
    }
}

#[tokio::test]
async fn a_listener_with_origins_lets_only_these_call_on_every_route() {
    let origin = json_origin().await;
    let edge = edge(
        &origin,
        ", hosts: [edge.example], origins: ['https://app.example', 'http://localhost:*', 'https://*.example.org']",
    )
    .await;
    for path in ["/mcp/", "/open/"] {
        for good in [&[][..], &[APP], &["http://localhost:5173"], &["http://localhost"], &["https://a.example.org"]] {
            assert_eq!(status(&edge, path, "edge.example", good).await, 200, "{path} {good:?}");
        }
        for bad in [
            &["http://app.example"][..],
            &["https://localhost:5173"],
            &["https://app.example:8443"],
            &["https://example.org"],
            &["http://edge.example"],
            &["null"],
            &[APP, APP],
        ] {
            assert_eq!(status(&edge, path, "edge.example", bad).await, 403, "{path} {bad:?}");
        }
    }
}

#[tokio::test]
async fn opaque_routes_leave_pages_to_their_upstream() {
    let origin = json_origin().await;
    for listener in ["", ", hosts: [edge.example, localhost]"] {
        let edge = edge(&origin, listener).await;
        for page in [&["https://evil.example"][..], &["null"], &["not an origin"]] {
            assert_eq!(status(&edge, "/open/", "localhost", page).await, 200, "{page:?}");
        }
    }
}

#[tokio::test]
async fn a_loopback_listener_answers_to_loopback_hosts_only() {
    let origin = json_origin().await;
    let edge = edge(&origin, "").await;
    for host in ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example"] {
        assert_eq!(status(&edge, "/mcp/", host, &[]).await, 421, "{host}");
        assert_eq!(status(&edge, "/cors/", host, &[APP]).await, 421, "{host}");
        assert_eq!(status(&edge, "/mcp/", host, &["http://localhost"]).await, 421, "{host}");
    }
    // A page's host name can resolve to a loopback address. Then `Origin` and `Host` name the same host.
    assert_eq!(status(&edge, "/mcp/", "evil.example", &["http://evil.example"]).await, 421);
    assert_eq!(origin.count(), 0);
    assert_eq!(status(&edge, "/open/", "evil.example", &[]).await, 200, "opaque routes do not have this check");
}

#[tokio::test]
async fn a_loopback_listener_behind_a_trusted_proxy_answers_to_any_host() {
    let origin = json_origin().await;
    let edge = edge(&origin, ", trusted_proxies: [127.0.0.0/8]").await;
    assert_eq!(status(&edge, "/mcp/", "public.example", &[]).await, 200);
    let forwarded = |page| {
        let headers = [
            ("Host", "127.0.0.1"),
            ("X-Forwarded-Host", "public.example"),
            ("X-Forwarded-Proto", "https"),
            ("Origin", page),
        ];
        post("/mcp/", &headers, &call("1", "any"))
    };
    for (page, expected) in [
        ("https://public.example", 200),
        ("http://public.example", 403),
        ("https://evil.example", 403),
        ("https://127.0.0.1.evil.example", 403),
    ] {
        assert_eq!(exchange(edge.address, forwarded(page)).await.status, expected, "{page}");
    }
}

#[tokio::test]
async fn a_route_with_cors_lets_its_pages_call_beside_those_of_the_listener() {
    let origin = json_origin().await;
    let edge = edge(&origin, ", hosts: [edge.example]").await;
    let token = format!("Bearer {}", Tokens::token("alice", "base"));
    for (origins, expected) in [
        (&[][..], 200),
        (&[APP], 200),
        (&["http://edge.example"], 200),
        (&["http://app.example"], 403),
        (&["https://evil.example"], 403),
        (&["null"], 403),
        (&[APP, APP], 403),
        (&[APP, "https://evil.example"], 403),
    ] {
        let mut headers = vec![("Authorization", token.as_str())];
        headers.extend(origins.iter().map(|origin| ("Origin", *origin)));
        let reply = exchange(edge.address, post("/cors/", &headers, &call("1", "free"))).await;
        assert_eq!(reply.status, expected, "{origins:?}");
        let told = if origins == [APP] { vec![APP] } else { vec![] };
        assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), told, "{origins:?}");
    }
    // `*` allows all pages, also those whose origin is `null`.
    for page in ["https://evil.example", "null"] {
        let reply = exchange(edge.address, post("/any/", &[("Origin", page)], &call("1", "any"))).await;
        assert_eq!((reply.status, fields(&reply, "Access-Control-Allow-Origin")), (200, vec![page]));
    }
}

#[tokio::test]
async fn a_preflight_needs_no_token() {
    let origin = json_origin().await;
    let edge = edge(&origin, ", hosts: [edge.example]").await;
    let reply = exchange(edge.address, preflight("/cors/mcp", APP)).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{reply:?}");
    assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), [APP]);
    let methods = fields(&reply, "Access-Control-Allow-Methods").concat();
    assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
    assert_eq!(fields(&reply, "Access-Control-Allow-Headers"), ["authorization,mcp-session-id"]);
    assert_eq!(fields(&reply, "Access-Control-Max-Age"), ["420"]);
    assert_eq!(fields(&reply, "Vary"), ["Origin"]);
    assert_eq!(origin.count(), 0, "the edge answers the preflight");

    for page in ["https://evil.example", "null", "garbage"] {
        let reply = exchange(edge.address, preflight("/cors/mcp", page)).await;
        assert_eq!(reply.status, 403, "{page}");
        assert!(!reply.head.to_ascii_lowercase().contains("access-control-allow"), "{reply:?}");
    }
    // This OPTIONS request is not a preflight, so it needs a token.
    let reply = exchange(edge.address, request("OPTIONS", "/cors/mcp", &[("Origin", APP)], "")).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn pages_can_read_answers_and_refusals() {
    let origin = json_origin().await;
    let edge = edge(&origin, ", hosts: [edge.example]").await;
    let bearer = |scopes: &str| format!("Bearer {}", Tokens::token("alice", scopes));
    let (good, poor) = (bearer("base"), bearer("other"));
    for (token, session, tool, expected) in [
        (Some(&good), None, "free", 200),
        (None, None, "free", 401),
        (Some(&poor), None, "free", 403),
        // Refused by an error of JSON-RPC: no scope would open it.
        (Some(&good), None, "secret", 200),
        (Some(&good), Some("no-such-session"), "free", 404),
    ] {
        let mut headers = vec![("Origin", APP)];
        headers.extend(token.map(|token| ("Authorization", token.as_str())));
        headers.extend(session.map(|session| ("Mcp-Session-Id", session)));
        let reply = exchange(edge.address, post("/cors/", &headers, &call("1", tool))).await;
        assert_eq!(reply.status, expected, "{reply:?}");
        assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), [APP], "{expected}");
        let exposed = fields(&reply, "Access-Control-Expose-Headers");
        assert_eq!(exposed.len(), 1, "{expected}");
        for name in ["Mcp-Session-Id", "WWW-Authenticate"] {
            assert!(exposed[0].split(", ").any(|exposed| exposed == name), "{exposed:?}");
        }
        assert_eq!(fields(&reply, "Vary"), ["Origin"], "{expected}");
    }
    // Case A6: without these fields, a page would not even see the status.
    let headers = [("Origin", APP), ("Authorization", good.as_str())];
    let text = [&headers[..], &[("Content-Type", "text/plain")]].concat();
    for (request, expected) in [
        (request("PUT", "/cors/", &headers, ""), 405),
        (request("POST", "/cors/", &text, "hello"), 415),
        (post("/cors/", &headers, "{"), 400),
    ] {
        let reply = exchange(edge.address, request).await;
        assert_eq!(reply.status, expected, "{reply:?}");
        assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), [APP], "{expected}");
    }
}

#[tokio::test]
async fn cors_fields_of_an_upstream_pass_only_on_routes_without_cors() {
    let origin = Origin::answering(|_| {
        let theirs = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Own\r\n\
                      Access-Control-Allow-Credentials: true\r\n";
        format!("HTTP/1.1 200 OK\r\n{theirs}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")
            .into_bytes()
    })
    .await;
    let edge = edge(&origin, ", hosts: [edge.example]").await;
    for path in ["/mcp/", "/open/"] {
        let reply = exchange(edge.address, post(path, &[("Origin", "http://edge.example")], &call("1", "any"))).await;
        assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), ["*"], "{path}");
        assert_eq!(fields(&reply, "Access-Control-Expose-Headers"), ["X-Own"], "{path}");
        assert_eq!(fields(&reply, "Access-Control-Allow-Credentials"), ["true"], "{path}");
        let reply = exchange(edge.address, preflight(path, "http://edge.example")).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"), "the upstream answers preflights: {path}");
    }
    let reply = exchange(edge.address, post("/any/", &[("Origin", APP)], &call("1", "any"))).await;
    assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), [APP]);
    assert!(fields(&reply, "Access-Control-Expose-Headers").iter().all(|exposed| !exposed.contains("X-Own")));
    assert_eq!(fields(&reply, "Access-Control-Expose-Headers").len(), 1);
    assert_eq!(fields(&reply, "Access-Control-Allow-Credentials"), [""; 0]);
}

#[tokio::test]
async fn any_page_may_read_the_metadata_of_a_resource() {
    let origin = json_origin().await;
    let edge = edge(&origin, ", hosts: [edge.example]").await;
    let path = "/.well-known/oauth-protected-resource/cors/mcp";
    for page in [APP, "https://evil.example", "null"] {
        let asked = [
            ("Origin", page),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "mcp-protocol-version"),
        ];
        let reply = exchange(edge.address, request("OPTIONS", path, &asked, "")).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{reply:?}");
        assert_eq!(fields(&reply, "Access-Control-Allow-Origin"), ["*"]);
        assert_eq!(fields(&reply, "Access-Control-Allow-Methods"), ["GET, HEAD"]);
        assert_eq!(fields(&reply, "Access-Control-Allow-Headers"), ["mcp-protocol-version"]);
        assert_eq!(fields(&reply, "Access-Control-Max-Age").len(), 1);
        let reply = edge.get(path, &[("Origin", page)]).await;
        assert_eq!((reply.status, fields(&reply, "Access-Control-Allow-Origin")), (200, vec!["*"]));
        assert_eq!(reply.json()["resource"], "http://edge.example/cors/mcp");
    }
    assert_eq!(edge.send("OPTIONS", path, &[("Origin", APP)], "").await.status, 405, "this is not a preflight");
    assert_eq!(edge.send("POST", path, &[("Origin", APP)], "").await.status, 405);
    assert_eq!(origin.count(), 0);
}
