//! Wrong clocks: the edge's own clock, which moves while the edge runs, and the clocks of issuers.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Claims, Clock, EdgeProcess, Origin, TestEdge, Tokens};

const HOURS: i64 = 3_600;

async fn edge(clock: &Clock, origin: &Origin) -> (EdgeProcess, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, (secret, text)) = (folder.path().join("edge.yaml"), Tokens::SECRET_FILE);
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0'}}]
admin: {{address: '127.0.0.1:0'}}
auth: {{cache: {{ttl: 5m, negative_ttl: 0s}}, providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [local]}}}}]
",
        Tokens::PROVIDER,
        origin.address
    );
    std::fs::write(folder.path().join(secret), text).expect("the folder is writable");
    std::fs::write(&path, yaml).expect("the folder is writable");
    (EdgeProcess::start_with(&path, clock.environment()).await, folder)
}

/// Rows 24 and 25: the wall clock jumps by two hours, both ways, with a token in the cache.
#[tokio::test]
async fn a_clock_that_jumps_does_not_keep_an_expired_token_valid() {
    let (clock, origin) = (Clock::new(), Origin::saying("in").await);
    let (edge, _folder) = edge(&clock, &origin).await;
    let now = mcp_edge::types::unix_now();
    let token = Tokens::sign(&Claims::good("alice", "").with("iat", json!(now - 3 * HOURS.unsigned_abs())).0);
    let begun = Tokens::sign(&Claims::good("bob", "").with("nbf", json!(now - 1)).0);
    for token in [&token, &begun] {
        assert_eq!(edge.get_as(token, "/").await.status, 200);
    }
    clock.set(2 * HOURS, 0);
    assert_eq!(
        edge.get_as(&token, "/").await.status,
        401,
        "the token has expired, although the monotonic clock of the cache has not moved"
    );
    assert_eq!(edge.get_as(&Tokens::token("carol", ""), "/").await.status, 401);
    clock.set(-2 * HOURS, 0);
    assert_eq!(edge.get_as(&token, "/").await.status, 200, "by this clock, the token has not expired");
    let fresh = Tokens::sign(&Claims::good("dora", "").with("nbf", json!(now - 2)).0);
    assert_eq!(edge.get_as(&fresh, "/").await.status, 401, "by this clock, the token is not valid yet");
    let miss = r#"mcp_edge_auth_cache_requests_total{result="miss"}"#;
    let before = edge.metric(miss).await;
    assert_eq!(edge.get_as(&token, "/").await.status, 200);
    assert_eq!(edge.metric(miss).await, before, "the token is in the cache");
    clock.set(-2 * HOURS, 301);
    assert_eq!(edge.get_as(&token, "/").await.status, 200);
    assert_eq!(edge.metric(miss).await, before + 1.0, "the ttl counts by the monotonic clock");
    clock.set(0, 301);
    assert_eq!(edge.get_as(&token, "/").await.status, 200);
    clock.set(2 * HOURS, 301);
    assert_eq!(
        edge.get_as(&token, "/").await.status,
        401,
        "a token that was cached while the clock was behind ends at `exp`, too"
    );
    // The clock of a machine without a battery starts in 1970.
    clock.set(60 - now as i64, 301);
    assert!([200, 401].contains(&edge.get_as(&token, "/").await.status));
    clock.set(0, 301);
    assert_eq!(edge.get_as(&Tokens::token("eric", ""), "/").await.status, 200, "the edge still works");
}

/// Row 25: an issuer's clock may be ahead or behind by the leeway, and by no more.
#[tokio::test]
async fn the_clock_of_an_issuer_may_differ_by_the_leeway_and_no_more() {
    let origin = Origin::saying("in").await;
    let edge = |leeway: &str| {
        let yaml = format!(
            "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [local]}}}}]
",
            Tokens::PROVIDER.replace("leeway: 1s", leeway),
            origin.address
        );
        async move { TestEdge::start(&yaml).await }
    };
    let edge = edge("leeway: 30s").await;
    let now = mcp_edge::types::unix_now() as i64;
    let issued = |off: i64, name: &str| {
        let (nbf, exp) = (json!(now + off), json!(now + off + 300));
        Tokens::sign(&Claims::good(name, "").with("nbf", nbf).with("exp", exp).0)
    };
    for (off, status) in [(0, 200), (20, 200), (60, 401), (2 * HOURS, 401), (-310, 200), (-360, 401), (-2 * HOURS, 401)]
    {
        assert_eq!(edge.get_as(&issued(off, "alice"), "/").await.status, status, "{off} s");
    }
}
