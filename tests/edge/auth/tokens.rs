//! Which tokens are accepted, and what the clients of other tokens get.

use serde_json::json;

use crate::harness::{Claims, EdgeProcess, Origin, TestEdge, Tokens, ok};

const CHALLENGE: &str = r#"resource_metadata="http://edge.example/.well-known/oauth-protected-resource/fininfo/mcp""#;

async fn edge(origin: &Origin) -> TestEdge {
    TestEdge::start(&format!(
        "auth:
  cache: {{negative_ttl: 5s}}
  providers:
    {}
upstreams: {{fininfo: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /fininfo/, upstream: fininfo, auth: {{providers: [local], scopes: ['fininfo:read', 'fininfo:list']}}}}
  - {{path: /any/, upstream: fininfo, auth: {{providers: [local]}}}}
",
        Tokens::PROVIDER,
        origin.address
    ))
    .await
}

#[tokio::test]
async fn a_good_token_is_accepted_and_the_origin_gets_the_caller() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let reply = edge.get_as(&Tokens::token("alice", "fininfo:read other fininfo:list"), "/fininfo/mcp").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "in"));
    let seen = origin.last();
    assert_eq!(seen.headers("x-user"), ["alice"]);
    assert_eq!(seen.headers("x-scopes"), ["fininfo:list fininfo:read other"]);
    assert_eq!(seen.header("authorization"), None, "the client's token is not forwarded");
}

#[tokio::test]
async fn without_a_token_401_names_scopes_and_metadata_but_no_error() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    for headers in [vec![], vec![("Authorization", "Basic YTpi")]] {
        let reply = edge.get("/fininfo/mcp?access_token=ignored", &headers).await;
        assert_eq!(reply.status, 401);
        let expected = format!(r#"Bearer scope="fininfo:list fininfo:read", {CHALLENGE}"#);
        assert_eq!(reply.header("www-authenticate"), Some(expected.as_str()));
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_bad_token_is_401_invalid_token() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let sign =
        |claim: &str, value| Tokens::sign(&Claims::good("alice", "fininfo:read fininfo:list").with(claim, value).0);
    let now = mcp_edge::types::unix_now();
    for token in [
        "junk".to_owned(),
        "a b".to_owned(),
        sign("exp", json!(now - 60)),
        sign("nbf", json!(now + 600)),
        sign("aud", json!("another")),
        sign("iss", json!("https://evil")),
        sign("sub", json!("eve\r\nX-Admin: 1")),
        Tokens::token("alice", "fininfo:read fininfo:list") + "x",
    ] {
        let reply = edge.get_as(&token, "/fininfo/mcp").await;
        assert_eq!(reply.status, 401, "{token}");
        let challenge = reply.header("www-authenticate").expect("a challenge");
        assert!(
            challenge.starts_with(r#"Bearer error="invalid_token", scope="#) && challenge.ends_with(CHALLENGE),
            "{challenge}"
        );
        assert!(!reply.body.contains(&token), "the reply does not contain the token");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn missing_scopes_are_403_with_all_required_scopes() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let reply = edge.get_as(&Tokens::token("bob", "fininfo:read"), "/fininfo/mcp").await;
    assert_eq!(reply.status, 403);
    let expected = format!(r#"Bearer error="insufficient_scope", scope="fininfo:list fininfo:read", {CHALLENGE}"#);
    assert_eq!(reply.header("www-authenticate"), Some(expected.as_str()));
    assert_eq!(edge.get_as(&Tokens::token("bob", ""), "/any/").await.status, 200, "this route requires no scopes");
    assert_eq!(origin.count(), 1);
}

/// Row 29: a request with two `Authorization` fields is refused. The scheme `Bearer` can be written in any case.
#[tokio::test]
async fn two_authorization_fields_are_400_and_the_scheme_has_any_case() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let bearer = format!("Bearer {}", Tokens::token("alice", ""));
    assert_eq!(edge.get("/any/", &[("Authorization", &bearer), ("Authorization", &bearer)]).await.status, 400);
    assert_eq!(edge.get("/any/", &[("authorization", &bearer.replacen("Bearer", "bEARER", 1))]).await.status, 200);
    assert_eq!(origin.count(), 1);
}

/// Row 29: a token in the query is ignored. The log contains neither a good nor a wrong token.
#[tokio::test]
async fn a_token_in_the_query_is_ignored_and_not_logged() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (secret, text) = Tokens::SECRET_FILE;
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0'}}]
admin: {{address: '127.0.0.1:0'}}
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [local]}}}}]
",
        Tokens::PROVIDER,
        origin.address
    );
    std::fs::write(folder.path().join(secret), text).expect("the folder is writable");
    std::fs::write(folder.path().join("edge.yaml"), yaml).expect("the folder is writable");
    let mut edge = EdgeProcess::start_with(&folder.path().join("edge.yaml"), []).await;
    let token = Tokens::token("alice", "");
    for name in ["access_token", "token", "authorization"] {
        let text = crate::harness::request("GET", &format!("/a/{name}?{name}={token}"), &[], "");
        assert_eq!(crate::harness::exchange(edge.address, text).await.status, 401);
    }
    assert_eq!(edge.get_as("wrong-token-in-the-field", "/a/field").await.status, 401);
    assert_eq!(edge.get_as(&token, "/a/end").await.status, 200);
    let mut lines = String::new();
    // The requests were served by several threads, so their lines come in any order.
    for path in ["/a/access_token", "/a/token", "/a/authorization", "/a/field", "/a/end"] {
        while !lines.contains(path) {
            lines += &edge.line().await.expect("a line for each request");
        }
    }
    assert!(!lines.contains(&token[..20]) && !lines.contains("wrong-token"), "{lines}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn metadata_needs_no_token_and_names_the_issuer() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let reply = edge.get("/.well-known/oauth-protected-resource/fininfo/mcp", &[]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({
            "resource": "http://edge.example/fininfo/mcp",
            "authorization_servers": [Tokens::ISSUER],
            "scopes_supported": ["fininfo:list", "fininfo:read"],
            "bearer_methods_supported": ["header"],
        })
    );
    assert_eq!(edge.get("/.well-known/oauth-protected-resource/none", &[]).await.status, 404);
}

