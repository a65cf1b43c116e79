//! What can go wrong with an authentication server, and with those who make the edge ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Origin, TestEdge, answer, eventually, exchange, read_reply, request};

const ALLOWED: &[u8] = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nX-Scopes: read\r\nContent-Length: 0\r\n\r\n";
const DENIED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// `cache` is that section, `settings` more of the provider.
fn yaml(server: &Origin, origin: &Origin, cache: &str, settings: &str) -> String {
    format!(
        "auth:
  cache: {{{cache}}}
  providers: {{gate: {{lookup: {{url: 'http://{}/validate', original_uri: false{settings}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [gate], scopes: [read]}}}}]
",
        server.address, origin.address
    )
}

/// Lets in whoever says `good`.
fn judge(request: &crate::harness::Recorded) -> Vec<u8> {
    let good = request.header("authorization").is_some_and(|field| field.starts_with("Bearer good"));
    if good { ALLOWED.to_vec() } else { DENIED.to_vec() }
}

/// Row 16: an outage is a 503 for those who are not known, and nothing for those who are; then it is forgotten at once.
#[tokio::test]
async fn an_outage_stops_only_those_who_are_not_known() {
    let mode = Arc::new(AtomicUsize::new(0));
    let (script, origin) = (Arc::clone(&mode), Origin::saying("in").await);
    let server = Origin::scripted(move |mut stream, recorder| {
        let mode = Arc::clone(&script);
        async move {
            while recorder.read(&mut stream).await.is_some() {
                match mode.load(Ordering::SeqCst) {
                    0 => stream.write_all(ALLOWED).await.expect("the edge is there"),
                    1 => stream.write_all(&answer("500 No", "text/plain", "no")).await.expect("the edge is there"),
                    2 => return,
                    _ => tokio::time::sleep(Duration::from_secs(60)).await,
                }
            }
        }
    })
    .await;
    let edge = TestEdge::start(&yaml(&server, &origin, "", "")).await;
    assert_eq!(edge.get_as("known", "/a/").await.status, 200);
    for (fault, name) in [(1, "an error"), (2, "a connection that ends"), (3, "silence")] {
        mode.store(fault, Ordering::SeqCst);
        let (before, started) = (origin.count(), Instant::now());
        let reply = edge.get_as(&format!("new-{fault}"), "/a/").await;
        assert_eq!(reply.status, 503, "{name}");
        assert!(reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none(), "{name}");
        assert!(started.elapsed() < Duration::from_secs(3), "{name}: the limit is 2 s");
        assert_eq!(origin.count(), before, "{name}: nothing went on");
        assert_eq!(edge.get_as("known", "/a/").await.status, 200, "{name}");
        mode.store(0, Ordering::SeqCst);
        assert_eq!(edge.get_as(&format!("new-{fault}"), "/a/").await.status, 200, "{name}: it was no denial");
    }
    assert_eq!(edge.metric(r#"mcp_edge_auth_decisions_total{provider="gate",result="unavailable"}"#).await, 3.0);
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="auth_unavailable"}"#).await, 3.0);
}

/// Row 16: nobody listens.
#[tokio::test]
async fn a_server_that_is_not_there_is_an_outage() {
    let (server, origin) = (Origin::saying("").await, Origin::saying("in").await);
    let yaml = yaml(&server, &origin, "", "");
    drop(server);
    let edge = TestEdge::start(&yaml).await;
    assert_eq!(edge.get_as("good", "/a/").await.status, 503);
    assert_eq!(origin.count(), 0);
}

/// Row 18: a denial is remembered for a moment, and then asked again.
#[tokio::test]
async fn a_denial_is_remembered_for_its_own_short_time() {
    let good = Arc::new(AtomicBool::new(false));
    let (known, origin) = (Arc::clone(&good), Origin::saying("in").await);
    let server =
        Origin::answering(move |_| if known.load(Ordering::SeqCst) { ALLOWED.to_vec() } else { DENIED.to_vec() }).await;
    let edge = TestEdge::start(&yaml(&server, &origin, "negative_ttl: 1s", "")).await;
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(edge.get_as("late", "/a/").await.status, 401);
    }
    assert_eq!(server.count(), 1);
    good.store(true, Ordering::SeqCst);
    assert_eq!(edge.get_as("other", "/a/").await.status, 200, "a denial is for one token");
    eventually("it is asked again", async || edge.get_as("late", "/a/").await.status == 200).await;
    assert!(started.elapsed() >= Duration::from_secs(1) && started.elapsed() < Duration::from_secs(3));
    assert!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="negative_hit"}"#).await >= 2.0);
}

