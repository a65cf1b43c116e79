//! Exchange of the caller's own token (RFC 8693).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcp_edge::types::{KeyHash, new_api_key};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::harness::{Authority, Claims, EdgeProcess, is_refused_by_error, request};

#[tokio::test]
async fn the_upstream_gets_the_exchanged_token_of_the_caller() {
    let (issuer, origin) = (issuer(r#", "expires_in": 600"#).await, upstream().await);
    let more = ", audience: fininfo, resource: 'https://fininfo.internal/mcp?a=b&c', scopes: ['b:write', 'a:read']";
    let edge = edge(&origin, &issuer, more).await;
    for (index, path) in WAYS.into_iter().enumerate() {
        let token = Tokens::token("alice", "base read");
        for _ in 0..3 {
            assert_eq!(send(&edge, path, &token).await.status, 200);
        }
        assert_eq!(issuer.count(), index + 1, "each route needs its own token, and requests it once");
        let asked = issuer.last();
        assert_eq!(asked.line(), "POST /token?x=1 HTTP/1.1");
        assert_eq!(asked.headers("content-type"), ["application/x-www-form-urlencoded"]);
        assert_eq!(asked.headers("accept"), ["application/json"]);
        let basic = format!("Basic {}", STANDARD.encode("my+edge:hunter2+%26+more"));
        assert_eq!(asked.headers("authorization"), [basic.as_str()], "RFC 6749 section 2.3.1");
        let expected = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token.as_str()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", "fininfo"),
            ("resource", "https://fininfo.internal/mcp?a=b&c"),
            ("scope", "a:read b:write"),
        ];
        assert_eq!(form(&asked), pairs(&expected));
        let issued = format!("Bearer issued-{}", index + 1);
        for seen in origin.requests().iter().rev().take(3) {
            assert_eq!(seen.headers("authorization"), [issued.as_str()]);
            assert_eq!(seen.headers("x-user"), ["alice"]);
        }
        assert_eq!((counted(&edge, path, "ok").await, counted(&edge, path, "hit").await), (1.0, 2.0));
    }
    let metrics = edge.admin_get("/metrics").await.body;
    for secret in ["issued-", "hunter2", "my edge"] {
        assert!(!metrics.contains(secret), "{secret}");
    }
}

/// Two tokens of one subject may have different scopes, so each is exchanged separately.
#[tokio::test]
async fn each_token_of_a_caller_is_exchanged_separately() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let edge = edge(&origin, &issuer, ", subject_token_type: jwt").await;
    let callers = [Tokens::token("alice", "read"), Tokens::token("bob", "read"), Tokens::token("alice", "read write")];
    for _ in 0..2 {
        for (index, token) in callers.iter().enumerate() {
            assert_eq!(send(&edge, "/http/", token).await.status, 200);
            assert_eq!(origin.last().headers("authorization"), [format!("Bearer issued-{}", index + 1)]);
            let asked = form(&issuer.requests()[index]);
            assert_eq!(asked["subject_token"], *token);
            assert_eq!(asked["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
        }
    }
    assert_eq!(issuer.count(), 3);
}

/// A refused request is neither sent to the upstream nor does it cause a token request.
#[tokio::test]
async fn a_refused_request_causes_no_token_request() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let edge = edge(&origin, &issuer, "").await;
    let token = Tokens::token("alice", "");
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str())];
    let denied = exchange(edge.address, post("/mcp/", &headers, &call("1", "drop"))).await;
    assert!(is_refused_by_error(&denied), "{denied:?}");
    let broken = exchange(edge.address, post("/mcp/", &headers, "{")).await;
    assert_eq!(broken.status, 400);
    for path in WAYS {
        assert_eq!(send(&edge, path, &(token.clone() + "x")).await.status, 401);
        let expired = Tokens::sign(&Claims::good("alice", "").with("exp", json!(1)).0);
        assert_eq!(send(&edge, path, &expired).await.status, 401);
    }
    assert_eq!((issuer.connections(), origin.connections()), (0, 0));
}