/// Case A5: where nobody gives tokens, a client must not look for somebody who does.
#[tokio::test]
async fn a_route_with_keys_only_has_no_metadata() {
    let origin = Origin::saying("in").await;
    let yaml = format!(
        "auth: {{providers: {{robots: {{api_keys: {{file: keys.yaml, header: X-API-Key}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /keys/, upstream: a, auth: {{providers: [robots], scopes: [read]}}}}]
",
        origin.address
    );
    let key = mcp_edge::types::new_api_key("one").expect("there is randomness");
    let keys = format!("- {{id: one, hash: '{}', subject: robot}}\n", mcp_edge::types::KeyHash::sha256(&key));
    let edge = TestEdge::start_with(&yaml, &[("keys.yaml", &keys)]).await;
    assert_eq!(edge.get("/.well-known/oauth-protected-resource/keys/mcp", &[]).await.status, 404);
    for (headers, status) in [(vec![], 401), (vec![("X-API-Key", key.as_str())], 403)] {
        let reply = edge.get("/keys/mcp", &headers).await;
        let challenge = reply.header("www-authenticate").expect("a challenge");
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(challenge.starts_with("Bearer") && !challenge.contains("resource_metadata"), "{challenge}");
    }
    assert_eq!(origin.count(), 0);
}

