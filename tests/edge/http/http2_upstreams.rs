//! Case B7: HTTP/2 connections to upstreams, which carry many requests and may be dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exchange::{PATHS, edge};
use super::streaming::wire::{Wire, held_calls, next};
use crate::harness::{Origin, PATIENCE, TestEdge, call, eventually, exchange, http2, message, post};

const CLOSE: [(&str, &str); 1] = [("Connection", "close")];
/// Empty SETTINGS (RFC 9113 section 6.5).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Answers with 200 and `{}`.
fn answer(mut respond: SendResponse<Bytes>) {
    let head = Response::builder().header("content-type", "application/json").body(()).expect("a response");
    let mut body = respond.send_response(head, false).expect("the stream is open");
    body.send_data(Bytes::from("{}"), true).expect("the stream is open");
}

/// Case B7 (RFC 9113 section 8.7): what the upstream says that it has not processed is sent again, even a call of a tool. What it
/// may have processed is not.
#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    for path in PATHS {
        for (reason, repeats) in [(Reason::REFUSED_STREAM, true), (Reason::CANCEL, false)] {
            let text = post(path, &CLOSE, &call("1", "x"));
            let address = edge.address;
            let asked = tokio::spawn(exchange(address, text));
            next(&mut accepted).await.1.send_reset(reason);
            if repeats {
                let (request, respond) = next(&mut accepted).await;
                assert!(http2::text(request.into_body()).await.contains("tools/call"));
                answer(respond);
            }
            let reply = asked.await.expect("a reply");
            assert_eq!(reply.status, if repeats { 200 } else { 502 }, "{path} {reason}");
        }
    }
}

async fn answer_all(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.expect("the edge speaks HTTP/2");
    while let Some(Ok((_, respond))) = connection.accept().await {
        answer(respond);
    }
}

/// Reads a request, and says that `last_stream` is the last that the server processes (RFC 9113 section 6.8).
async fn say_goodbye(mut stream: TcpStream, last_stream: u8) {
    stream.read_exact(&mut [0; 24]).await.expect("a preface");
    stream.write_all(&SETTINGS).await.expect("the edge reads");
    while frame(&mut stream).await.0 != 1 {}
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, 0];
    stream.write_all(&goaway).await.expect("the edge reads");
}

/// The same while most of the body waits for room: what the server says counts, not that the stream is closed.
#[tokio::test]
async fn a_refused_stream_is_sent_again_with_a_body_that_waits() {
    for path in PATHS {
        let count = Arc::new(AtomicUsize::new(0));
        let origin = Origin::scripted(move |stream, _| {
            let count = Arc::clone(&count);
            async move {
                let mut builder = h2::server::Builder::new();
                builder.initial_window_size(1_000);
                let mut connection = builder.handshake::<_, Bytes>(stream).await.expect("the edge speaks HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if count.fetch_add(1, Ordering::SeqCst) == 1 {
                        respond.send_reset(Reason::REFUSED_STREAM);
                        continue;
                    }
                    tokio::spawn(async move {
                        let _ = http2::text(request.into_body()).await;
                        answer(respond);
                    });
                }
            }
        })
        .await;
        let edge = edge(&origin, ", http2: true", "").await;
        // With the first request, the edge learns how much it may send at once.
        for tool in ["x", &"x".repeat(50_000)] {
            assert_eq!(exchange(edge.address, post(path, &CLOSE, &call("1", tool))).await.status, 200, "{path}");
        }
        assert_eq!(origin.connections(), 1);
    }
}

/// One frame (RFC 9113 section 4.1): its kind, and its payload.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    let [a, b, c, kind, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.expect("a payload");
    (kind, payload)
}

/// A GOAWAY that names an earlier stream says the same of all later ones.
#[tokio::test]
async fn what_is_above_the_last_stream_of_a_goaway_is_sent_again() {
    for (last_stream, repeats) in [(0_u8, true), (1, false)] {
        for path in PATHS {
            let is_first = AtomicBool::new(true);
            let origin = Origin::scripted(move |stream, _| {
                let is_first = is_first.swap(false, Ordering::SeqCst);
                async move { if is_first { say_goodbye(stream, last_stream).await } else { answer_all(stream).await } }
            })
            .await;
            let edge = edge(&origin, ", http2: true", "").await;
            let reply = exchange(edge.address, post(path, &CLOSE, &call("1", "x"))).await;
            let expected = if repeats { (200, 2) } else { (502, 1) };
            assert_eq!((reply.status, origin.connections()), expected, "{path}: {reply:?}");
        }
    }
}

/// Requests after one that took too long do not go to the same connection, which may be dead: whether the head of the answer
/// was late, or its body.
#[tokio::test]
async fn an_http_2_connection_is_left_after_a_timeout() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true, timeouts: {response: 500ms, idle: 500ms}", "").await;
    let mut connections = 0;
    for path in PATHS {
        for begins in [false, true] {
            let client = Wire::open(&edge, &post(path, &CLOSE, &call("1", "x"))).await;
            let mut silent = next(&mut accepted).await;
            let _stalled = begins.then(|| {
                let head = Response::builder().header("content-type", "application/json").body(()).expect("a response");
                let mut body = silent.1.send_response(head, false).expect("the stream is open");
                body.send_data(Bytes::from("{"), false).expect("the stream is open");
                body
            });
            let seen = client.end().await;
            assert!(seen.starts_with("HTTP/1.1 504 ") || (begins && !seen.ends_with("0\r\n\r\n")), "{path}: {seen}");
            let asked = tokio::spawn(exchange(edge.address, post(path, &CLOSE, &call("1", "x"))));
            answer(next(&mut accepted).await.1);
            assert_eq!(asked.await.expect("a reply").status, 200);
            connections += 1;
            assert_eq!(origin.connections(), connections + 1, "{path}, the answer has begun: {begins}");
        }
    }
}

