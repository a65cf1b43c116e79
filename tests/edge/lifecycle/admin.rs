//! The admin listener.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::harness::{Origin, TestEdge, Tokens, exchange, request};

async fn edge(origin: &Origin, more: &str) -> TestEdge {
    TestEdge::start(&format!(
        "{more}auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [local]}}}}, {{path: /open/, upstream: a, auth: none}}]
",
        Tokens::PROVIDER,
        origin.address
    ))
    .await
}

/// Checks the scrape with `promtool`, which belongs to Prometheus.
#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    edge.get_as(&Tokens::token("alice", ""), "/a/").await;
    edge.get("/none", &[]).await;
    let reply = edge.admin_get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut promtool = tokio::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: `scripts/setup test` does it (Debian package prometheus)");
    promtool
        .stdin
        .take()
        .expect("standard input is piped")
        .write_all(reply.body.as_bytes())
        .await
        .expect("promtool reads");
    let output = promtool.wait_with_output().await.expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    for family in [
        "requests_total",
        "request_duration_seconds",
        "requests_in_flight",
        "streams_open",
        "auth_decisions_total",
        "auth_cache_requests_total",
        "auth_cache_entries",
        "auth_lookup_duration_seconds",
        "endpoint_healthy",
        "endpoint_requests_total",
        "endpoint_in_flight",
        "upstream_connections_total",
        "config_generation",
        "config_reloads_total",
        "config_last_reload_success",
        "rejections_total",
    ] {
        assert!(reply.body.contains(&format!("# TYPE mcp_edge_{family} ")), "{family}");
    }
    assert!(reply.body.contains("# TYPE process_resident_memory_bytes "));
}

/// Row 69: label values come from the configuration, so requests add no series.
#[tokio::test]
async fn clients_cannot_add_series() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    let series = async || edge.admin_get("/metrics").await.body.lines().filter(|line| !line.starts_with('#')).count();
    edge.get("/open/", &[]).await;
    edge.get("/none", &[]).await;
    let before = series().await;
    for number in 0..50 {
        edge.send(&format!("M{number}"), &format!("/open/{number}"), &[("Host", &format!("h{number}.example"))], "")
            .await;
        edge.get(&format!("/none/{number}"), &[]).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn status_shows_the_running_version_and_configuration() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    let status = edge.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["generation"], 1);
    assert_eq!(status["last_reload"]["result"], "success");
    assert_eq!(status["upstreams"]["a"]["endpoints"][0]["address"], origin.address.to_string());
    let files = status["files"].as_array().expect("a list");
    assert!(files.iter().any(
        |file| file["path"].as_str().is_some_and(|path| path.ends_with("edge.yaml")) && file["sha256"].is_string()
    ));
    let secret = files.iter().find(|file| file["path"].as_str().is_some_and(|path| path.ends_with("issuer.secret")));
    assert!(
        secret.expect("the secret is a file of the configuration")["sha256"].is_null(),
        "no digest of a secret is shown"
    );
}

#[tokio::test]
async fn admin_pages_have_fixed_paths_and_methods() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    assert_eq!(edge.admin_get("/livez").await.body, "ok\n");
    assert_eq!(edge.admin_get("/readyz").await.status, 200);
    assert_eq!(edge.admin_get("/metrics/..").await.status, 404);
    assert_eq!(edge.admin_get("/reload").await.status, 405);
    let post = async |path: &str, headers: &[(&str, &str)]| {
        let headers = [&[("Host", "localhost")], headers].concat();
        exchange(edge.admin, request("POST", path, &headers, "")).await
    };
    assert_eq!(post("/metrics", &[]).await.status, 405);
    assert_eq!(
        post("/reload", &[("Origin", "http://evil.example")]).await.status,
        403,
        "a web page must not start a reload"
    );
    let reply = post("/reload", &[]).await;
    assert_eq!((reply.status, reply.json()["generation"].as_u64()), (200, Some(2)));
    for path in ["/livez", "/metrics", "/status"] {
        assert_eq!(edge.get(path, &[]).await.status, 404, "{path} is not on the data path");
    }
}

#[tokio::test]
async fn writes_need_the_admin_token_if_it_is_configured() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "admin: {address: '127.0.0.1:0', token: {file: issuer.secret}}\n").await;
    let post = async |headers: &[(&str, &str)]| {
        let headers = [&[("Host", "localhost")], headers].concat();
        exchange(edge.admin, request("POST", "/reload", &headers, "")).await.status
    };
    assert_eq!(post(&[]).await, 401);
    assert_eq!(post(&[("Authorization", "Bearer wrong")]).await, 401);
    assert_eq!(post(&[("Authorization", &format!("Bearer {}", Tokens::SECRET_FILE.1))]).await, 200);
}

/// Row 70: tokens and secrets do not appear in replies, metrics or the status.
#[tokio::test]
async fn tokens_and_secrets_are_not_shown() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    let token = Tokens::token("alice", "");
    let replies = [
        edge.get_as(&token, "/a/").await,
        edge.get_as(&(token.clone() + "x"), "/a/").await,
        edge.get_as(&token, "/none").await,
    ];
    let mut shown = String::new();
    for reply in replies {
        shown += &(reply.head + &reply.body);
    }
    shown += &edge.admin_get("/metrics").await.body;
    shown += &edge.admin_get("/status").await.body;
    let signature = token.rsplit('.').next().expect("three parts");
    assert!(!shown.contains(signature) && !shown.contains(Tokens::SECRET_FILE.1));
}

/// Case F10: a page whose name leads to this machine, connections that say nothing, and clients of HTTP/1.0.
#[tokio::test]
async fn the_admin_listener_answers_at_once_and_to_names_of_this_machine_only() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
    ] {
        assert_eq!(
            exchange(edge.admin, request("GET", "/livez", &[("Host", host)], "")).await.status,
            status,
            "{host}"
        );
    }
    let begun = std::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..mcp_edge::config::limits::ADMIN_CONNECTIONS + 8 {
        silent.push(tokio::net::TcpStream::connect(edge.admin).await.expect("the edge listens"));
    }
    for text in ["GET /livez HTTP/1.0\r\n\r\n", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut client = tokio::net::TcpStream::connect(edge.admin).await.expect("the edge listens");
        client.write_all(text.as_bytes()).await.expect("the edge reads");
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut client, &mut answer).await.expect("the connection is closed");
        assert!(answer.starts_with("HTTP/1.") && answer.ends_with("ok\n"), "{answer}");
    }
    // Silent connections are closed after `limits.header_timeout`, 10 s.
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
}
