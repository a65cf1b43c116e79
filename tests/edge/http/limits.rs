//! Limits on the size of requests, and on how slowly a client may send them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use mcp_edge::config::limits;

use crate::harness::http2::Http2;
use crate::harness::{Origin, PATIENCE, TestEdge, exchange, ok, read_reply, request};

async fn edge(origin: &Origin, limits: &str) -> TestEdge {
    TestEdge::start(&yaml(origin, limits)).await
}

fn yaml(origin: &Origin, limits: &str) -> String {
    format!(
        "limits: {{{limits}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /a/, upstream: a, auth: none}}
  - {{path: /small/, upstream: a, auth: none, body_bytes: 10B}}
",
        origin.address
    )
}

/// Row 40 of the fault matrix.
#[tokio::test]
async fn headers_and_targets_are_bounded() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "header_bytes: 2KiB, header_count: 20, uri_bytes: 100B").await;
    let long = "x".repeat(101);
    assert_eq!(edge.get(&format!("/a/{long}"), &[]).await.status, 414);
    assert_eq!(edge.get("/a/", &[("X-Long", &"x".repeat(2048))]).await.status, 431);
    let many: Vec<(&str, &str)> = (0..20).map(|_| ("X-Many", "x")).collect();
    assert_eq!(edge.get("/a/", &many).await.status, 431);
    assert_eq!(edge.get("/a/", &many[..10]).await.status, 200);
    assert_eq!(origin.count(), 1);
    let mut http2 = Http2::connect(edge.address).await;
    assert_eq!(http2.get(&format!("/a/{long}"), &[]).await.status(), 414);
    assert_eq!(http2.get("/a/", &[("x-long", &"x".repeat(2048))]).await.status(), 431);
    assert_eq!(http2.get("/a/", &[("x-many", "x"); 21]).await.status(), 431);
    assert_eq!(http2.get("/a/", &[]).await.status(), 200);
    assert_eq!(origin.count(), 2);
}

/// Row 41 of the fault matrix.
#[tokio::test]
async fn bodies_are_bounded_declared_or_not() {
    let origin = Origin::answering(|request| ok(&request.body.len().to_string())).await;
    let edge = edge(&origin, "body_bytes: 100KiB").await;
    assert_eq!(edge.send("POST", "/small/", &[], "0123456789").await.body, "10");
    assert_eq!(edge.send("POST", "/small/", &[], "0123456789a").await.status, 413);
    let big = "x".repeat(100 << 10);
    assert_eq!(edge.send("POST", "/a/", &[], &big).await.body, (100 << 10).to_string());
    let chunked = |size: usize| {
        let head = request("POST", "/a/", &[("Transfer-Encoding", "chunked")], "");
        format!("{head}{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size))
    };
    assert_eq!(exchange(edge.address, chunked(50 << 10)).await.status, 200);
    let reply = exchange(edge.address, chunked((100 << 10) + 1)).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (413, Some("body_too_large")));
}

/// If the edge closed the connection with unread bytes, the connection would be reset, and the client could lose the
/// answer.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "body_bytes: 100KiB").await;
    for head in [[("Content-Length", "8000000")], [("Transfer-Encoding", "chunked")]] {
        let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        stream.write_all(request("POST", "/a/", &head, "").as_bytes()).await.expect("it is open");
        // The client reads nothing before it has sent everything, as simple clients do.
        let chunk = format!("{:x}\r\n{}\r\n", 8000, "x".repeat(8000));
        for _ in 0..1000 {
            let piece = if head[0].0 == "Content-Length" { &chunk[6..8006] } else { &chunk };
            stream.write_all(piece.as_bytes()).await.expect("the edge reads");
        }
        if head[0].0 != "Content-Length" {
            stream.write_all(b"0\r\n\r\n").await.expect("the edge reads");
        }
        assert_eq!(read_reply(&mut stream).await.status, 413, "{head:?}");
    }
    assert_eq!(origin.requests().len(), 0);
}