/// A connection that was left is closed when nobody uses it any more, also if its last request was broken off.
#[tokio::test]
async fn a_connection_that_was_left_does_not_stay_open() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true, timeouts: {response: 300ms, keepalive: 500ms}", "").await;
    for (number, path) in PATHS.into_iter().enumerate() {
        let asked = tokio::spawn(exchange(edge.address, post(path, &CLOSE, &call("1", "x"))));
        let silent = next(&mut accepted).await;
        assert_eq!(asked.await.expect("a reply").status, 504);
        eventually("the connection ends", async || origin.closed() == number + 1).await;
        drop(silent);
    }
}

/// An answer that its server resets before its end is not told to be whole, whatever code it resets with.
#[tokio::test]
async fn an_answer_that_is_reset_without_an_error_is_not_whole() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    for path in PATHS {
        let mut client = Wire::open(&edge, &post(path, &CLOSE, &call("1", "x"))).await;
        let (_request, mut respond) = next(&mut accepted).await;
        let head = Response::builder().header("content-type", "application/json").body(()).expect("a response");
        let mut body = respond.send_response(head, false).expect("the stream is open");
        body.send_data(Bytes::from("part"), false).expect("the stream is open");
        client.until("part").await;
        body.send_reset(Reason::NO_ERROR);
        let seen = client.end().await;
        assert!(!seen.ends_with("0\r\n\r\n"), "{path}: {seen}");
    }
}

/// The same for what a gateway asks its servers itself.
#[tokio::test]
async fn a_gateway_leaves_an_http_2_connection_after_a_timeout() {
    let (origin, mut accepted) = held_calls().await;
    let edge = TestEdge::start(&format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}], http2: true}}}}
routes:
  - {{path: /a/, upstream: a, protocol: mcp, auth: none}}
  - {{path: /mcp, auth: none, gateway: {{servers: [a]}}}}
",
        origin.address
    ))
    .await;
    let params = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    let ask = async || exchange(edge.address, post("/mcp", &CLOSE, &message("1", "initialize", params))).await;
    for number in 1..=2 {
        let mut silent = None;
        // For some seconds after a failure, the gateway does not ask the server at all.
        eventually("the gateway asks the server", async || {
            let reply = ask().await;
            assert!(reply.body.contains("`a`"), "it names the server: {reply:?}");
            silent = accepted.try_recv().ok();
            silent.is_some()
        })
        .await;
        assert_eq!(origin.connections(), number);
    }
}

/// A connection whose upstream does not even answer a PING is dead, however long its requests may wait.
#[tokio::test]
async fn a_connection_without_a_sign_of_life_is_closed() {
    // It reads, so that no buffer is ever full, and says nothing after its SETTINGS.
    let origin = Origin::scripted(|mut stream, _| async move {
        stream.write_all(&SETTINGS).await.expect("the edge reads");
        while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
    })
    .await;
    let edge = edge(&origin, ", http2: true, timeouts: {response: 10m}", "").await;
    let ask = |path| exchange(edge.address, post(path, &CLOSE, &call("1", "x")));
    let both = tokio::time::timeout(2 * PATIENCE, async { tokio::join!(ask(PATHS[0]), ask(PATHS[1])) }).await;
    let (mcp, opaque) = both.expect("long before `timeouts.response`");
    assert_eq!((mcp.status, opaque.status), (502, 502), "{mcp:?} {opaque:?}");
    eventually("the connections end", async || origin.closed() == origin.connections()).await;
}

/// Case F14: the kernel watches over silent connections on both sides of the edge, with both versions of HTTP to the upstream.
#[tokio::test]
async fn silent_connections_have_a_keepalive_timer() {
    for upstream in ["", ", http2: true"] {
        let (calls, mut accepted_calls) = held_calls().await;
        let plain = Origin::saying("{}").await;
        let origin = if upstream.is_empty() { &plain } else { &calls };
        let edge = edge(origin, upstream, "").await;
        for path in PATHS {
            let mut client = Wire::open(&edge, &post(path, &[], &call("1", "x"))).await;
            if !upstream.is_empty() {
                answer(next(&mut accepted_calls).await.1);
            }
            client.until("{}").await;
            let own = client.stream.local_addr().expect("an address").port();
            for (from, to) in [(Some(edge.address.port()), own), (None, origin.address.port())] {
                // While the other side has not acknowledged everything, the timer is that of a retransmission.
                eventually("a keep-alive timer", async || {
                    let timers = timers(from, to);
                    !timers.is_empty() && timers.iter().all(|timer| timer == "02")
                })
                .await;
            }
        }
    }
}

/// The timers of the established sockets of this machine from one port to another (`tr` in proc_net_tcp(5)).
fn timers(from: Option<u16>, to: u16) -> Vec<String> {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its sockets");
    let port = |address: &str| address.split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    let timer = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, remote, state, _, timer, ..] = fields.as_slice() else { return None };
        let is_it = state == "01" && port(remote) == Some(to) && from.is_none_or(|from| port(local) == Some(from));
        is_it.then(|| timer.split(':').next().unwrap_or_default().to_owned())
    };
    sockets.lines().filter_map(timer).collect()
}
