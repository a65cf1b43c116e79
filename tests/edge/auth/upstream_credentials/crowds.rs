//! Many requests at once that need a token for their upstream.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::harness::{eventually, request};

/// Row 26, for tokens of upstreams: many requests of one caller cause one token request.
#[tokio::test]
async fn a_thousand_requests_cause_one_token_request() {
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let issuer = Origin::scripted(move |mut stream, recorder| {
        let gate = Arc::clone(&waiting);
        async move {
            while recorder.read(&mut stream).await.is_some() {
                gate.notified().await;
                stream.write_all(&issued("the-one", "")).await.expect("the edge waits");
            }
        }
    })
    .await;
    let origin = upstream().await;
    let edge = edge(&origin, &issuer, "").await;
    let token = Tokens::token("alice", "");
    let (address, text) =
        (edge.address, request("GET", "/http/", &[("Authorization", &format!("Bearer {token}"))], ""));
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let text = text.clone();
        clients.spawn(async move { exchange(address, text).await.status });
    }
    let in_flight = r#"mcp_edge_requests_in_flight{route="/http/"}"#;
    eventually("many requests wait", async || edge.metric(in_flight).await >= 100.0 && issuer.count() > 0).await;
    assert_eq!((issuer.count(), origin.count()), (1, 0));
    gate.notify_one();
    assert!(clients.join_all().await.iter().all(|status| *status == 200));
    assert_eq!((issuer.count(), origin.count()), (1, 1000));
    assert!(origin.requests().iter().all(|seen| seen.headers("authorization") == ["Bearer the-one"]));
    assert_eq!((counted(&edge, "/http/", "ok").await, counted(&edge, "/http/", "hit").await), (1.0, 999.0));
}

/// Row 28: many callers at once cause a limited number of token requests at one time.
#[tokio::test]
async fn token_requests_at_one_time_are_limited() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, highest) = (Arc::clone(&now), Arc::clone(&most));
    let issuer = Origin::scripted(move |mut stream, recorder| {
        let (now, most) = (Arc::clone(&asked), Arc::clone(&highest));
        async move {
            while recorder.read(&mut stream).await.is_some() {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The server takes longer than a token request may wait for its turn.
                tokio::time::sleep(Duration::from_millis(1_300)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                if stream.write_all(&issued("t", "")).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let origin = upstream().await;
    let edge = edge(&origin, &issuer, "").await;
    let mut clients = JoinSet::new();
    for number in 0..300 {
        let authorization = format!("Bearer {}", Tokens::token(&format!("caller-{number}"), ""));
        let (address, text) = (edge.address, request("GET", "/http/", &[("Authorization", &authorization)], ""));
        clients.spawn(async move { exchange(address, text).await.status });
    }
    let statuses = clients.join_all().await;
    let count = |status| statuses.iter().filter(|&&seen| seen == status).count();
    let (served, busy) = (count(200), count(503));
    assert_eq!((served + busy, served), (300, origin.count()), "nothing is sent without a token");
    assert!(served > 0 && busy > 0, "{served} got 200, {busy} got 503");
    assert_eq!(most.load(Ordering::SeqCst), mcp_edge::config::limits::LOOKUPS, "token requests at one time");
}

/// A client leaves while its request waits for a token. Another request that waits for the same token is still served.
#[tokio::test]
async fn a_client_that_leaves_does_not_fail_other_requests() {
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let issuer = Origin::scripted(move |mut stream, recorder| {
        let gate = Arc::clone(&waiting);
        async move {
            while recorder.read(&mut stream).await.is_some() {
                gate.notified().await;
                if stream.write_all(&issued("t", "")).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let origin = upstream().await;
    let edge = edge(&origin, &issuer, "").await;
    let authorization = format!("Bearer {}", Tokens::token("alice", ""));
    let text = request("GET", "/http/", &[("Authorization", &authorization)], "");
    let mut leader = crate::harness::http2::Http2::connect(edge.address).await;
    let head = http::Request::get("http://edge.example/http/").header("authorization", &authorization);
    let (response, mut stream) = leader.send(head.body(()).expect("a request"), true).await;
    eventually("the token endpoint is asked", async || issuer.count() == 1).await;
    let follower = tokio::spawn(exchange(edge.address, text));
    let in_flight = r#"mcp_edge_requests_in_flight{route="/http/"}"#;
    eventually("the other request waits", async || edge.metric(in_flight).await == 2.0).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop((response, stream, leader));
    // The server answers both the token request of the client that has left and a further one, if there is one.
    for _ in 0..2 {
        gate.notify_one();
    }
    let reply = tokio::time::timeout(Duration::from_secs(10), follower).await.expect("in time").expect("no panic");
    assert_eq!(reply.status, 200);
    assert_eq!(origin.last().headers("authorization"), ["Bearer t"]);
}