/// Cases E1 and E2: the URL of a whole host with a slash and without, and metadata at the path of the resource only.
#[tokio::test]
async fn the_public_url_of_a_route_is_its_resource() {
    let origin = Origin::saying("in").await;
    let provider = Tokens::PROVIDER.replace("audiences: [mcp-edge], ", "");
    let yaml = format!(
        "auth: {{providers: {{{provider}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /, upstream: a, auth: {{providers: [local], public_url: 'https://edge.example'}}}}
  - {{path: /fin/, upstream: a, auth: {{providers: [local], public_url: 'https://edge.example/fin/mcp'}}}}
",
        origin.address
    );
    let edge = TestEdge::start(&yaml).await;
    for (path, audience, status) in [
        ("/", "https://edge.example", 200),
        ("/", "https://edge.example/", 200),
        ("/", "https://edge.example/fin/mcp", 401),
        ("/", "https://other.example", 401),
        ("/fin/mcp", "https://edge.example/fin/mcp", 200),
        ("/fin/mcp", "https://edge.example", 401),
    ] {
        let token = Tokens::sign(&Claims::good("alice", "").with("aud", json!(audience)).0);
        assert_eq!(edge.get_as(&token, path).await.status, status, "{path} {audience}");
    }
    for (path, resource) in
        [("", Some("https://edge.example")), ("/fin/mcp", Some("https://edge.example/fin/mcp")), ("/fin/sse", None)]
    {
        let reply = edge.get(&format!("/.well-known/oauth-protected-resource{path}"), &[]).await;
        match resource {
            Some(resource) => assert_eq!((reply.status, &reply.json()["resource"]), (200, &json!(resource)), "{path}"),
            None => assert_eq!(reply.status, 404, "{path}"),
        }
    }
}

#[tokio::test]
async fn a_token_is_validated_once_and_then_found_in_the_cache() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let token = Tokens::token("alice", "");
    for _ in 0..10 {
        assert_eq!(edge.get_as(&token, "/any/").await.status, 200);
    }
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="miss"}"#).await, 1.0);
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="hit"}"#).await, 9.0);
    assert_eq!(edge.metric(r#"mcp_edge_auth_decisions_total{provider="local",result="allowed"}"#).await, 10.0);
}

/// Row 24: the leeway may accept an expired token when it is validated, but never from the cache.
#[tokio::test]
async fn a_cached_token_ends_at_exp() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let token = Tokens::sign(&Claims::good("alice", "").with("exp", json!(mcp_edge::types::unix_now() + 1)).0);
    assert_eq!(edge.get_as(&token, "/any/").await.status, 200);
    crate::harness::eventually("the token is refused", async || edge.get_as(&token, "/any/").await.status == 401).await;
}

fn lookup(server: &Origin, origin: &Origin) -> String {
    format!(
        "auth:
  providers:
    gateway:
      lookup: {{url: 'http://{}/validate', headers: [Authorization, X-Authorization], issuer: 'https://idp.example'}}
      groups: {{analysts: ['fininfo:read']}}
upstreams: {{fininfo: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /fininfo/, upstream: fininfo, auth: {{providers: [gateway], scopes: ['fininfo:read']}}}}]
",
        server.address, origin.address
    )
}

#[tokio::test]
async fn an_authentication_server_is_asked_as_nginx_asks_it() {
    let server = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nX-Username: alice\r\nX-Scopes: a b\r\nX-Groups: analysts,others\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&lookup(&server, &origin)).await;
    for _ in 0..3 {
        assert_eq!(edge.get_as("opaque", "/fininfo/mcp?x=1").await.status, 200);
    }
    assert_eq!(server.count(), 1, "the answer is cached");
    let asked = server.last();
    assert_eq!(asked.line(), "GET /validate HTTP/1.1");
    assert_eq!(asked.headers("authorization"), ["Bearer opaque"]);
    assert_eq!(asked.headers("x-original-uri"), ["/fininfo/mcp?x=1"]);
    assert_eq!(asked.headers("x-original-method"), ["GET"]);
    assert_eq!(asked.headers("x-original-url"), ["http://edge.example/fininfo/mcp?x=1"]);
    assert_eq!(origin.last().headers("x-user"), ["alice"]);
    assert_eq!(origin.last().headers("x-scopes"), ["a b fininfo:read"], "the caller's groups add scopes");
    assert_eq!(edge.get_as("opaque", "/fininfo/other").await.status, 200);
    assert_eq!(server.count(), 2, "another URI needs another lookup");
    edge.get("/fininfo/mcp", &[("X-Authorization", "legacy")]).await;
    assert_eq!(
        server.last().headers("x-authorization"),
        ["legacy"],
        "a credential in another field of `headers` is used, too"
    );
}

