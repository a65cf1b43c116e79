//! Balancing, health checks and failures of replicas.

mod challenges;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::{Fleet, Origin, TestEdge, eventually, exchange, ok, request};

/// An address where nobody listens.
async fn refused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("the listener is bound").to_string()
}

fn config(endpoints: &[String], settings: &str) -> String {
    let items: Vec<String> = endpoints.iter().map(|address| format!("{{address: '{address}'}}")).collect();
    format!(
        "upstreams: {{a: {{endpoints: [{}], {settings}}}}}
routes: [{{path: /, upstream: a, auth: none}}, {{path: /mcp/, upstream: a, protocol: mcp, auth: none}}]\n",
        items.join(", ")
    )
}

async fn named(name: &'static str) -> Origin {
    Origin::saying(name).await
}

async fn counts(
    edge: &TestEdge,
    requests: usize,
    headers: impl Fn(usize) -> Vec<(&'static str, String)>,
) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for number in 0..requests {
        let headers = headers(number);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        *counts.entry(edge.get("/", &headers).await.body).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn round_robin_follows_the_weights() {
    let (a, b) = (named("a").await, named("b").await);
    let yaml = format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}', weight: 3}}, {{address: '{}'}}], balance: round_robin}}}}
routes: [{{path: /, upstream: a, auth: none}}]\n",
        a.address, b.address
    );
    let counts = counts(&TestEdge::start(&yaml).await, 40, |_| Vec::new()).await;
    assert_eq!((counts["a"], counts["b"]), (30, 10));
}

#[tokio::test]
async fn a_hashed_key_stays_with_its_replica() {
    let origins = [named("a").await, named("b").await, named("c").await];
    let addresses: Vec<String> = origins.iter().map(|origin| origin.address.to_string()).collect();
    for (on, name) in [("{header: X-Key}", "X-Key"), ("{cookie: key}", "Cookie")] {
        let edge = TestEdge::start(&config(&addresses, &format!("balance: {{hash: {on}}}"))).await;
        let value = |key: usize| if name == "Cookie" { format!("x=y; key={key}") } else { key.to_string() };
        let mut replicas = HashMap::new();
        for key in 0..20 {
            let seen = counts(&edge, 3, |_| vec![(name, value(key))]).await;
            assert_eq!(seen.len(), 1, "{on} {key}: {seen:?}");
            replicas.extend(seen);
        }
        assert_eq!(replicas.len(), 3, "different keys use all replicas");
    }
    let edge = TestEdge::start(&config(&addresses, "balance: {hash: {client_address: true}}")).await;
    assert_eq!(counts(&edge, 10, |_| Vec::new()).await.len(), 1);
}

/// Row 2: a refused connection means that nothing was sent, so any request goes to another replica.
#[tokio::test]
async fn a_refused_connection_goes_to_another_replica() {
    let origin = Origin::answering(|request| ok(&String::from_utf8_lossy(&request.body))).await;
    let edge = TestEdge::start(&config(&[refused().await, origin.address.to_string()], "balance: round_robin")).await;
    for number in 0..10 {
        let reply = edge.send("POST", "/", &[], &format!("body {number}")).await;
        assert_eq!((reply.status, reply.body), (200, format!("body {number}")));
    }
    assert_eq!(origin.count(), 10, "each request arrived once");
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="upstream_failed"}"#).await, 0.0);
}

/// Case F16.
#[tokio::test]
async fn without_a_reachable_replica_the_client_gets_503_in_its_own_protocol() {
    let edge = TestEdge::start(&config(&[refused().await, refused().await], "")).await;
    let reply = edge.get("/", &[]).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (503, Some("no_endpoint")));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
    let message = r#"{"jsonrpc":"2.0","id":"abc","method":"tools/list"}"#;
    let reply = edge.send("POST", "/mcp/", &[("Content-Type", "application/json")], message).await;
    assert_eq!((reply.status, reply.json()["id"].as_str()), (503, Some("abc")));
    assert!(reply.json()["error"]["code"].as_i64().is_some_and(|code| (-32099..=-32000).contains(&code)));
    assert_eq!(reply.json()["error"]["data"]["request_id"].as_str(), reply.header("x-request-id"));
    // The same without a declared length.
    let headers = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")];
    let head = request("POST", "/mcp/", &headers, "");
    let reply = exchange(edge.address, format!("{head}{:x}\r\n{message}\r\n0\r\n\r\n", message.len())).await;
    assert_eq!((reply.status, reply.json()["id"].as_str()), (503, Some("abc")));
}