/// Row 19: a redirect is not followed, wherever it points.
#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, origin) = (Origin::answering(|_| ALLOWED.to_vec()).await, Origin::saying("in").await);
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.address;
        let server = Origin::answering(move |_| {
            format!("HTTP/1.1 {status} Moved\r\nLocation: http://{location}/\r\nX-User: eve\r\nX-Scopes: read\r\nContent-Length: 0\r\n\r\n")
                .into_bytes()
        })
        .await;
        let edge = TestEdge::start(&yaml(&server, &origin, "", "")).await;
        assert_eq!(edge.get_as("good", "/a/").await.status, 503, "{status}");
    }
    assert_eq!((elsewhere.connections(), origin.count()), (0, 0));
}

/// Row 23: without a purge, a token that was revoked is believed for the cache's ttl and no longer.
#[tokio::test]
async fn a_revoked_token_is_refused_after_the_ttl() {
    let revoked = Arc::new(AtomicBool::new(false));
    let (known, origin) = (Arc::clone(&revoked), Origin::saying("in").await);
    let server =
        Origin::answering(move |_| if known.load(Ordering::SeqCst) { DENIED.to_vec() } else { ALLOWED.to_vec() }).await;
    let edge = TestEdge::start(&yaml(&server, &origin, "ttl: 1s", "")).await;
    let started = Instant::now();
    assert_eq!(edge.get_as("good", "/a/").await.status, 200);
    revoked.store(true, Ordering::SeqCst);
    assert_eq!(edge.get_as("good", "/a/").await.status, 200, "it is cached");
    eventually("it is refused", async || edge.get_as("good", "/a/").await.status == 401).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Row 26: the client that caused the question leaves; those who wait for the answer get it.
#[tokio::test]
async fn a_leader_that_leaves_fails_nobody() {
    static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    let server = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            drop(GATE.acquire().await);
            if stream.write_all(ALLOWED).await.is_err() {
                return;
            }
        }
    })
    .await;
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&yaml(&server, &origin, "", "")).await;
    let text = request("GET", "/a/", &[("Authorization", "Bearer cold")], "");
    let mut leader = TcpStream::connect(edge.address).await.expect("the edge listens");
    leader.write_all(text.as_bytes()).await.expect("the edge reads");
    eventually("it is asked", async || server.count() == 1).await;
    let mut waiters = JoinSet::new();
    for _ in 0..20 {
        waiters.spawn(exchange(edge.address, text.clone()));
    }
    let in_flight = r#"mcp_edge_requests_in_flight{route="/a/"}"#;
    eventually("they wait", async || edge.metric(in_flight).await == 21.0).await;
    socket2::SockRef::from(&leader).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(leader);
    GATE.add_permits(1);
    assert!(waiters.join_all().await.iter().all(|reply| reply.status == 200));
    assert!(server.count() <= 2, "the leader's question, and perhaps its successor's");
}