/// Rows 16, 18 and 19: what a client gets for each answer of the server.
#[tokio::test]
async fn each_answer_of_an_authentication_server_leads_to_its_status() {
    let origin = Origin::saying("in").await;
    for (answer, status, asked_twice) in [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, false),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, false),
        ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 503, true),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 503, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\njunk", 503, true),
        ("HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 10000000\r\n\r\n", 503, true),
        ("", 503, true),
    ] {
        let huge = answer.contains("10000000");
        let server = Origin::answering(move |_| {
            let mut bytes = answer.as_bytes().to_vec();
            bytes.extend(std::iter::repeat_n(b'x', if huge { 1 << 20 } else { 0 }));
            bytes
        })
        .await;
        // An empty answer means that the server does not answer. The lookup then reaches its time limit.
        let yaml = lookup(&server, &origin).replace("issuer:", "timeout: 300ms, issuer:");
        let edge = TestEdge::start(&yaml).await;
        for _ in 0..2 {
            let reply = edge.get_as("opaque", "/fininfo/mcp").await;
            assert_eq!(reply.status, status, "{answer}");
            assert_eq!(reply.header("www-authenticate").is_some(), status != 503, "{answer}");
            assert_eq!(reply.header("retry-after").is_some(), status == 503, "{answer}");
        }
        assert_eq!(server.count() == 2, asked_twice, "denials are cached, outages are not: {answer}");
    }
    assert_eq!(origin.count(), 0);
}

/// A client that leaves before it is refused is counted as refused, and not as an internal error.
#[tokio::test]
async fn a_client_that_leaves_early_is_counted_as_refused() {
    use tokio::io::AsyncWriteExt;
    static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    let server = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            GATE.acquire().await.expect("the semaphore is never closed").forget();
            let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("the edge is there");
        }
    })
    .await;
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&lookup(&server, &origin)).await;
    let mut client = tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens");
    let text = crate::harness::request("GET", "/fininfo/mcp", &[("Authorization", "Bearer bad")], "");
    client.write_all(text.as_bytes()).await.expect("the edge reads");
    crate::harness::eventually("the token is looked up", async || server.count() == 1).await;
    socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).expect("a TCP socket");
    drop(client);
    GATE.add_permits(1);
    let in_flight = r#"mcp_edge_requests_in_flight{route="/fininfo/"}"#;
    crate::harness::eventually("the request has ended", async || edge.metric(in_flight).await == 0.0).await;
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="internal"}"#).await, 0.0);
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="invalid_token"}"#).await, 1.0);
    assert_eq!(origin.count(), 0);
}

/// Row 26: many requests with one token that is not cached cause one lookup.
#[tokio::test]
async fn a_thousand_requests_with_a_token_that_is_not_cached_cause_one_lookup() {
    let server = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            // Long enough for all requests to arrive. If some arrive later, the result is the same.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let answer = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nX-Scopes: fininfo:read\r\nContent-Length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.expect("the edge is there");
        }
    })
    .await;
    let origin = Origin::answering(|_| ok("in")).await;
    let edge = TestEdge::start(&lookup(&server, &origin)).await;
    let address = edge.address;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let text = crate::harness::request("GET", "/fininfo/mcp", &[("Authorization", "Bearer cold")], "");
        requests.spawn(async move { crate::harness::exchange(address, text).await.status });
    }
    assert!(requests.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(server.count(), 1);
}