/// Row 1: a safe request is repeated once, at another replica. A request that may have run is not repeated.
#[tokio::test]
async fn only_safe_requests_are_repeated_when_a_replica_dies() {
    let dying = Origin::scripted(|mut stream, recorder| async move { drop(recorder.read(&mut stream).await) }).await;
    let good = named("good").await;
    let edge =
        TestEdge::start(&config(&[dying.address.to_string(), good.address.to_string()], "balance: round_robin")).await;
    for _ in 0..4 {
        assert_eq!(edge.get("/", &[]).await.body, "good");
    }
    let died = dying.count();
    assert!(died > 0, "the dying replica was tried");
    let mut failed = 0;
    for _ in 0..4 {
        failed += usize::from(edge.send("POST", "/", &[], "x").await.status == 502);
    }
    assert_eq!(failed, dying.count() - died, "a POST that reached it was not sent again");
    assert!(failed > 0);
    let posts = good.requests().iter().filter(|request| request.line().starts_with("POST")).count();
    assert_eq!(posts + failed, 4);
}

/// Rows 9 and 10: the whole response head has one deadline, whether the upstream is silent or sends single bytes.
#[tokio::test]
async fn a_late_response_head_is_504_and_a_late_body_is_not() {
    for dripping in [false, true] {
        let origin = Origin::scripted(move |mut stream, recorder| async move {
            while recorder.read(&mut stream).await.is_some() {
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" {
                    if dripping && stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        })
        .await;
        let edge = TestEdge::start(&config(&[origin.address.to_string()], "timeouts: {response: 1s}")).await;
        let begun = Instant::now();
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let reply = edge.send("POST", "/mcp/", &[("Content-Type", "application/json")], ping).await;
        assert_eq!((reply.status, reply.json()["id"].as_i64()), (504, Some(1)), "dripping: {dripping}");
        assert!(begun.elapsed() >= Duration::from_millis(950), "the 504 does not come before the deadline");
        assert_eq!(origin.count(), 1, "the request is not sent twice");
        assert_eq!(edge.get("/", &[]).await.status, 504, "a safe request is not sent twice either");
        assert_eq!(
            edge.metric(&format!(
                r#"mcp_edge_endpoint_requests_total{{endpoint="{}",result="timeout",upstream="a"}}"#,
                origin.address
            ))
            .await,
            2.0
        );
    }
    let origin = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").await.expect("the edge is there");
            tokio::time::sleep(Duration::from_millis(1500)).await;
            stream.write_all(b"b").await.expect("the edge is there");
        }
    })
    .await;
    let edge = TestEdge::start(&config(&[origin.address.to_string()], "timeouts: {response: 1s}")).await;
    assert_eq!(edge.send("POST", "/", &[], "x").await.body, "ab");
}

async fn healthy(edge: &TestEdge) -> Vec<bool> {
    health_by_address(edge).await.into_values().collect()
}

/// The health of each endpoint, by its address.
async fn health_by_address(edge: &TestEdge) -> BTreeMap<String, bool> {
    let status = edge.status().await;
    let endpoints = status["upstreams"]["a"]["endpoints"].as_array().expect("a list").clone();
    let health = endpoints.iter().map(|endpoint| {
        (endpoint["address"].as_str().expect("a text").to_owned(), endpoint["healthy"].as_bool().expect("a flag"))
    });
    health.collect()
}

/// Row 6: while all replicas are unhealthy, a request gets 503 at once. The replicas are used again when their probes
/// succeed.
#[tokio::test]
async fn all_replicas_down_is_503_at_once_and_they_come_back() {
    let down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&down);
    let origin = Origin::answering(move |request| {
        if request.line().contains("/health") && flag.load(std::sync::atomic::Ordering::SeqCst) {
            return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec();
        }
        ok("up")
    })
    .await;
    let health = "health: {http: {path: /health, headers: {X-Probe: yes}}, interval: 50ms, healthy: 1, unhealthy: 2}";
    let edge = TestEdge::start(&config(&[origin.address.to_string()], health)).await;
    assert_eq!(edge.get("/", &[]).await.body, "up");
    down.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("the endpoint is unhealthy", async || healthy(&edge).await == [false]).await;
    let series = format!(r#"mcp_edge_endpoint_healthy{{endpoint="{}",upstream="a"}}"#, origin.address);
    assert_eq!(edge.metric(&series).await, 0.0);
    let reply = edge.get("/", &[]).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (503, Some("no_endpoint")));
    assert!(reply.header("retry-after").is_some());
    down.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("the endpoint is healthy again", async || healthy(&edge).await == [true]).await;
    assert_eq!(edge.get("/", &[]).await.body, "up");
    assert_eq!(edge.metric(&series).await, 1.0);
    let probe = origin.requests().into_iter().find(|request| request.line().contains("/health")).expect("a probe");
    assert_eq!(probe.headers("x-probe"), ["yes"]);
}

