//! Informational answers (RFC 9110 section 15.2) of upstreams, and what they must not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::exchange::{PATHS, edge};
use super::streaming::wire::{Wire, held_calls, next, raw};
use crate::harness::{Origin, call, eventually, http2, post, reads_through_pingora, request};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n";

/// 103 passes to a client of HTTP/1.1 on a route without a protocol. HTTP/1.0 does not know it.
#[tokio::test]
async fn an_early_hint_passes_before_the_answer() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", "").await;
    for (version, passes) in [("HTTP/1.1", true), ("HTTP/1.0", false)] {
        let text = format!("GET /opaque/ {version}\r\nHost: edge.example\r\nConnection: close\r\n\r\n");
        let mut client = Wire::open(&edge, &text).await;
        let mut upstream = next(&mut accepted).await;
        upstream.until("\r\n\r\n").await;
        upstream.send(HINT).await;
        if passes {
            let hint = client.until("\r\n\r\n").await.to_ascii_lowercase();
            assert!(hint.starts_with("http/1.1 103 ") && hint.contains("link: </x>"), "{hint}");
            assert!(!hint.contains("x-own") && !hint.contains("connection"), "{hint}");
        }
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nin").await;
        let answer = client.end().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("in"), "{version}: {answer}");
    }
}

/// The time for the body begins when its client may send it.
#[tokio::test]
async fn an_upstream_may_take_its_time_before_100_continue() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", "body_timeout: 500ms").await;
    let head = request("POST", "/opaque/", &[("Expect", "100-continue"), ("Content-Length", "5")], "");
    let mut client = Wire::open(&edge, &head).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100 "));
    client.send("hello").await;
    upstream.until("hello").await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
}

/// An upstream that sends informational answers without end does not get around the deadline for its answer, and fills no
/// memory when its client does not read.
#[tokio::test]
async fn informational_answers_without_end_are_no_answer() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let origin = Origin::scripted(move |mut stream, recorder| {
        let count = Arc::clone(&count);
        async move {
            if recorder.read(&mut stream).await.is_some() {
                let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(30_000)).repeat(10);
                while stream.write_all(hints.as_bytes()).await.is_ok() {
                    count.fetch_add(hints.len(), Ordering::Relaxed);
                }
            }
        }
    })
    .await;
    let edge = edge(&origin, ", timeouts: {response: 1s}", "write_timeout: 4s").await;
    for path in PATHS {
        let text = post(path, &[("Connection", "close")], &call("1", "x"));
        let seen = Wire::open(&edge, &text).await.end().await;
        assert!(seen.contains("HTTP/1.1 504 "), "{path}: {:?}", &seen[seen.len().saturating_sub(500)..]);
        let mut client = http2::Http2::connect(edge.address).await;
        assert_eq!(client.get(path, &[("accept", "text/event-stream")]).await.status(), 504, "{path}");
    }
    let slow = self::edge(&origin, "", "write_timeout: 4s").await;
    sent.store(0, Ordering::Relaxed);
    let _silent = Wire::open(&slow, &request("GET", "/opaque/", &[], "")).await;
    eventually("the upstream is left", async || origin.connections() == 5 && origin.closed() == 5).await;
    let mebibytes = sent.load(Ordering::Relaxed) >> 20;
    assert!(mebibytes < 64, "{mebibytes} MiB were read for a client that does not read");
}

/// 100 Continue does not come back over HTTP/2, so the edge sends it itself.
#[tokio::test]
async fn a_client_of_an_http_2_upstream_may_wait_for_100_continue() {
    if reads_through_pingora() {
        return;
    }
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    let head = request("POST", "/opaque/", &[("Expect", "100-continue"), ("Content-Length", "5")], "");
    let mut client = Wire::open(&edge, &head).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100 "));
    client.send("hello").await;
    let (request, mut respond) = next(&mut accepted).await;
    assert_eq!(request.headers().get("expect"), None);
    assert_eq!(http2::text(request.into_body()).await, "hello");
    let answer = http::Response::builder().status(204).body(()).expect("a response");
    respond.send_response(answer, true).expect("the stream is open");
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
}
