//! Two features of the token cache. `stale_if_error` uses an earlier allow while its provider is unavailable (row 17).
//! `refresh_ahead` validates an entry in use again before it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::harness::{Origin, TestEdge, answer, eventually, ok};

const ALLOWED: &[u8] = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n";
const DENIED: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";

const STALE_HITS: &str = r#"mcp_edge_auth_cache_requests_total{result="stale_hit"}"#;

fn yaml(server: &Origin, origin: &Origin, cache: &str) -> String {
    format!(
        "auth:
  cache: {{{cache}}}
  providers: {{gate: {{lookup: {{url: 'http://{}/validate', original_uri: false}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [gate]}}}}]
",
        server.address, origin.address
    )
}

/// A server that allows (0), is down (1), or denies (2).
async fn switched() -> (Arc<AtomicUsize>, Origin) {
    let mode = Arc::new(AtomicUsize::new(0));
    let script = Arc::clone(&mode);
    let server = Origin::answering(move |_| match script.load(Ordering::SeqCst) {
        0 => ALLOWED.to_vec(),
        1 => answer("503 No", "text/plain", "no"),
        _ => DENIED.to_vec(),
    });
    (mode, server.await)
}

#[tokio::test]
async fn stale_if_error_uses_an_earlier_allow_during_an_outage() {
    let ((mode, server), origin) = (switched().await, Origin::saying("in").await);
    let edge = TestEdge::start(&yaml(&server, &origin, "ttl: 300ms")).await;
    assert_eq!(edge.get_as("good", "/a/").await.status, 200);
    mode.store(1, Ordering::SeqCst);
    eventually("the entry has ended", async || edge.get_as("good", "/a/").await.status == 503).await;
    assert_eq!(edge.metric(STALE_HITS).await, 0.0);

    mode.store(0, Ordering::SeqCst);
    edge.reload(&yaml(&server, &origin, "ttl: 300ms, stale_if_error: 4s")).await.expect("the configuration is good");
    eventually("the server is asked again", async || edge.get_as("good", "/a/").await.status == 200).await;
    let (asked, allowed_at) = (server.count(), Instant::now());
    mode.store(1, Ordering::SeqCst);
    eventually("the entry has ended", async || {
        assert_eq!(edge.get_as("good", "/a/").await.status, 200);
        edge.metric(STALE_HITS).await > 10.0
    })
    .await;
    assert_eq!(edge.get_as("other", "/a/").await.status, 503, "only an earlier allow is used");
    eventually("the time of `stale_if_error` is over", async || edge.get_as("good", "/a/").await.status == 503).await;
    let (passed, questions) = (allowed_at.elapsed(), server.count() - asked);
    assert!(passed > Duration::from_secs(4) && passed < Duration::from_secs(7), "{passed:?}");
    assert!(questions < 12, "{questions} lookups: the server is asked at intervals, not for each request");
    assert!(edge.metric(r#"mcp_edge_auth_decisions_total{provider="gate",result="unavailable"}"#).await > 0.0);
}

#[tokio::test]
async fn a_denial_or_a_purge_ends_the_use_of_a_stale_entry() {
    let ((mode, server), origin) = (switched().await, Origin::saying("in").await);
    let cache = "ttl: 200ms, negative_ttl: 200ms, stale_if_error: 60s";
    let edge = TestEdge::start(&yaml(&server, &origin, cache)).await;
    for what in ["a denial", "a purge"] {
        mode.store(0, Ordering::SeqCst);
        eventually("the token is allowed", async || edge.get_as("good", "/a/").await.status == 200).await;
        match what {
            "a denial" => {
                mode.store(2, Ordering::SeqCst);
                eventually("the token is denied", async || edge.get_as("good", "/a/").await.status == 401).await;
                mode.store(1, Ordering::SeqCst);
            }
            _ => {
                mode.store(1, Ordering::SeqCst);
                let before = edge.metric(STALE_HITS).await;
                eventually("the stale entry is used", async || {
                    assert_eq!(edge.get_as("good", "/a/").await.status, 200);
                    edge.metric(STALE_HITS).await > before
                })
                .await;
                let fields = [("Host", "localhost"), ("Content-Type", "application/json")];
                let text = crate::harness::request("POST", "/auth/purge", &fields, r#"{"subject": "alice"}"#);
                assert_eq!(crate::harness::exchange(edge.admin, text).await.status, 200);
            }
        }
        eventually("the stale entry is not used any more", async || edge.get_as("good", "/a/").await.status == 503)
            .await;
    }
}

/// No stale entry is used after the credential itself has expired.
#[tokio::test]
async fn a_stale_entry_is_not_used_after_its_credential_has_expired() {
    let end = mcp_edge::types::unix_now() + 4;
    let good = json!({"active": true, "sub": "alice", "aud": ["mcp-edge"], "exp": end}).to_string();
    let mode = Arc::new(AtomicUsize::new(0));
    let script = Arc::clone(&mode);
    let server = Origin::answering(move |_| match script.load(Ordering::SeqCst) {
        0 => ok(&good),
        _ => answer("503 No", "text/plain", "no"),
    })
    .await;
    let origin = Origin::saying("in").await;
    let yaml = format!(
        "auth:
  cache: {{ttl: 300ms, stale_if_error: 60s}}
  providers:
    opaque: {{introspection: {{url: 'http://{}/', client_id: edge, client_secret: {{file: edge.secret}},
                              issuer: 'https://idp.example', audiences: [mcp-edge], leeway: 0s}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [opaque]}}}}]
",
        server.address, origin.address
    );
    let edge = TestEdge::start_with(&yaml, &[("edge.secret", "hunter2")]).await;
    assert_eq!(edge.get_as("good", "/a/").await.status, 200);
    mode.store(1, Ordering::SeqCst);
    eventually("the credential has expired", async || edge.get_as("good", "/a/").await.status == 503).await;
    assert!(edge.metric(STALE_HITS).await > 0.0);
    let ended = mcp_edge::types::unix_now();
    assert!((end..=end + 2).contains(&ended), "{ended} is not about {end}");
}

/// No request waits while the server answers a refresh. If the answer is a denial, the credential is refused.
#[tokio::test]
async fn an_entry_in_use_is_refreshed_before_it_ends_and_no_request_waits() {
    static GATE: Semaphore = Semaphore::const_new(1);
    let mode = Arc::new(AtomicUsize::new(0));
    let script = Arc::clone(&mode);
    let server = Origin::scripted(move |mut stream, recorder| {
        let mode = Arc::clone(&script);
        async move {
            while recorder.read(&mut stream).await.is_some() {
                GATE.acquire().await.expect("the semaphore stays open").forget();
                let answer = if mode.load(Ordering::SeqCst) == 0 { ALLOWED } else { DENIED };
                stream.write_all(answer).await.expect("the edge is there");
            }
        }
    })
    .await;
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&yaml(&server, &origin, "ttl: 4s, refresh_ahead: 2s")).await;
    assert_eq!(edge.get_as("good", "/a/").await.status, 200);
    let until_asked = async |questions: usize| {
        eventually("the refresh is due", async || {
            let begun = Instant::now();
            assert_eq!(edge.get_as("good", "/a/").await.status, 200);
            assert!(begun.elapsed() < Duration::from_secs(1), "no request waits for the server");
            server.count() == questions
        })
        .await;
    };
    let refreshed = r#"mcp_edge_auth_cache_refreshes_total{result="refreshed"}"#;
    until_asked(2).await;
    assert_eq!(edge.get_as("good", "/a/").await.status, 200);
    GATE.add_permits(1);
    eventually("the entry is replaced", async || edge.metric(refreshed).await == 1.0).await;
    mode.store(1, Ordering::SeqCst);
    until_asked(3).await;
    GATE.add_permits(1);
    eventually("the token is refused", async || edge.get_as("good", "/a/").await.status == 401).await;
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_refreshes_total{result="denied"}"#).await, 1.0);
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="miss"}"#).await, 1.0);
    assert_eq!(server.count(), 3);
}