/// Row 20: tokens with unknown key ids cause few key fetches, and the old keys stay.
#[tokio::test]
async fn keys_are_fetched_again_for_an_unknown_kid_but_not_often() {
    let fleet = crate::harness::Fleet::start(&["currenttime"]).await;
    let jwks = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let answer = reqwest::Client::new().get(format!("{}/jwks", fleet.issuer)).send().await.expect("the issuer answers");
    *jwks.lock().expect("no panic") = answer.text().await.expect("text");
    let served = std::sync::Arc::clone(&jwks);
    let keys = Origin::answering(move |_| ok(&served.lock().expect("no panic").clone())).await;
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{fleet: {{jwt: {{issuer: '{}', audiences: [mcp-edge], algorithms: [ES256], jwks: {{url: 'http://{}/jwks'}}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [fleet]}}}}]
",
        fleet.issuer, keys.address, origin.address
    ))
    .await;
    let token = fleet.token("alice", "").await;
    crate::harness::eventually("the keys are loaded", async || edge.get_as(&token, "/").await.status == 200).await;
    let fetched = keys.count();
    let response = reqwest::Client::new().post(format!("{}/rotate", fleet.issuer)).send().await;
    assert!(response.expect("the issuer answers").status().is_success());
    for number in 0..50 {
        let rotated = fleet.token(&format!("bob-{number}"), "").await;
        assert_eq!(edge.get_as(&rotated, "/").await.status, 401, "the served key set does not contain the key");
    }
    assert!(keys.count() <= fetched + 1, "{} fetches for 50 unknown keys", keys.count() - fetched);
    assert_eq!(edge.get_as(&token, "/").await.status, 200, "the old keys stay");
}

/// A token that was issued for one route is refused on another route.
#[tokio::test]
async fn a_token_is_for_the_route_that_it_was_issued_for() {
    let origin = Origin::saying("in").await;
    let bound = Tokens::PROVIDER.replace("local:", "bound:").replace("audiences: [mcp-edge], ", "");
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{{bound}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /one/, upstream: a, auth: {{providers: [bound], public_url: 'https://edge.example/one/mcp'}}}}
  - {{path: /two/, upstream: a, auth: {{providers: [bound], public_url: 'https://edge.example/two/mcp'}}}}
  - {{path: /both/, upstream: a, auth: {{providers: [bound], audiences: [shared, 'https://edge.example/one/mcp']}}}}
",
        origin.address
    ))
    .await;
    let for_one = "https://edge.example/one/mcp";
    for (audience, one, two, both) in [
        (json!(for_one), 200, 401, 200),
        (json!(["https://edge.example/two/mcp", "other"]), 401, 200, 401),
        (json!(["shared"]), 401, 401, 200),
        (json!("https://edge.example/one/mcp/"), 401, 401, 401),
        (json!("mcp-edge"), 401, 401, 401),
        (json!([]), 401, 401, 401),
        (json!(7), 401, 401, 401),
    ] {
        let token = Tokens::sign(&Claims::good("alice", "").with("aud", audience.clone()).0);
        // Twice, because the second answer comes from the cache.
        for _ in 0..2 {
            for (path, expected) in [("/one/mcp", one), ("/two/mcp", two), ("/both/mcp", both)] {
                assert_eq!(edge.get_as(&token, path).await.status, expected, "{audience} at {path}");
            }
        }
    }
    // The `Host` field of a client does not change the audience that the route requires.
    let token = Tokens::sign(&Claims::good("alice", "").with("aud", json!("https://evil.example/two/mcp")).0);
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Host", "evil.example"), ("X-Forwarded-Proto", "https")];
    assert_eq!(edge.get("/two/mcp", &headers).await.status, 401);
}