/// Row 16, for tokens of upstreams: an answer without a usable token is an outage, and nothing is sent to the upstream.
#[tokio::test]
async fn without_a_token_nothing_is_sent_to_the_upstream() {
    let origin = upstream().await;
    let canary = Origin::saying("{}").await;
    let good = r#"{"access_token": "t", "token_type": "Bearer"}"#;
    let huge = format!(r#"{{"access_token": "t", "token_type": "Bearer", "x": "{}"}}"#, "x".repeat(300 << 10));
    let away =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", canary.address);
    for (name, answer) in [
        ("broken", answer("500 Internal Server Error", IS_JSON, good)),
        ("created", answer("201 Created", IS_JSON, good)),
        ("redirected", away.into_bytes()),
        ("another type", ok(r#"{"access_token": "t", "token_type": "DPoP"}"#)),
        ("no type", ok(r#"{"access_token": "t"}"#)),
        ("no access token", ok(r#"{"access_token": "t", "token_type": "N_A"}"#)),
        ("no token", ok(r#"{"token_type": "Bearer"}"#)),
        ("a token that splits a field", ok(r#"{"access_token": "t\r\nX-Admin: 1", "token_type": "Bearer"}"#)),
        ("ended", ok(r#"{"access_token": "t", "token_type": "Bearer", "expires_in": 0}"#)),
        ("a list", ok("[]")),
        ("junk", ok("access_token=t&token_type=Bearer")),
        ("huge", ok(&huge)),
        ("the edge's credentials are wrong", refused("401 Unauthorized", "invalid_client")),
        ("busy", refused("429 Too Many Requests", "slow_down")),
        ("silent", Vec::new()),
    ] {
        let issuer = Origin::answering(move |_| answer.clone()).await;
        let edge = edge(&origin, &issuer, ", timeout: 500ms").await;
        for (index, path) in [WAYS[0], WAYS[0], WAYS[1]].into_iter().enumerate() {
            let reply = send(&edge, path, &Tokens::token("alice", "")).await;
            assert_eq!(reply.status, 503, "{name}: {}", reply.body);
            assert!(reply.header("retry-after").is_some(), "{name}");
            assert_eq!(issuer.count(), index + 1, "outages are not cached: {name}");
            if path == "/mcp/" {
                let error = &reply.json()["error"];
                assert_eq!((reply.json()["id"].as_i64(), error["code"].as_i64()), (Some(1), Some(-32003)), "{name}");
            }
        }
        assert_eq!(counted(&edge, "/mcp/", "unavailable").await, 2.0, "{name}");
    }
    let gone = {
        let issuer = Origin::saying("").await;
        grant("exchange", &issuer, "")
    };
    let edge = TestEdge::start_with(&yaml(&origin, &gone), &[SECRET]).await;
    assert_eq!(send(&edge, "/http/", &Tokens::token("alice", "")).await.status, 503);
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="auth_unavailable"}"#).await, 1.0);
    assert_eq!((origin.connections(), canary.connections()), (0, 0));
}

#[tokio::test]
async fn a_caller_whose_token_cannot_be_exchanged_gets_403() {
    let origin = upstream().await;
    let alice = Tokens::token("alice", "");
    for (status, code) in [
        ("400 Bad Request", "invalid_grant"),
        ("400 Bad Request", "invalid_request"),
        ("400 Bad Request", "invalid_target"),
        ("401 Unauthorized", ""),
        ("403 Forbidden", "access_denied"),
    ] {
        let refusal = refused(status, code);
        let hers = alice.clone();
        let issuer = Origin::answering(move |asked| match form(asked)["subject_token"] == hers {
            true => refusal.clone(),
            false => issued("his", ""),
        })
        .await;
        let edge = edge(&origin, &issuer, "").await;
        let reply = send(&edge, "/http/", &alice).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (403, Some("credential_refused")), "{code}");
        assert!(!reply.body.contains("canary"), "{}", reply.body);
        assert_eq!(reply.header("www-authenticate"), None, "more scopes would not help");
        for _ in 0..2 {
            let reply = send(&edge, "/mcp/", &alice).await;
            let error = &reply.json()["error"];
            assert_eq!((reply.status, error["code"].as_i64()), (403, Some(-32001)), "{code}: {}", reply.body);
        }
        assert_eq!(issuer.count(), 2, "a refusal is cached for a while: {code}");
        let before = origin.count();
        assert_eq!(send(&edge, "/mcp/", &Tokens::token("bob", "")).await.status, 200, "{code}");
        assert_eq!(origin.count(), before + 1);
        assert_eq!(origin.last().headers("authorization"), ["Bearer his"]);
        assert_eq!(counted(&edge, "/mcp/", "refused").await, 1.0);
        assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="credential_refused"}"#).await, 3.0);
        assert_eq!(
            edge.metric(r#"mcp_edge_mcp_calls_total{method="tools/call",outcome="denied",route="/mcp/",tool="get"}"#)
                .await,
            2.0
        );
    }
}

/// `auth.outbound.allow` applies to token endpoints, too: the edge does not connect to an address outside these
/// networks.
#[tokio::test]
async fn a_token_endpoint_outside_the_allowed_networks_is_not_asked() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let named = grant("exchange", &issuer, "").replace("127.0.0.1", "localhost");
    let inside = yaml(&origin, &named).replace("auth: {cache", "auth: {outbound: {allow: [127.0.0.0/8, '::1']}, cache");
    let edge = TestEdge::start_with(&inside, &[SECRET]).await;
    assert_eq!(send(&edge, "/http/", &Tokens::token("alice", "")).await.status, 200);
    let seen = (issuer.count(), origin.count());
    edge.reload(&inside.replace("127.0.0.0/8, '::1'", "192.0.2.0/24")).await.expect("the configuration is good");
    assert_eq!(send(&edge, "/http/", &Tokens::token("bob", "")).await.status, 503);
    assert_eq!((issuer.count(), origin.count()), seen);
}

/// The request of a caller without a token is never sent to the upstream without a credential.
#[tokio::test]
async fn a_caller_without_a_token_is_refused() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let lookup = Origin::answering(|_| b"HTTP/1.1 200 OK\r\nX-User: dora\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let key = new_api_key("ci").expect("there is randomness");
    let keys = format!("- {{id: ci, hash: '{}', subject: robot}}\n", KeyHash::sha256(&key));
    let yaml = format!(
        "auth:
  providers:
    {}
    robots: {{api_keys: {{file: keys.yaml, header: X-API-Key}}}}
    cookies: {{lookup: {{url: 'http://{}/', headers: [Authorization, Cookie]}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /http/, upstream: a, auth: {{providers: [local, robots, cookies]}}, credential: {{{}}}}}]
",
        Tokens::PROVIDER,
        lookup.address,
        origin.address,
        grant("exchange", &issuer, "")
    );
    let edge = TestEdge::start_with(&yaml, &[SECRET, ("keys.yaml", &keys)]).await;
    let bearer = format!("Bearer {key}");
    for headers in
        [vec![("X-API-Key", key.as_str())], vec![("Authorization", bearer.as_str())], vec![("Cookie", "a=b")]]
    {
        let reply = edge.get("/http/", &headers).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (403, Some("credential_refused")), "{headers:?}");
    }
    assert_eq!((issuer.connections(), origin.connections()), (0, 0));
    for token in ["opaque-token", &Tokens::token("alice", "")] {
        assert_eq!(edge.get_as(token, "/http/").await.status, 200);
        assert_eq!(form(&issuer.last())["subject_token"], token);
    }
}

#[tokio::test]
async fn a_caller_that_authenticates_by_certificate_is_refused() {
    let (issuer, origin, authority) = (issuer("").await, upstream().await, Authority::new("test"));
    let (server, robot) = (authority.issue("edge.example"), authority.issue("robot.example"));
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{certificate: edge.pem, key: edge.key, client_ca: ca.pem}}}}]
auth: {{providers: {{{}, mesh: {{mtls: {{subject: san_dns}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /first/, upstream: a, auth: {{providers: [mesh, local]}}, credential: {{{grant}}}}}
  - {{path: /last/, upstream: a, auth: {{providers: [local, mesh]}}, credential: {{{grant}}}}}
",
        Tokens::PROVIDER,
        origin.address,
        grant = grant("exchange", &issuer, "")
    );
    let files = [("ca.pem", authority.pem()), ("edge.pem", server.pem()), ("edge.key", server.key_pem())];
    let mut files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    files.push(SECRET);
    let edge = TestEdge::start_with(&yaml, &files).await;
    let client = rustls::ClientConfig::builder().with_root_certificates(authority.roots());
    let client = client.with_client_auth_cert(robot.chain(), robot.key_der()).expect("a pair");
    let client = tokio_rustls::TlsConnector::from(Arc::new(client));
    let token = format!("Bearer {}", Tokens::token("alice", ""));
    for (path, headers, status) in [
        ("/first/", vec![], 403),
        ("/first/", vec![("Authorization", token.as_str())], 403),
        ("/last/", vec![], 403),
        ("/last/", vec![("Authorization", token.as_str())], 200),
    ] {
        let stream = tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens");
        let name = rustls::pki_types::ServerName::try_from("edge.example").expect("a name");
        let mut stream = client.connect(name, stream).await.expect("a handshake");
        stream.write_all(request("GET", path, &headers, "").as_bytes()).await.expect("the edge reads");
        let reply = crate::harness::read_reply(&mut stream).await;
        assert_eq!(reply.status, status, "{path} {headers:?}: {}", reply.body);
    }
    assert_eq!((issuer.count(), origin.count()), (1, 1));
}

/// The exchanged token is sent in another field, beside the client's own token.
#[tokio::test]
async fn the_exchanged_token_can_be_sent_in_another_field() {
    let issuer = Origin::answering(|_| ok(r#"{"access_token": "t", "token_type": "N_A"}"#)).await;
    let origin = upstream().await;
    let credential = grant("exchange", &issuer, "") + ", header: X-Upstream-Token, scheme: Token";
    let yaml = yaml(&origin, &credential).replace("upstream: a,", "upstream: a, forward_token: true,");
    let edge = TestEdge::start_with(&yaml, &[SECRET]).await;
    let authorization = format!("Bearer {}", Tokens::token("alice", ""));
    let theirs =
        [("Authorization", authorization.as_str()), ("X-Upstream-Token", "theirs"), ("X_Upstream_Token", "theirs")];
    for path in WAYS {
        assert_eq!(exchange(edge.address, post(path, &theirs, &call("1", "get"))).await.status, 200);
        let seen = origin.last();
        assert_eq!(seen.headers("x-upstream-token"), ["Token t"]);
        assert_eq!(seen.headers("authorization"), [authorization.as_str()]);
        assert!(
            !seen.head.contains("theirs"),
            "a field whose name a server may read as the same is removed, too: {}",
            seen.head
        );
    }
}

/// Row 70: the log contains no tokens, no secrets and no texts of the token endpoint except valid error codes.
#[tokio::test]
async fn no_token_is_logged() {
    let origin = upstream().await;
    let (issuer, now) = changing(issued("canary-issued", "")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let listeners = "listeners: [{address: '127.0.0.1:0', hosts: [edge.example]}]\nadmin: {address: '127.0.0.1:0'}\n";
    let text = listeners.to_owned() + &yaml(&origin, &grant("exchange", &issuer, ""));
    for (name, text) in [("edge.yaml", text.as_str()), SECRET, Tokens::SECRET_FILE] {
        std::fs::write(folder.path().join(name), text).expect("the folder is fresh");
    }
    let mut edge = EdgeProcess::start(&folder.path().join("edge.yaml")).await;
    let tokens = ["alice", "bob", "carol", "dora"].map(|subject| Tokens::token(subject, ""));
    let mut lines = Vec::new();
    for (token, answer, status) in [
        (&tokens[0], issued("canary-issued", ""), 200),
        (&tokens[1], refused("400 Bad Request", "invalid_target"), 403),
        // This is not a valid error code. It might be a token, so it is not logged.
        (&tokens[2], refused("400 Bad Request", "Canary.Code"), 403),
        (&tokens[3], refused("401 Unauthorized", "invalid_client"), 503),
    ] {
        *now.lock().expect("no test panics while it holds the lock") = answer;
        let reply = edge.get_as(token, "/http/").await;
        assert_eq!(reply.status, status);
        lines.push(reply.head);
        lines.push(reply.body);
        let access = format!(r#""status":{status}"#);
        while !lines.last().is_some_and(|line| line.contains(&access)) {
            lines.push(edge.line().await.expect("the edge is running"));
        }
    }
    let text = lines.join("\n");
    for expected in [
        "route /http/: the token endpoint refuses to exchange a caller's token: invalid_target (status 400)",
        "route /http/: the token endpoint refuses to exchange a caller's token: no error code (status 400)",
        "route /http/: the token endpoint issued no token: invalid_client (status 401): check `client_id`",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for secret in ["canary", "Canary", "hunter2", "my+edge"].into_iter().chain(tokens.iter().map(String::as_str)) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
