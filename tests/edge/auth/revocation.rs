//! Purges and refusals of credentials. They take effect at once, also for open streams.

use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::harness::{Claims, Origin, Reply, TestEdge, Tokens, call, eventually, exchange, post, request};
use crate::http::streaming::wire::{Wire, chunk, held, next};
use crate::http::streaming::{ACCEPT_EVENTS, EVENTS, PROMPTLY};

/// An edge with the routes `/mcp/`, `/open/` (opaque) and `/finish/`, which lets open streams finish.
async fn edge(origin: &Origin) -> TestEdge {
    TestEdge::start(&format!(
        "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mcp/, upstream: a, protocol: mcp, auth: {{providers: [local]}}}}
  - {{path: /open/, upstream: a, auth: {{providers: [local]}}}}
  - {{path: /finish/, upstream: a, protocol: mcp, auth: {{providers: [local], open_streams: finish}}}}
",
        Tokens::PROVIDER,
        origin.address
    ))
    .await
}

async fn purge(edge: &TestEdge, body: serde_json::Value) -> Reply {
    exchange(edge.admin, request("POST", "/auth/purge", &[("Host", "localhost")], &body.to_string())).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn hex(token: &str) -> String {
    digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn purged_credentials_are_looked_up_again() {
    let (allowing, origin) = (
        Origin::answering(|_| b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n".to_vec()).await,
        Origin::saying("in").await,
    );
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{gate: {{lookup: {{url: 'http://{}/', original_uri: false}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [gate]}}}}]
",
        allowing.address, origin.address
    ))
    .await;
    for token in ["one", "two"] {
        for _ in 0..3 {
            assert_eq!(edge.get_as(token, "/").await.status, 200);
        }
    }
    assert_eq!(allowing.count(), 2, "each token was looked up once");
    let reply = purge(&edge, json!({"token_sha256": hex("one")})).await;
    assert_eq!((reply.status, &reply.json()["purged"]), (200, &json!(1)));
    for token in ["one", "two"] {
        assert_eq!(edge.get_as(token, "/").await.status, 200);
    }
    assert_eq!(allowing.count(), 3, "only the purged token was looked up again");
    assert_eq!(purge(&edge, json!({"subject": "alice"})).await.json()["purged"], 2);
    assert_eq!(purge(&edge, json!({"subject": "alice"})).await.json()["purged"], 0);
    assert_eq!(edge.get_as("two", "/").await.status, 200);
    assert_eq!(purge(&edge, json!({"subject": "alice", "provider": "other"})).await.json()["purged"], 0);
    assert_eq!(purge(&edge, json!({"all": true})).await.json()["purged"], 1);
}

/// A JWT is still valid after a purge. Only `refuse_for` refuses it before its end.
#[tokio::test]
async fn a_refusal_lasts_after_the_purge_and_concerns_one_credential() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let token = |id: &str| Tokens::sign(&Claims::good("alice", "").with("jti", json!(id)).0);
    let (one, two) = (token("t1"), token("t2"));
    assert_eq!(edge.get_as(&one, "/open/").await.status, 200);
    assert_eq!(purge(&edge, json!({"token_id": "t1"})).await.json()["purged"], 1);
    assert_eq!(edge.get_as(&one, "/open/").await.status, 200, "the token is still valid");
    assert_eq!(purge(&edge, json!({"token_id": "t1", "refuse_for": "2s"})).await.json()["purged"], 1);
    let refused = edge.get_as(&one, "/open/").await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some_and(|field| field.contains("invalid_token")), "{refused:?}");
    assert_eq!(edge.get_as(&two, "/open/").await.status, 200, "another token of the same subject");
    eventually("the refusal ends", async || edge.get_as(&one, "/open/").await.status == 200).await;
}

