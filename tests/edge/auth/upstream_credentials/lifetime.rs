//! What ends the use of a token for an upstream: its own end, the end of the caller's token, a refusal by the upstream,
//! a purge, or a reload.

use tempfile::TempDir;

use super::*;
use crate::harness::{Claims, Clock, EdgeProcess, eventually, request};

/// An upstream that refuses the token `issued-1`.
async fn refusing_first_token() -> Origin {
    Origin::answering(|request| match request.headers("authorization") == ["Bearer issued-1"] {
        true => answer("401 Unauthorized", IS_JSON, "{}"),
        false => answer("200 OK", IS_JSON, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
    })
    .await
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_used_once() {
    for path in WAYS {
        let (issuer, origin) = (issuer("").await, refusing_first_token().await);
        let edge = TestEdge::start_with(&yaml(&origin, &grant("exchange", &issuer, "")), &[SECRET]).await;
        let token = Tokens::token("alice", "");
        assert_eq!(
            send(&edge, path, &token).await.status,
            502,
            "the 401 is not for the client, and the edge does not repeat the request"
        );
        assert_eq!((issuer.count(), origin.count()), (1, 1), "{path}");
        for _ in 0..2 {
            assert_eq!(send(&edge, path, &token).await.status, 200, "{path}");
            assert_eq!(origin.last().headers("authorization"), ["Bearer issued-2"], "{path}");
        }
        assert_eq!(issuer.count(), 2, "{path}");
    }
}

/// Many callers share a token of the edge itself. One of them may be the reason for a refusal, so a new token is not
/// replaced.
#[tokio::test]
async fn a_refused_token_of_the_edge_is_replaced_unless_it_is_new() {
    let (clock, origin) = (Clock::new(), refusing_first_token().await);
    let issuer = issuer(r#", "expires_in": 3600"#).await;
    let (edge, _folder) = process(&clock, &origin, &grant("client_credentials", &issuer, "")).await;
    let token = Tokens::token("alice", "");
    let get = async || (edge.get_as(&token, "/http/").await.status, issuer.count());
    for _ in 0..3 {
        assert_eq!(get().await, (502, 1));
    }
    clock.set(0, 11);
    assert_eq!((get().await, get().await, get().await), ((502, 1), (200, 2), (200, 2)));
    assert_eq!(origin.last().headers("authorization"), ["Bearer issued-2"]);
}

async fn process(clock: &Clock, origin: &Origin, credential: &str) -> (EdgeProcess, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = "listeners: [{address: '127.0.0.1:0', hosts: [edge.example]}]\nadmin: {address: '127.0.0.1:0'}\n";
    let text = listeners.to_owned() + &yaml(origin, credential);
    for (name, text) in [("edge.yaml", text.as_str()), SECRET, Tokens::SECRET_FILE] {
        std::fs::write(folder.path().join(name), text).expect("the folder is writable");
    }
    (EdgeProcess::start_with(&folder.path().join("edge.yaml"), clock.environment()).await, folder)
}

/// A token that is valid for 100 s is replaced when 20 to 30 s are left. If the server issues no other, it is used
/// until 5 s are left.
#[tokio::test]
async fn a_token_is_replaced_before_its_end() {
    let (clock, origin) = (Clock::new(), upstream().await);
    let (issuer, now) = changing(issued("first", r#", "expires_in": 100"#)).await;
    let credential = grant("client_credentials", &issuer, "");
    let (edge, _folder) = process(&clock, &origin, &credential).await;
    let token = Tokens::token("alice", "");
    let status = async || {
        let reply = edge.get_as(&token, "/http/").await;
        (reply.status, issuer.count())
    };
    let shown = || origin.last().header("authorization").map(str::to_owned);
    assert_eq!(status().await, (200, 1));
    *now.lock().expect("no test panics while it holds the lock") = answer("500 Internal Server Error", IS_JSON, "{}");
    clock.set(0, 65);
    assert_eq!(status().await, (200, 1), "the token is valid for long enough");
    clock.set(0, 85);
    assert_eq!(status().await, (200, 2), "the server issues no other token, but this one is still valid");
    assert_eq!(shown().as_deref(), Some("Bearer first"));
    clock.set(0, 88);
    assert_eq!(status().await, (200, 3), "the server is asked again a little later");
    clock.set(0, 96);
    let seen = origin.count();
    assert_eq!(status().await, (503, 4), "the token is too near its end");
    assert_eq!(origin.count(), seen, "nothing was sent to the upstream");
    *now.lock().expect("no test panics while it holds the lock") = issued("second", r#", "expires_in": 100"#);
    assert_eq!(status().await, (200, 5));
    assert_eq!(shown().as_deref(), Some("Bearer second"));
    *now.lock().expect("no test panics while it holds the lock") = issued("third", r#", "expires_in": 100"#);
    clock.set(0, 96 + 65);
    assert_eq!(status().await, (200, 5));
    clock.set(0, 96 + 85);
    assert_eq!(
        (status().await, shown().as_deref()),
        ((200, 6), Some("Bearer third")),
        "the token is replaced before its end"
    );
    // A token without `expires_in` is used for a minute.
    *now.lock().expect("no test panics while it holds the lock") = issued("fourth", "");
    clock.set(0, 300);
    assert_eq!((status().await, shown().as_deref()), ((200, 7), Some("Bearer fourth")));
    clock.set(0, 335);
    assert_eq!(status().await, (200, 7));
    clock.set(0, 352);
    assert_eq!(status().await, (200, 8));
}

/// An exchanged token is not used after the caller's token has expired, however long it is valid itself.
#[tokio::test]
async fn an_exchanged_token_ends_with_the_callers_token() {
    let (clock, origin) = (Clock::new(), upstream().await);
    let issuer = issuer(r#", "expires_in": 3600"#).await;
    let (edge, _folder) = process(&clock, &origin, &grant("exchange", &issuer, "")).await;
    let end = mcp_edge::types::unix_now() + 60;
    let token = Tokens::sign(&Claims::good("alice", "").with("exp", end.into()).0);
    let get = async || edge.get_as(&token, "/http/").await.status;
    assert_eq!((get().await, issuer.count()), (200, 1));
    clock.set(30, 30);
    assert_eq!((get().await, issuer.count()), (200, 1));
    clock.set(62, 62);
    assert_eq!((get().await, issuer.count(), origin.count()), (401, 1, 2));
    // By a clock that was set back, the caller's token is valid again. The token that was exchanged for it is not used
    // again.
    clock.set(0, 62);
    assert_eq!((get().await, issuer.count()), (200, 2));
    assert_eq!(origin.last().headers("authorization"), ["Bearer issued-2"]);
}

#[tokio::test]
async fn a_purge_of_a_caller_removes_its_exchanged_tokens() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let edge = TestEdge::start_with(&yaml(&origin, &grant("exchange", &issuer, "")), &[SECRET]).await;
    let (alice, bob) = (Tokens::token("alice", ""), Tokens::token("bob", ""));
    for token in [&alice, &bob, &alice, &bob] {
        assert_eq!(send(&edge, "/http/", token).await.status, 200);
    }
    assert_eq!(issuer.count(), 2);
    let purge = request("POST", "/auth/purge", &[("Host", "localhost")], r#"{"subject": "alice"}"#);
    assert_eq!(exchange(edge.admin, purge).await.status, 200);
    for token in [&alice, &bob] {
        assert_eq!(send(&edge, "/http/", token).await.status, 200);
    }
    assert_eq!(issuer.count(), 3);
    assert_eq!(form(&issuer.last())["subject_token"], alice);
}

#[tokio::test]
async fn tokens_are_kept_by_reloads_that_do_not_change_their_credential() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let before = yaml(&origin, &grant("exchange", &issuer, ", scopes: [a]"));
    let edge = TestEdge::start_with(&before, &[SECRET]).await;
    let token = Tokens::token("alice", "");
    let get = async || (send(&edge, "/http/", &token).await.status, issuer.count());
    assert_eq!(get().await, (200, 1));
    let other = before.replace("path: /http/, upstream: a,", "path: /http/, upstream: a, body_bytes: 1KiB,");
    edge.reload(&other).await.expect("the configuration is good");
    assert_eq!(get().await, (200, 1), "another setting of the route");
    edge.reload(&other.replace("scopes: [a]", "scopes: [b]")).await.expect("the configuration is good");
    assert_eq!(get().await, (200, 2), "another scope");
    assert_eq!(form(&issuer.last())["scope"], "b");
    edge.write("edge.secret", "another");
    edge.reload(&other.replace("scopes: [a]", "scopes: [b]")).await.expect("the configuration is good");
    assert_eq!(get().await, (200, 3), "another secret");
    let series = r#"mcp_edge_upstream_token_requests_total{result="ok",route="/http/"}"#;
    assert_eq!(edge.metric(series).await, 3.0);
    let gone = other.lines().filter(|line| !line.contains("path: /http/")).collect::<Vec<_>>().join("\n");
    edge.reload(&gone).await.expect("the configuration is good");
    eventually("the series is gone", async || !edge.admin_get("/metrics").await.body.contains(series)).await;
}