/// Row 42 of the fault matrix: a client cannot hold a connection by sending a byte now and then.
#[tokio::test]
async fn a_whole_request_head_has_one_deadline() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "header_timeout: 1s").await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    stream.write_all(b"GET /a/ HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.expect("it reads");
    let (mut reading, mut writing) = stream.into_split();
    let drip = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut rest = Vec::new();
    // The connection may end with a reset or with a close.
    let _ = tokio::time::timeout(Duration::from_secs(8), reading.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(begun.elapsed() >= Duration::from_millis(900), "the connection is not closed before the deadline");
    assert_eq!(origin.count(), 0);
    drip.abort();
    // The deadline applies to the head only. The time between requests and the duration of a request do not count.
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    for _ in 0..2 {
        stream.write_all(request("GET", "/a/", &[], "").as_bytes()).await.expect("it is open");
        assert_eq!(read_reply(&mut stream).await.status, 200);
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
}

#[tokio::test]
async fn a_silent_body_is_408() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "body_timeout: 500ms").await;
    let text = request("POST", "/a/", &[("Content-Length", "100")], "");
    let reply = exchange(edge.address, text + "only this").await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (408, Some("body_timeout")));
}

/// Row 42: a client that is never silent for long, but sends next to nothing. The first body is read by the edge, the second one
/// passes through it.
#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408() {
    let origin = Origin::saying("in").await;
    let mcp = "  - {path: /mcp/, upstream: a, protocol: mcp, auth: none}\n";
    let edge = TestEdge::start(&(yaml(&origin, "body_timeout: 1s") + mcp)).await;
    // The last client does not wait to be told to continue.
    for (path, field) in [("/mcp/", ("X-A", "1")), ("/a/", ("X-A", "1")), ("/a/", ("Expect", "100-continue"))] {
        let fields = [("Content-Length", "1000"), ("Content-Type", "application/json"), field];
        let text = request("POST", path, &fields, "");
        let mut client = TcpStream::connect(edge.address).await.expect("the edge listens");
        client.write_all(text.as_bytes()).await.expect("the edge reads");
        let (mut reading, mut writing) = client.split();
        let slowly = async {
            while writing.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            std::future::pending().await
        };
        let reply = tokio::select! {
            reply = tokio::time::timeout(PATIENCE, read_reply(&mut reading)) => reply.expect("a refusal"),
            () = slowly => unreachable!("it only writes"),
        };
        assert_eq!((reply.status, reply.json()["error"].as_str()), (408, Some("body_timeout")), "{path} {field:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "keepalive_timeout: 1s").await;
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    stream.write_all(request("GET", "/a/", &[], "").as_bytes()).await.expect("it is open");
    assert_eq!(read_reply(&mut stream).await.status, 200);
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut rest)).await;
    assert_eq!(closed.expect("it is closed").expect("without a reset"), 0);
}

/// Rows 43 to 45 of the fault matrix: no request with ambiguous framing reaches an origin.
#[tokio::test]
async fn ambiguous_framing_never_smuggles() {
    let origin = Origin::answering(|request| ok(request.line())).await;
    let edge = edge(&origin, "").await;
    for text in [
        "POST /a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /a/ HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST /a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /a/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a/ HTTP/1.1\r\nHost : a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "TRACE /a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let reply = exchange(edge.address, text).await;
        assert!(reply.status == 400 || reply.status == 405, "{text:?}: {}", reply.status);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_short_http_1_0_request_is_not_taken_for_http_2() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "").await;
    let reply = exchange(edge.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(reply.status, 400, "shorter than HTTP/2's preface, and without a Host");
}

/// With HTTP/2's own windows of 64 KiB, uploads over a long way would be slow.
#[tokio::test]
async fn an_http_2_client_may_send_ahead_as_much_as_the_limits_say() {
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes: [{{path: /, upstream: a, auth: none}}]\n",
        origin.address
    ))
    .await;
    let mut client = crate::harness::http2::Http2::connect(edge.address).await;
    let mut open = Vec::new();
    let (stream, all) = (limits::CLIENT_H2_STREAM_WINDOW as usize, limits::CLIENT_H2_CONNECTION_WINDOW as usize);
    for _ in 0..=all / stream {
        let request = http::Request::post("http://edge.example/").body(()).expect("a request");
        let (response, mut body) = client.send(request, false).await;
        body.reserve_capacity(4 * all);
        open.push((response, body));
    }
    let capacity =
        |open: &[(_, h2::SendStream<bytes::Bytes>)]| open.iter().map(|(_, body)| body.capacity()).collect::<Vec<_>>();
    crate::harness::eventually("the edge has sent its settings", async || capacity(&open).iter().sum::<usize>() >= all)
        .await;
    let capacity = capacity(&open);
    assert_eq!((capacity.iter().max(), capacity.iter().sum::<usize>()), (Some(&stream), all), "{capacity:?}");
}