#[tokio::test]
async fn probes_of_each_kind_find_the_dead_replica() {
    let fleet = Fleet::start(&["currenttime", "currenttime"]).await;
    for probe in [
        "tcp: {}",
        "http: {path: /health, status: 200}",
        "http: {path: /mcp, method: GET, status: 406}",
        "mcp: {}",
        "mcp: {revision: 2025-06-18}",
        "mcp: {revision: 2026-07-28}",
    ] {
        let health = format!("health: {{{probe}, interval: 50ms, timeout: 1s, healthy: 1, unhealthy: 1}}");
        let addresses: Vec<String> = fleet.servers["currenttime"].iter().map(ToString::to_string).collect();
        let edge = TestEdge::start(&config(&addresses, &health)).await;
        fleet.switch("currenttime-0", "dead").await;
        let seen = async || health_by_address(&edge).await;
        let (dead, alive) = (&addresses[0], &addresses[1]);
        eventually(&format!("{probe}: only the dead replica is unhealthy"), async || {
            !seen().await[dead] && seen().await[alive]
        })
        .await;
        fleet.switch("currenttime-0", "ok").await;
        eventually(&format!("{probe}: both replicas are healthy"), async || healthy(&edge).await == [true, true]).await;
    }
}

/// A probe must end the MCP session that it opens. It can send a token.
#[tokio::test]
async fn an_mcp_probe_ends_its_session_and_sends_its_token() {
    let origin = Origin::answering(|request| {
        if request.line().starts_with("DELETE") {
            return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec();
        }
        let body = r#"{"jsonrpc":"2.0","id":"mcp-edge-probe","result":{}}"#;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: s1\r\n";
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await;
    let health = "health: {mcp: {path: /x, token: {file: probe.token}}, interval: 50ms}";
    let yaml = config(&[origin.address.to_string()], health);
    let edge = TestEdge::start_with(&yaml, &[("probe.token", "probe-secret\n")]).await;
    eventually("two probes arrive", async || origin.count() >= 4).await;
    let requests = origin.requests();
    assert_eq!(requests[0].line(), "POST /x HTTP/1.1");
    assert_eq!(requests[0].headers("authorization"), ["Bearer probe-secret"]);
    assert_eq!(requests[1].line(), "DELETE /x HTTP/1.1");
    assert_eq!(requests[1].headers("mcp-session-id"), ["s1"]);
    assert_eq!(healthy(&edge).await, [true]);
}

#[tokio::test]
async fn a_probe_that_hangs_ends_at_its_timeout() {
    let origin = Origin::scripted(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let health = "health: {mcp: {}, interval: 50ms, timeout: 200ms, unhealthy: 2}";
    let edge = TestEdge::start(&config(&[origin.address.to_string()], health)).await;
    eventually("the endpoint is unhealthy", async || healthy(&edge).await == [false]).await;
}

/// Row 14: names are resolved in the background. A name without an address does not keep the edge from starting.
#[tokio::test]
async fn endpoints_may_be_names() {
    let origin = named("by name").await;
    let edge = TestEdge::start(&config(
        &[format!("localhost:{}", origin.address.port()), "no-such-name.invalid:80".to_owned()],
        "resolve: 100ms",
    ))
    .await;
    let status = edge.status().await;
    let addresses: Vec<&str> = status["upstreams"]["a"]["endpoints"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["address"].as_str())
        .collect();
    assert!(addresses.contains(&origin.address.to_string().as_str()), "{addresses:?}");
    assert_eq!(edge.get("/", &[]).await.body, "by name");
    let edge = TestEdge::start(&config(&["no-such-name.invalid:80".to_owned()], "")).await;
    assert_eq!(edge.get("/", &[]).await.status, 503, "the edge starts without the address and answers 503");
}

#[tokio::test]
async fn in_flight_requests_are_counted_and_steer_least_request() {
    let slow = Origin::scripted(|mut stream, recorder| async move {
        drop(recorder.read(&mut stream).await);
        std::future::pending::<()>().await;
    })
    .await;
    let fast = named("fast").await;
    let edge =
        TestEdge::start(&config(&[slow.address.to_string(), fast.address.to_string()], "balance: least_request")).await;
    let mut waiting = Vec::new();
    while slow.count() == 0 {
        let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens");
        stream.write_all(request("POST", "/", &[], "x").as_bytes()).await.expect("the edge reads");
        waiting.push(stream);
        eventually("the request has arrived", async || slow.count() + fast.count() >= waiting.len()).await;
    }
    let series = format!(r#"mcp_edge_endpoint_in_flight{{endpoint="{}",upstream="a"}}"#, slow.address);
    assert_eq!(edge.metric(&series).await, 1.0);
    for _ in 0..20 {
        assert_eq!(edge.get("/", &[]).await.body, "fast", "the idle replica is always chosen");
    }
    drop(waiting);
    eventually("the requests of closed clients have ended", async || edge.metric(&series).await == 0.0).await;
}
