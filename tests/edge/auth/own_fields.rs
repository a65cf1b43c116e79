//! Credentials in fields of their own, requests without any, and what tells clients where a token is for.

use serde_json::json;

use crate::harness::{Origin, Signer, TestEdge, Tokens, answer, exchange, ok, request};

/// An edge whose tokens come in `X-Edge-Token`, and whose keys may come in `X-Key`.
async fn edge(origin: &Origin) -> (TestEdge, String) {
    let key = mcp_edge::types::new_api_key("robot").expect("there is randomness");
    let hash = mcp_edge::types::KeyHash::sha256(&key);
    let keys = format!("- {{id: robot, hash: '{hash}', subject: robot}}\n");
    let with_header = Tokens::PROVIDER.replace("leeway: 1s", "leeway: 1s, header: X-Edge-Token");
    let yaml = format!(
        "auth:
  providers:
    {with_header}
    robots: {{api_keys: {{file: keys.yaml, header: X-Key}}}}
    plain: {{jwt: {{issuer: 'https://plain.example', audiences: [x], algorithms: [HS256], secret: {{file: issuer.secret}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /tokens/, upstream: a, auth: {{providers: [local]}}}}
  - {{path: /keys/, upstream: a, auth: {{providers: [robots]}}}}
  - {{path: /both/, upstream: a, auth: {{providers: [local, robots]}}}}
  - {{path: /mixed/, upstream: a, auth: {{providers: [local, plain]}}}}
",
        origin.address
    );
    (TestEdge::start_with(&yaml, &[("keys.yaml", &keys)]).await, key)
}

/// Case E5: the server behind the edge wants an `Authorization` of its own.
#[tokio::test]
async fn a_token_in_a_field_of_its_own_leaves_authorization_to_the_upstream() {
    let origin = Origin::answering(|_| ok("in")).await;
    let (edge, _) = edge(&origin).await;
    let token = Tokens::token("alice", "");
    let (bearer, lower) = (format!("Bearer {token}"), format!("bearer {token}"));
    for own in [&token, &bearer, &lower] {
        for theirs in ["Bearer upstreams-own", "Basic YTpi", "Bearer a b"] {
            let reply = edge.get("/tokens/", &[("X-Edge-Token", own), ("Authorization", theirs)]).await;
            assert_eq!(reply.status, 200, "{theirs}: {}", reply.body);
            let seen = origin.last();
            assert_eq!((seen.header("authorization"), seen.header("x-edge-token")), (Some(theirs), None));
            assert_eq!(seen.header("x-user"), Some("alice"));
        }
    }
    // The edge's own token is not sent on, in whatever field.
    assert_eq!(edge.get("/tokens/", &[("X-Edge-Token", &token), ("Authorization", &bearer)]).await.status, 200);
    assert_eq!(origin.last().header("authorization"), None);
    let before = origin.count();
    for fields in [
        &[("Authorization", bearer.as_str())][..],
        &[("X-Edge-Token", "junk"), ("Authorization", &bearer)],
        &[("X-Edge-Token", "")],
    ] {
        assert_eq!(edge.get("/tokens/", fields).await.status, 401, "{fields:?}");
    }
    let twice = [("X-Edge-Token", token.as_str()), ("X-Edge-Token", &token)];
    assert_eq!(edge.get("/tokens/", &twice).await.status, 400);
    // Where another provider reads `Authorization`, it is a credential.
    let reply = edge.get("/mixed/", &[("X-Edge-Token", &token), ("Authorization", "Bearer other")]).await;
    assert_eq!(reply.status, 400);
    assert_eq!(origin.count(), before);
}

#[tokio::test]
async fn a_key_in_a_field_of_its_own_leaves_authorization_to_the_upstream() {
    let origin = Origin::answering(|_| ok("in")).await;
    let (edge, key) = edge(&origin).await;
    let another = mcp_edge::types::new_api_key("robot").expect("there is randomness");
    let own = ("X-Key", key.as_str());
    for path in ["/keys/", "/both/"] {
        let reply = edge.get(path, &[own, ("Authorization", "Bearer upstreams-own")]).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let seen = origin.last();
        assert_eq!((seen.header("authorization"), seen.header("x-key")), (Some("Bearer upstreams-own"), None));
        // A key in `Authorization` is one for the edge.
        let bearer = format!("Bearer {key}");
        assert_eq!(edge.get(path, &[own, ("Authorization", &bearer)]).await.status, 200);
        assert_eq!(origin.last().header("authorization"), None);
        assert_eq!(edge.get(path, &[own, ("Authorization", &format!("Bearer {another}"))]).await.status, 400);
        assert_eq!(edge.get(path, &[("Authorization", &bearer)]).await.status, 200);
        assert_eq!(origin.last().header("authorization"), None);
    }
    let two = [own, ("X-Edge-Token", &*Tokens::token("alice", ""))];
    assert_eq!(edge.get("/both/", &two).await.status, 400, "two different credentials");
}

#[tokio::test]
async fn an_authentication_server_with_a_field_of_its_own_leaves_authorization_to_the_upstream() {
    let origin = Origin::answering(|_| ok("in")).await;
    let server = Origin::answering(|_| b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{gate: {{lookup: {{url: 'http://{}/', headers: [X-Edge-Token]}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [gate]}}}}]
",
        server.address, origin.address
    ))
    .await;
    for theirs in ["Bearer server", "Bearer a b", "Basic YTpi", "Bearer mcpe_id_0123456789abcdef0123456789abcdef"] {
        let reply = edge.get("/a/", &[("X-Edge-Token", "t"), ("Authorization", theirs)]).await;
        assert_eq!(reply.status, 200, "{theirs}: {}", reply.body);
        let seen = origin.last();
        assert_eq!((seen.header("authorization"), seen.header("x-edge-token")), (Some(theirs), None));
    }
    assert_eq!(edge.get("/a/", &[("X-Edge-Token", "t"), ("Authorization", "Bearer t")]).await.status, 200);
    assert_eq!(origin.last().header("authorization"), None, "the edge's own credential is not sent on");
}

/// Case E6: an authentication server may know callers by a key in the query, or let anybody in.
#[tokio::test]
async fn an_authentication_server_can_be_asked_about_requests_without_a_credential() {
    let origin = Origin::saying("in").await;
    let server =
        Origin::answering(|seen| match seen.header("x-original-uri").is_some_and(|uri| uri.contains("key=k1")) {
            true => b"HTTP/1.1 200 OK\r\nX-User: guest\r\nContent-Length: 0\r\n\r\n".to_vec(),
            false => answer("401 Unauthorized", "text/plain", "no"),
        })
        .await;
    let yaml = |more: &str| {
        format!(
            "auth: {{providers: {{gate: {{lookup: {{url: 'http://{}/validate'{more}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [gate]}}}}]
",
            server.address, origin.address
        )
    };
    let refusing = TestEdge::start(&yaml("")).await;
    assert_eq!((refusing.get("/a/?key=k1", &[]).await.status, server.count()), (401, 0));
    let asking = TestEdge::start(&yaml(", anonymous: ask")).await;
    assert_eq!(asking.get("/a/?key=k1", &[]).await.status, 200);
    assert_eq!(origin.last().header("x-user"), Some("guest"));
    assert_eq!(asking.get("/a/?key=k2", &[]).await.status, 401, "the decision is for one URL");
    assert_eq!((server.count(), origin.count()), (2, 1));
}

/// Case E8.
#[tokio::test]
async fn a_token_that_is_too_long_is_told_to_be_so() {
    let origin = Origin::saying("in").await;
    let (edge, _) = edge(&origin).await;
    let long = "x".repeat(24 << 10);
    for fields in [("Authorization", format!("Bearer {long}")), ("X-Key", long)] {
        let reply = edge.get("/keys/", &[(fields.0, &fields.1)]).await;
        assert_eq!(reply.status, 401);
        assert!(reply.body.contains("longer than 16 KiB"), "{}", reply.body);
    }
}

/// Case E4: each tenant's host is a resource of its own.
#[tokio::test]
async fn a_public_url_may_have_the_host_of_the_request() {
    let origin = Origin::saying("in").await;
    let bound = Tokens::PROVIDER.replace("local:", "bound:").replace("audiences: [mcp-edge], ", "");
    let edge = TestEdge::start(&format!(
        "listeners: [{{address: '127.0.0.1:0'}}]
auth: {{providers: {{{bound}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mcp, hosts: ['*.tenants.example'], upstream: a, auth: {{providers: [bound], public_url: 'https://{{host}}/mcp'}}}}
",
        origin.address
    ))
    .await;
    let token = |aud: &str| Tokens::sign(&crate::harness::Claims::good("alice", "").with("aud", json!(aud)).0);
    for (host, aud, status) in [
        ("a.tenants.example", "https://a.tenants.example/mcp", 200),
        ("A.tenants.example:8443", "https://a.tenants.example/mcp", 200),
        ("b.tenants.example", "https://a.tenants.example/mcp", 401),
        ("a.tenants.example", "https://{host}/mcp", 401),
    ] {
        let bearer = format!("Bearer {}", token(aud));
        let reply = edge.get("/mcp", &[("Host", host), ("Authorization", &bearer)]).await;
        assert_eq!(reply.status, status, "{host} {aud}");
    }
    let head = request("GET", "/.well-known/oauth-protected-resource/mcp", &[("Host", "b.tenants.example")], "");
    let metadata = exchange(edge.address, head).await.json();
    assert_eq!(metadata["resource"], "https://b.tenants.example/mcp");
}

/// Case E10: everybody can make a second valid text of a token that is signed with ES256.
#[tokio::test]
async fn a_purge_covers_the_token_with_its_other_signature() {
    let (origin, signer) = (Origin::saying("in").await, Signer::new());
    let yaml = format!(
        "auth: {{providers: {{public: {{jwt: {{issuer: '{}', audiences: [mcp-edge], algorithms: [ES256], jwks: {{file: keys.json}}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [public]}}}}]
",
        Signer::ISSUER,
        origin.address
    );
    let edge = TestEdge::start_with(&yaml, &[("keys.json", &signer.jwks())]).await;
    let end = mcp_edge::types::unix_now() + 600;
    let claims = json!({"iss": Signer::ISSUER, "aud": "mcp-edge", "sub": "alice", "exp": end}).to_string();
    let token = signer.ec(r#"{"alg":"ES256","kid":"ec"}"#, &claims);
    let other = Signer::other_signature(&token);
    assert_ne!(token, other);
    for token in [&token, &other] {
        assert_eq!(edge.get_as(token, "/a/").await.status, 200);
    }
    let digest = mcp_edge::auth::credential_digest(token.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({"token_sha256": hex, "refuse_for": "1h"}).to_string();
    let reply = exchange(edge.admin, request("POST", "/auth/purge", &[("Host", "localhost")], &body)).await;
    assert_eq!((reply.status, &reply.json()["purged"]), (200, &json!(2)));
    for token in [&token, &other] {
        assert_eq!(edge.get_as(token, "/a/").await.status, 401);
    }
}

/// Case E9: a key that its owner does not use for signatures verifies none (RFC 7517 section 4.3).
#[tokio::test]
async fn a_key_for_another_operation_verifies_no_token() {
    let (origin, signer) = (Origin::saying("in").await, Signer::new());
    let yaml = format!(
        "auth: {{providers: {{public: {{jwt: {{issuer: '{}', audiences: [mcp-edge], algorithms: [RS256], jwks: {{file: keys.json}}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [public]}}}}]
",
        Signer::ISSUER,
        origin.address
    );
    for (operations, status) in
        [(json!(["verify"]), 200), (json!(["verify", "encrypt"]), 200), (json!(["encrypt"]), 401)]
    {
        let mut key = signer.rsa_jwk();
        key["key_ops"] = operations.clone();
        let keys = json!({"keys": [key]}).to_string();
        let edge = TestEdge::start_with(&yaml, &[("keys.json", &keys)]).await;
        assert_eq!(edge.get_as(&signer.token("alice"), "/a/").await.status, status, "{operations}");
    }
}
