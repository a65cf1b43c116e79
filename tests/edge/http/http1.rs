//! HTTP/1 of clients, which the edge itself reads and writes: which requests are refused, how long the edge waits, and
//! how connections end.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::streaming::wire::{Wire, next, raw};
use crate::harness::{
    Origin, TestEdge, call, eventually, exchange, message, post, read_reply, reads_through_pingora, request,
};

/// An edge with two routes to `origin`: `/mcp` for MCP, and `/opaque/` for other HTTP.
async fn edge(origin: &Origin, limits: &str) -> TestEdge {
    TestEdge::start(&format!(
        "limits: {{header_timeout: 1s, keepalive_timeout: 20s{limits}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mcp, upstream: a, protocol: mcp, auth: none}}
  - {{path: /opaque/, upstream: a, auth: none}}
",
        origin.address
    ))
    .await
}

async fn connect(edge: &TestEdge, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    stream.write_all(text.as_bytes()).await.expect("the edge reads");
    stream
}

/// Rows 43 to 45 of the fault matrix: a request is refused when two parsers could disagree about its end. Nothing of
/// the request reaches an origin.
#[tokio::test]
async fn requests_with_ambiguous_framing_are_refused() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    let mut refused = 0.0;
    for path in ["/mcp", "/opaque/"] {
        let second = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\n\r\n");
        for (fields, body) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "hello"),
            ("Content-Length: 5, 5\r\n\r\n", "hello"),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: gzip, chunked\r\n\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked, chunked\r\n\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "0\r\n\r\n"),
            ("X: a\n\n", ""),
            ("X: a\nContent-Length: 0\r\n\r\n", ""),
            ("X: a\r\n\n", ""),
        ] {
            let text = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}{body}{second}");
            let mut stream = connect(&edge, &text).await;
            let reply = read_reply(&mut stream).await;
            assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{text:?}");
            assert_eq!(stream.read(&mut [0]).await.expect("a clean end"), 0, "{text:?}");
            refused += 1.0;
        }
        let old = format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(read_reply(&mut connect(&edge, &old).await).await.status, 400);
        refused += 1.0;
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="bad_request"}"#).await, refused);
}

/// Row 42 of the fault matrix: the deadline of a head also applies to a head that begins directly behind another
/// request.
#[tokio::test]
async fn an_incomplete_second_request_has_the_deadline_of_a_head() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    for path in ["/nowhere", "/opaque/"] {
        let mut stream = connect(&edge, &(request("GET", path, &[("Host", "localhost")], "") + "G")).await;
        read_reply(&mut stream).await;
        let begun = Instant::now();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        // Pingora closes such a connection at once, with a reset.
        assert!(ended.is_ok() && rest.is_empty(), "{path}: after {:?}", begun.elapsed());
    }
}

/// An answer that cannot be sent to its client is counted with code 499, not as a success.
#[tokio::test]
async fn an_answer_to_a_client_that_has_left_is_counted_as_499() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    let client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    client.reset();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;
    let gone = r#"mcp_edge_requests_total{code="499",route="/mcp"}"#;
    eventually("it is counted", async || edge.metric(gone).await == 1.0).await;
}

/// Row 67 of the fault matrix, for a client that has sent more than the edge reads ahead.
#[tokio::test]
async fn the_edge_notices_that_a_client_leaves_even_if_it_has_sent_more_bytes() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    let get = request("GET", "/mcp", &[("Host", "localhost"), ("Accept", "text/event-stream")], "");
    let mut client = Wire::open(&edge, &get).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
    client.until("data: 1\n\n").await;
    client.send(&"x".repeat(40_000)).await;
    drop(client);
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), upstream.end()).await.expect("it is closed"), "");
}

/// Row 3 of the fault matrix: only a reset shows an HTTP/1.0 client that the answer is incomplete.
#[tokio::test]
async fn an_answer_without_a_length_that_breaks_off_is_reset() {
    if reads_through_pingora() {
        return;
    }
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    let text = post("/mcp", &[], &call("1", "x")).replace("HTTP/1.1", "HTTP/1.0");
    let mut client = Wire::open(&edge, &text).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    upstream.send("9\r\ndata: 1\n\n\r\n").await;
    client.until("data: 1\n\n").await;
    drop(upstream);
    let end = tokio::time::timeout(Duration::from_secs(5), client.stream.read(&mut [0])).await.expect("it ends");
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn the_content_length_of_a_server_is_sent_at_most_once() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    for (head, lengths) in [
        ("200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 1),
        ("204 No Content\r\nContent-Length: 5\r\n\r\n", 0),
    ] {
        let mut client = connect(&edge, &post("/mcp", &[], &message("1", "ping", "{}"))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.until("\r\n\r\n").await;
        upstream.send(&format!("HTTP/1.1 {head}")).await;
        let reply = read_reply(&mut client).await;
        assert_eq!(reply.head.to_ascii_lowercase().matches("content-length").count(), lengths, "{}", reply.head);
    }
}

/// RFC 9110 section 10.1.1.
#[tokio::test]
async fn only_a_client_that_expects_100_continue_gets_it() {
    let origin = Origin::saying("{}").await;
    let edge = edge(&origin, "").await;
    for (version, expected, told) in
        [("1.1", "100-continue", true), ("1.0", "100-continue", false), ("1.1", "x", false)]
    {
        let text =
            post("/mcp", &[("Expect", expected)], &call("1", "x")).replace("HTTP/1.1", &format!("HTTP/{version}"));
        let reply = read_reply(&mut connect(&edge, &text).await).await;
        assert_eq!(reply.status == 100, told, "{version} {expected}: {}", reply.head);
    }
}

/// Case F13: what can be read of a head that is refused is in the log.
#[tokio::test]
async fn a_refused_head_is_logged_with_what_is_known_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("edge.yaml");
    let yaml = "listeners: [{address: '127.0.0.1:0'}]\nadmin: {address: '127.0.0.1:0'}\n";
    std::fs::write(&path, yaml).expect("the folder is writable");
    let mut edge = crate::harness::EdgeProcess::start(&path).await;
    // The first cannot be parsed. The second can, and is refused for its path.
    for more in ["X: \0\r\n", ""] {
        let head = format!("GET /a/..%2fb?token=1 HTTP/1.1\r\nHost: edge.example\r\n{more}\r\n");
        assert_eq!(exchange(edge.address, head).await.status, 400);
    }
    edge.signal("TERM");
    let mut seen = Vec::new();
    while let Some(line) = edge.line().await {
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        seen.extend((line["status"] == 400).then_some(line));
    }
    assert_eq!(seen.len(), 2);
    for line in seen {
        let fields = ["client", "method", "host", "path", "reason"]
            .map(|name| line[name].as_str().unwrap_or_default().to_owned());
        assert_eq!(fields, ["127.0.0.1", "GET", "edge.example", "/a/..%2fb", "bad_request"]);
    }
}