/// Row 27: an answer is for one whole token, from one provider, as it was configured.
#[tokio::test]
async fn an_answer_serves_no_other_token_provider_or_configuration() {
    let (first, second) = (Origin::answering(judge).await, Origin::answering(|_| DENIED.to_vec()).await);
    let origin = Origin::saying("in").await;
    let yaml = |more: &str| {
        format!(
            "auth:
  providers:
    first: {{lookup: {{url: 'http://{}/', original_uri: false{more}}}}}
    second: {{lookup: {{url: 'http://{}/', original_uri: false}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /first/, upstream: a, auth: {{providers: [first]}}}}
  - {{path: /second/, upstream: a, auth: {{providers: [second]}}}}
",
            first.address, second.address, origin.address
        )
    };
    let edge = TestEdge::start(&yaml("")).await;
    let long = format!("good{}", "x".repeat(8_000));
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200);
    assert_eq!(edge.get_as(&long, "/second/").await.status, 401, "another provider");
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200, "whose denial says nothing here");
    for other in [format!("{long}x"), long[..long.len() - 1].to_owned(), long.replacen("good", "gooD", 1)] {
        edge.get_as(&other, "/first/").await;
    }
    assert_eq!(first.count(), 4, "tokens that differ in one character are different questions");
    edge.reload(&yaml("")).await.expect("nothing has changed");
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200);
    assert_eq!(first.count(), 4, "what has not changed keeps its answers");
    edge.reload(&yaml(", timeout: 1s")).await.expect("it is a good configuration");
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200);
    assert_eq!(first.count(), 5, "another configuration is another question");
}

/// Row 28: a flood of made-up tokens asks a bounded number of questions at a time, and evicts nobody.
#[tokio::test]
async fn a_flood_of_tokens_is_bounded_and_evicts_nobody() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, highest) = (Arc::clone(&now), Arc::clone(&most));
    let server = Origin::scripted(move |mut stream, recorder| {
        let (now, most) = (Arc::clone(&asked), Arc::clone(&highest));
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // A server that is slower than the flood.
                let patience = if judge(&request) == ALLOWED { 0 } else { 1_500 };
                tokio::time::sleep(Duration::from_millis(patience)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                if stream.write_all(&judge(&request)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let origin = Origin::saying("in").await;
    // As many good entries as there is room for.
    let edge = TestEdge::start(&yaml(&server, &origin, "capacity: 100", "")).await;
    for number in 0..100 {
        assert_eq!(edge.get_as(&format!("good-{number}"), "/a/").await.status, 200);
    }
    let (good, address) = (server.count(), edge.address);
    let mut flood = JoinSet::new();
    for number in 0..1_000 {
        let text = request("GET", "/a/", &[("Authorization", &format!("Bearer made-up-{number}"))], "");
        flood.spawn(async move { exchange(address, text).await.status });
    }
    eventually("the flood is there", async || server.count() > good).await;
    let started = Instant::now();
    assert_eq!(edge.get_as("good-7", "/a/").await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(1), "who is known waits for no question");
    let statuses = flood.join_all().await;
    let count = |status| statuses.iter().filter(|&&seen| seen == status).count();
    let (denied, busy) = (count(401), count(503));
    assert_eq!(denied + busy, 1_000, "nobody gets in");
    assert!(busy > 0 && denied > 0, "{denied} denied, {busy} told to come back");
    assert_eq!(most.load(Ordering::SeqCst), mcp_edge::config::limits::LOOKUPS, "questions at one time");
    let asked = server.count();
    for number in 0..100 {
        assert_eq!(edge.get_as(&format!("good-{number}"), "/a/").await.status, 200);
    }
    assert_eq!(server.count(), asked, "all of them are still known");
}

/// Row 28: more denials than are remembered, on few connections.
#[tokio::test]
async fn denials_have_room_of_their_own() {
    let (server, origin) = (Origin::answering(judge).await, Origin::saying("in").await);
    let edge = TestEdge::start(&yaml(&server, &origin, "capacity: 10", "")).await;
    for number in 0..10 {
        assert_eq!(edge.get_as(&format!("good-{number}"), "/a/").await.status, 200);
    }
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let address = edge.address;
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the edge listens");
            for number in 0..250 {
                let token = format!("Bearer {client}-{number}");
                let text = request("GET", "/a/", &[("Authorization", &token)], "");
                stream.write_all(text.as_bytes()).await.expect("the edge reads");
                assert_eq!(read_reply(&mut stream).await.status, 401);
            }
        });
    }
    clients.join_all().await;
    assert_eq!(server.count(), 2_010);
    for number in 0..10 {
        assert_eq!(edge.get_as(&format!("good-{number}"), "/a/").await.status, 200);
    }
    assert_eq!(server.count(), 2_010, "2,000 denials have evicted nobody from room for 10");
}