#[tokio::test]
async fn open_streams_of_a_purged_caller_end_at_once_and_others_go_on() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin).await;
    let (alice, bob) = (bearer(&Tokens::token("alice", "")), bearer(&Tokens::token("bob", "")));
    let get = |path: &str, who: &str| request("GET", path, &[ACCEPT_EVENTS, ("Authorization", who)], "");
    let mut streams = Vec::new();
    for (text, ends) in [
        (get("/mcp/", &alice), true),
        (get("/open/", &alice), true),
        (post("/mcp/", &[("Authorization", &alice)], &call("7", "slow")), true),
        (get("/mcp/", &bob), false),
        (get("/open/", &bob), false),
        (get("/finish/", &alice), false),
    ] {
        let mut client = Wire::open(&edge, &text).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&format!("{EVENTS}{}", chunk("data: 1\n\n"))).await;
        client.until("data: 1\n\n\r\n").await;
        streams.push((client, upstream, ends));
    }
    let begun = std::time::Instant::now();
    assert_eq!(purge(&edge, json!({"subject": "alice"})).await.status, 200);
    for (index, (mut client, mut upstream, ends)) in streams.into_iter().enumerate() {
        if !ends {
            upstream.send(&chunk("data: 2\n\n")).await;
            client.until("data: 2\n\n").await;
            continue;
        }
        upstream.end().await;
        assert!(begun.elapsed() < PROMPTLY, "{index}: {:?}", begun.elapsed());
        if index == 2 {
            let rest = client.until("0\r\n\r\n").await;
            assert!(rest.contains(r#""id":7"#) && rest.contains("no longer valid"), "{rest}");
        } else if index == 0 {
            client.until("0\r\n\r\n").await;
        } else {
            client.end().await;
        }
    }
}

/// Row 24 for open streams: when the credential expires, the edge ends streams without an end. The answer to a call is
/// finished.
#[tokio::test]
async fn streams_without_an_end_end_with_their_credential() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin).await;
    let soon = mcp_edge::types::unix_now() + 3;
    let alice = bearer(&Tokens::sign(&Claims::good("alice", "").with("exp", json!(soon)).0));
    let get = |path: &str| request("GET", path, &[ACCEPT_EVENTS, ("Authorization", &alice)], "");
    let mut streams = Vec::new();
    for (text, ends) in [
        (get("/mcp/"), true),
        (get("/open/"), true),
        (get("/finish/"), false),
        (post("/mcp/", &[("Authorization", &alice)], &call("7", "slow")), false),
    ] {
        let mut client = Wire::open(&edge, &text).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&format!("{EVENTS}{}", chunk("data: 1\n\n"))).await;
        client.until("data: 1\n\n\r\n").await;
        streams.push((client, upstream, ends));
    }
    for (mut client, mut upstream, ends) in streams {
        if ends {
            upstream.end().await;
            assert!(mcp_edge::types::unix_now() >= soon, "the stream does not end before the credential");
        } else {
            upstream.send(&chunk("data: 2\n\n")).await;
            client.until("data: 2\n\n").await;
        }
    }
}

#[tokio::test]
async fn purges_that_are_not_allowed_or_not_valid_are_refused() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin).await;
    let get = exchange(edge.admin, request("GET", "/auth/purge", &[("Host", "localhost")], "")).await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let page =
        request("POST", "/auth/purge", &[("Host", "localhost"), ("Origin", "http://127.0.0.1")], r#"{"all":true}"#);
    assert_eq!(exchange(edge.admin, page).await.status, 403);
    for body in [json!({}), json!({"token": "x"}), json!({"token_sha256": "x"}), json!("x".repeat(10_000))] {
        let reply = purge(&edge, body.clone()).await;
        assert!(matches!(reply.status, 400 | 413), "{body}: {reply:?}");
        assert!(reply.body.len() > 10, "the reply contains the reason");
    }
    let guarded = TestEdge::start_with(
        &format!(
            "admin: {{address: '127.0.0.1:0', token: {{file: admin.token}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: none}}]
",
            origin.address
        ),
        &[("admin.token", "operators only")],
    )
    .await;
    assert_eq!(purge(&guarded, json!({"all": true})).await.status, 401);
    let shown = [("Host", "localhost"), ("Authorization", "Bearer operators only")];
    let reply = exchange(guarded.admin, request("POST", "/auth/purge", &shown, r#"{"all":true}"#)).await;
    assert_eq!(reply.status, 200);
}
