//! Failures of an authentication server, and clients that leave or flood the edge while it asks the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Origin, TestEdge, answer, eventually, exchange, read_reply, request};

const ALLOWED: &[u8] = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nX-Scopes: read\r\nContent-Length: 0\r\n\r\n";
const DENIED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// `cache` is the content of `auth.cache`, and `settings` are further keys of the lookup.
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

/// Allows tokens that begin with `good` and denies all others.
fn decide(request: &crate::harness::Recorded) -> Vec<u8> {
    let good = request.header("authorization").is_some_and(|field| field.starts_with("Bearer good"));
    if good { ALLOWED.to_vec() } else { DENIED.to_vec() }
}

/// Row 16: during an outage, a caller without a cached lookup gets 503, and a caller with one gets in. The outage is
/// not cached.
#[tokio::test]
async fn an_outage_affects_only_callers_without_a_cached_lookup() {
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
        assert!(started.elapsed() < Duration::from_secs(3), "{name}: the time limit is 2 s");
        assert_eq!(origin.count(), before, "{name}: no request reached the origin");
        assert_eq!(edge.get_as("known", "/a/").await.status, 200, "{name}");
        mode.store(0, Ordering::SeqCst);
        assert_eq!(
            edge.get_as(&format!("new-{fault}"), "/a/").await.status,
            200,
            "{name}: the outage was not cached as a denial"
        );
    }
    assert_eq!(edge.metric(r#"mcp_edge_auth_decisions_total{provider="gate",result="unavailable"}"#).await, 3.0);
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="auth_unavailable"}"#).await, 3.0);
}

/// Row 16: nobody listens at the address of the server.
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_outage() {
    let (server, origin) = (Origin::saying("").await, Origin::saying("in").await);
    let yaml = yaml(&server, &origin, "", "");
    drop(server);
    let edge = TestEdge::start(&yaml).await;
    assert_eq!(edge.get_as("good", "/a/").await.status, 503);
    assert_eq!(origin.count(), 0);
}

/// Row 18: a denial is cached for a short time. After that, the server is asked again.
#[tokio::test]
async fn a_denial_is_cached_for_negative_ttl() {
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
    eventually("the server is asked again", async || edge.get_as("late", "/a/").await.status == 200).await;
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

/// Row 23: without a purge, a revoked token is accepted until its cached lookup ends, and no longer.
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
    assert_eq!(edge.get_as("good", "/a/").await.status, 200, "the lookup is cached");
    eventually("the token is refused", async || edge.get_as("good", "/a/").await.status == 401).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Row 26: the client whose request caused a lookup leaves. The requests that wait for this lookup are still served.
#[tokio::test]
async fn a_client_that_leaves_does_not_fail_requests_that_share_its_lookup() {
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
    eventually("the server is asked", async || server.count() == 1).await;
    let mut waiters = JoinSet::new();
    for _ in 0..20 {
        waiters.spawn(exchange(edge.address, text.clone()));
    }
    let in_flight = r#"mcp_edge_requests_in_flight{route="/a/"}"#;
    eventually("the other requests wait", async || edge.metric(in_flight).await == 21.0).await;
    socket2::SockRef::from(&leader).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(leader);
    GATE.add_permits(1);
    assert!(waiters.join_all().await.iter().all(|reply| reply.status == 200));
    assert!(server.count() <= 2, "the lookup of the first client, and perhaps one of its successor");
}

/// Row 27: a cached lookup is valid for one whole token, one provider and one configuration of this provider.
#[tokio::test]
async fn a_cached_lookup_serves_no_other_token_provider_or_configuration() {
    let (first, second) = (Origin::answering(decide).await, Origin::answering(|_| DENIED.to_vec()).await);
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
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200, "the denial of the other provider does not count here");
    for other in [format!("{long}x"), long[..long.len() - 1].to_owned(), long.replacen("good", "gooD", 1)] {
        edge.get_as(&other, "/first/").await;
    }
    assert_eq!(first.count(), 4, "tokens that differ in one character need separate lookups");
    edge.reload(&yaml("")).await.expect("the configuration is good");
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200);
    assert_eq!(first.count(), 4, "an unchanged provider keeps its cached lookups");
    edge.reload(&yaml(", timeout: 1s")).await.expect("the configuration is good");
    assert_eq!(edge.get_as(&long, "/first/").await.status, 200);
    assert_eq!(first.count(), 5, "a changed provider needs a new lookup");
}

/// Row 28: a flood of made-up tokens causes a limited number of lookups at one time, and evicts no good cache entry.
#[tokio::test]
async fn a_flood_of_tokens_causes_limited_lookups_and_evicts_no_good_entry() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, highest) = (Arc::clone(&now), Arc::clone(&most));
    let server = Origin::scripted(move |mut stream, recorder| {
        let (now, most) = (Arc::clone(&asked), Arc::clone(&highest));
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The server answers made-up tokens more slowly than the flood sends them.
                let patience = if decide(&request) == ALLOWED { 0 } else { 1_500 };
                tokio::time::sleep(Duration::from_millis(patience)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                if stream.write_all(&decide(&request)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let origin = Origin::saying("in").await;
    // The cache is filled with good entries.
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
    eventually("the flood has reached the server", async || server.count() > good).await;
    let started = Instant::now();
    assert_eq!(edge.get_as("good-7", "/a/").await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(1), "a caller with a cached lookup does not wait");
    let statuses = flood.join_all().await;
    let count = |status| statuses.iter().filter(|&&seen| seen == status).count();
    let (denied, busy) = (count(401), count(503));
    assert_eq!(denied + busy, 1_000, "no made-up token is accepted");
    assert!(busy > 0 && denied > 0, "{denied} got 401, {busy} got 503");
    assert_eq!(most.load(Ordering::SeqCst), mcp_edge::config::limits::LOOKUPS, "lookups at one time");
    let asked = server.count();
    for number in 0..100 {
        assert_eq!(edge.get_as(&format!("good-{number}"), "/a/").await.status, 200);
    }
    assert_eq!(server.count(), asked, "all good entries are still cached");
}

/// Row 28: more denials than the cache holds, on few connections.
#[tokio::test]
async fn denials_are_cached_apart_from_good_entries() {
    let (server, origin) = (Origin::answering(decide).await, Origin::saying("in").await);
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
    assert_eq!(server.count(), 2_010, "2,000 denials have evicted none of the 10 good entries");
}
