//! What happens between a request and its answer: early answers, what is repeated, and how connections end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::streaming::wire::{Wire, held, held_calls, next, raw};
use crate::harness::http2::{self, Http2};
use crate::harness::{
    Origin, PATIENCE, TestEdge, eventually, exchange, message, post, post_stateless, read_reply, reads_through_pingora,
    request,
};

pub const PATHS: [&str; 2] = ["/mcp", "/opaque/"];

pub async fn edge(origin: &Origin, upstream: &str, limits: &str) -> TestEdge {
    TestEdge::start(&yaml(origin, upstream, limits)).await
}

fn yaml(origin: &Origin, upstream: &str, limits: &str) -> String {
    format!(
        "limits: {{{limits}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]{upstream}}}}}
routes:
  - {{path: /mcp, upstream: a, protocol: mcp, auth: none, body_bytes: 16MiB}}
  - {{path: /opaque/, upstream: a, auth: none, body_bytes: 16MiB{}}}
",
        origin.address,
        if upstream.contains("http2") { "" } else { ", upgrade: [websocket]" }
    )
}

/// Case B6: an upstream may answer before it has read the request. The client gets the answer at once, while it still sends.
#[tokio::test]
async fn an_early_answer_is_passed_on_while_the_client_still_sends() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, ", timeouts: {response: 10s}", "").await;
    let mut client = Wire::open(&edge, &request("POST", "/opaque/", &[("Content-Length", "12000000")], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    let begun = Instant::now();
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
    let answer = client.until("big").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(5), "the answer does not wait for the request");
}

/// Case B6 with HTTP/2 on either side.
#[tokio::test]
async fn an_early_answer_passes_over_http_2() {
    let (origin, mut accepted) = raw().await;
    let (calls, mut accepted_calls) = held_calls().await;
    let before_http1 = edge(&origin, ", timeouts: {response: 10s}", "").await;
    let before_http2 = edge(&calls, ", http2: true, timeouts: {response: 10s}", "").await;
    let mut client = http2::Http2::connect(before_http1.address).await;
    let upload = Request::post("http://edge.example/opaque/").body(()).expect("a request");
    let (response, mut sending) = client.send(upload, false).await;
    sending.send_data(Bytes::from("the first piece"), false).expect("the stream is open");
    let mut upstream = next(&mut accepted).await;
    upstream.until("the first piece").await;
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
    let response = http2::head(response).await;
    assert_eq!(response.status(), 413);
    assert_eq!(http2::text(response.into_body()).await, "big");
    let head = request("POST", "/opaque/", &[("Content-Length", "12000000")], "");
    let mut client = Wire::open(&before_http2, &(head + "the first piece")).await;
    let (_request, mut respond) = next(&mut accepted_calls).await;
    let head = http::Response::builder().status(413).body(()).expect("a response");
    respond.send_response(head, true).expect("the stream is open");
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 413 "));
}

/// Case B8: an answer that has begun is not asked for again, and the error that came first is the one that is told. The line in
/// the log names the endpoint.
#[tokio::test]
async fn a_broken_answer_is_not_asked_for_again() {
    for broken in ["HTTP/1.1 200 OK\r\nContent-Le", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n"] {
        let origin = Origin::scripted(move |mut stream, recorder| async move {
            if recorder.read(&mut stream).await.is_some() {
                let _ = stream.write_all(broken.as_bytes()).await;
            }
        })
        .await;
        let edge = edge(&origin, "", "").await;
        for path in PATHS {
            let before = origin.count();
            let accept = [("Accept", "text/event-stream")];
            let reply = exchange(edge.address, request("GET", path, &accept, "")).await;
            assert_eq!(reply.status, 502, "{path} {broken:?}: {reply:?}");
            assert!(!reply.body.contains("no endpoint"), "{reply:?}");
            assert_eq!(origin.count(), before + 1, "{path} {broken:?}");
        }
        let failed = format!(
            r#"mcp_edge_endpoint_requests_total{{endpoint="{}",result="failed",upstream="a"}}"#,
            origin.address
        );
        assert_eq!(edge.metric(&failed).await, 2.0, "{}", edge.admin_get("/metrics").await.body);
    }
}

/// Case B8: the error that came first is also the one that is told when the other endpoints cannot be reached.
#[tokio::test]
async fn the_first_error_is_told_when_nobody_else_can_be_reached() {
    let origin = Origin::scripted(|mut stream, recorder| async move { drop(recorder.read(&mut stream).await) }).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    for path in PATHS {
        let yaml = yaml(&origin, "", "").replace("'}]", &format!("'}}, {{address: '{nobody}'}}]"));
        let edge = TestEdge::start(&yaml).await;
        // Each of the two endpoints comes first once.
        for _ in 0..2 {
            let reply = exchange(edge.address, request("GET", path, &[("Accept", "text/event-stream")], "")).await;
            assert_eq!(reply.status, 502, "{path}: {reply:?}");
        }
    }
}

/// Case B9: what a server sends without being asked, with its answer or later, never reaches the next caller.
#[tokio::test]
async fn a_second_answer_that_nobody_asked_for_reaches_nobody() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", "").await;
    let own = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let other = "HTTP/1.1 200 OK\r\n\r\n";
    // They stay open, so that only the second answer can keep the edge from using them again.
    let mut open = Vec::new();
    for is_late in [false, true] {
        for path in PATHS {
            for number in 0..5 {
                let before = origin.connections();
                let asked = tokio::spawn(exchange(edge.address, post(path, &[], &message("1", "ping", "{}"))));
                let mut upstream = next(&mut accepted).await;
                upstream.until("\r\n\r\n").await;
                upstream.send(&if is_late { own.to_owned() } else { format!("{own}{other}") }).await;
                let reply = asked.await.expect("a reply");
                assert_eq!((reply.status, reply.body.as_str()), (200, "{}"), "{path} {number} {is_late}: {reply:?}");
                assert_eq!(origin.connections(), before + 1, "the connection before is not used again");
                if is_late {
                    // On loopback, it is there for the edge to read when this returns.
                    upstream.send(other).await;
                }
                open.push(upstream);
            }
        }
    }
}

/// Case C8 (RFC 9112 section 6.3): whether a request has a body is seen by its bytes, not by its framing.
#[tokio::test]
async fn a_get_or_delete_may_frame_a_body_without_bytes() {
    let origin = Origin::saying("{}").await;
    let edge = edge(&origin, "", "").await;
    let mut http2 = Http2::connect(edge.address).await;
    for path in PATHS {
        for method in ["GET", "DELETE"] {
            let fields = [("Accept", "text/event-stream"), ("Transfer-Encoding", "chunked")];
            let text = request(method, path, &fields, "");
            if !reads_through_pingora() {
                assert_eq!(exchange(edge.address, text.clone() + "0\r\n\r\n").await.status, 200, "{method} {path}");
            }
            let request = Request::builder().method(method).uri(format!("http://edge.example{path}"));
            let request = request.header("accept", "text/event-stream").body(()).expect("a request");
            let (response, mut sending) = http2.send(request, false).await;
            sending.send_data(Bytes::new(), true).expect("the stream is open");
            assert_eq!(http2::head(response).await.status(), 200, "{method} {path}");
            if path == "/mcp" && !reads_through_pingora() {
                let reply = exchange(edge.address, text + "1\r\nx\r\n0\r\n\r\n").await;
                assert_eq!(reply.status, 400, "{method} {path}");
            }
        }
    }
}

/// Case C9: a client may send many requests at once. All are answered, in their order.
#[tokio::test]
async fn requests_that_come_at_once_are_all_answered() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::answering(|seen| crate::harness::ok(seen.header("x-number").unwrap_or_default())).await;
    let edge = edge(&origin, "", "").await;
    for path in PATHS {
        let mut client = Wire::open(&edge, "").await;
        let padding = "p".repeat(3_000);
        let one = |number: usize| {
            let text = number.to_string();
            let fields = [("X-Number", text.as_str()), ("X-Pad", &padding)];
            match number % 3 {
                0 => post_stateless(path, &fields, &message("1", "tools/list", "{}")),
                1 => request("DELETE", path, &fields, ""),
                _ => request("GET", path, &[&fields[..], &[("Accept", "text/event-stream")]].concat(), ""),
            }
        };
        let all: String = (0..20).map(one).collect();
        client.send(&all).await;
        let mut reader = tokio::io::BufReader::new(&mut client.stream);
        for number in 0..20 {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                let byte = tokio::time::timeout(PATIENCE, reader.read_u8()).await.expect("in time").expect("an answer");
                bytes.push(byte);
            }
            let head = String::from_utf8(bytes).expect("text").to_ascii_lowercase();
            let expected = number.to_string();
            assert!(head.starts_with("http/1.1 200 "), "{path} {number}: {head}");
            let mut body = vec![0; expected.len()];
            reader.read_exact(&mut body).await.expect("a body");
            assert_eq!(body, expected.as_bytes(), "{path}");
        }
    }
}

/// Case C10: a client that has sent its whole request may close its side of the connection. It gets what is at hand.
#[tokio::test]
async fn a_client_that_closes_its_side_gets_its_answer() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::saying("{}").await;
    let edge = edge(&origin, "", "").await;
    for path in PATHS {
        let mut client = Wire::open(&edge, &post(path, &[], &message("1", "ping", "{}"))).await;
        client.stream.shutdown().await.expect("the connection is open");
        let reply = read_reply(&mut client.stream).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"), "{path}");
    }
    // Also all requests that it has sent at once.
    let (origin, mut accepted) = held().await;
    let edge = self::edge(&origin, "", "").await;
    for path in PATHS {
        let request = post(path, &[], &message("1", "ping", "{}"));
        let mut client = Wire::open(&edge, &request.repeat(2)).await;
        let mut upstream = next(&mut accepted).await;
        client.stream.shutdown().await.expect("the connection is open");
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        // When later requests are answered, the edge has seen the end of the client's side.
        for _ in 0..8 {
            assert_eq!(exchange(edge.address, crate::harness::request("GET", "/none", &[], "")).await.status, 404);
        }
        upstream.send(answer).await;
        let reply = read_reply(&mut client.stream).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"), "{path}");
        upstream.until("\r\n\r\n{").await;
        upstream.send(answer).await;
        let reply = read_reply(&mut client.stream).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"), "{path}");
    }
}

/// The same for an answer that takes its time.
#[tokio::test]
async fn a_client_that_closes_its_side_gets_a_slow_answer() {
    if reads_through_pingora() {
        return;
    }
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let mut client = Wire::open(&edge, &request("GET", "/opaque/", &[], "")).await;
    let mut upstream = next(&mut accepted).await;
    client.stream.shutdown().await.expect("the connection is open");
    for _ in 0..8 {
        assert_eq!(exchange(edge.address, request("GET", "/none", &[], "")).await.status, 404);
    }
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await;
    for byte in ["a", "b", "c"] {
        // Together they take longer than a client that has closed its side has to wait for a head.
        tokio::time::sleep(Duration::from_millis(600)).await;
        upstream.send(byte).await;
    }
    let reply = read_reply(&mut client.stream).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "abc"));
}

/// Case F5: an edge that stops says with each answer that the connection ends, so that no request is lost on it.
#[tokio::test]
async fn an_answer_says_that_the_connection_ends_when_the_edge_stops() {
    if reads_through_pingora() {
        return;
    }
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let mut clients = Vec::new();
    for path in PATHS {
        let client = Wire::open(&edge, &post(path, &[], &message("1", "ping", "{}"))).await;
        clients.push((path, client, next(&mut accepted).await));
    }
    let address = edge.address;
    let stopped = edge.drain_in_background(Duration::from_secs(10));
    eventually("the edge accepts no connection any more", async || {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    for (path, mut client, mut upstream) in clients {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;
        let reply = read_reply(&mut client.stream).await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{path}");
        assert_eq!(client.end().await, "");
    }
    stopped.await.expect("it stops");
}

/// Case F6: whether the connection goes on is said as it is, also when the upstream fails.
#[tokio::test]
async fn a_502_says_whether_the_connection_goes_on() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::scripted(|mut stream, recorder| async move {
        recorder.read(&mut stream).await;
    })
    .await;
    let edge = edge(&origin, "", "").await;
    for path in PATHS {
        let mut client = Wire::open(&edge, "").await;
        for _ in 0..3 {
            client.send(&post(path, &[], &message("1", "tools/call", r#"{"name":"x"}"#))).await;
            let reply = read_reply(&mut client.stream).await;
            assert_eq!(reply.status, 502, "{path}");
            assert_ne!(reply.header("connection"), Some("close"), "{path}: the next request shows whether it is open");
        }
    }
}

/// Case F8: a client that is refused, and that sends slowly, can read why.
#[tokio::test]
async fn a_slow_upload_that_is_refused_learns_why() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "", "").await;
    let piece = "x".repeat(50_000);
    let upload = async |path| {
        let fields = [("Content-Length", "20000000"), ("Content-Type", "application/json")];
        let mut client = Wire::open(&edge, &request("POST", path, &fields, "")).await;
        // Two seconds, at half a megabyte a second: longer than the edge waits for a client that says nothing.
        for _ in 0..20 {
            client.send(&piece).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        read_reply(&mut client.stream).await.status
    };
    assert_eq!(tokio::join!(upload(PATHS[0]), upload(PATHS[1])), (413, 413));
}

/// RFC 8441: a WebSocket over HTTP/2. To the upstream, it is one over HTTP/1. Any other CONNECT is refused.
#[tokio::test]
async fn a_web_socket_over_http_2_is_a_stream() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let stream = tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens");
    let (mut sender, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let driver =
        tokio::spawn(async move { std::future::poll_fn(|cx| std::pin::Pin::new(&mut connection).poll(cx)).await });
    // The first SETTINGS of the edge say that it takes extended CONNECT.
    eventually("the edge's settings have come", async || sender.is_extended_connect_protocol_enabled()).await;
    let connect = |path: &str, protocol: Option<&'static str>| {
        let mut request = Request::builder().method("CONNECT").uri(format!("http://edge.example{path}"));
        request = request.header("sec-websocket-version", "13");
        let mut request = request.body(()).expect("a request");
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request
    };
    let (response, mut sending) =
        sender.send_request(connect("/opaque/x", Some("websocket")), false).expect("a request");
    let mut upstream = next(&mut accepted).await;
    let seen = origin.last();
    assert_eq!(seen.line(), "GET /x HTTP/1.1");
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (Some("websocket"), Some("Upgrade")));
    let key = seen.header("sec-websocket-key").expect("a key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    upstream
        .send(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ))
        .await;
    let response = http2::head(response).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for number in 0..3 {
        let text = format!("message {number}\n");
        sending.send_data(Bytes::from(text.clone()), false).expect("the stream is open");
        upstream.until(&text).await;
        upstream.send(&text).await;
        assert_eq!(http2::piece(&mut body).await.expect("a piece").expect("no error"), text);
    }
    sending.send_data(Bytes::new(), true).expect("the stream is open");
    assert_eq!(upstream.end().await, "");
    for (path, protocol, status) in [("/opaque/", Some("other"), 405), ("/mcp", Some("websocket"), 400)] {
        let (response, _) = sender.send_request(connect(path, protocol), true).expect("a request");
        assert_eq!(http2::head(response).await.status(), status, "{path} {protocol:?}");
    }
    let plain = Request::builder().method("CONNECT").uri("edge.example:443").body(()).expect("a request");
    let (response, _) = sender.send_request(plain, true).expect("a request");
    assert_eq!(http2::head(response).await.status(), 405);
    assert_eq!(origin.connections(), 1);
    driver.abort();
}

/// MadeYouReset (CVE-2025-8671): a client that makes the edge reset one stream after the other, by errors of its own, loses its
/// connection. So it cannot start more work than its streams allow.
#[tokio::test]
async fn a_client_that_makes_the_edge_reset_its_streams_loses_its_connection() {
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, "", "").await;
    let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens");
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    let mut sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    // `:method: GET`, `:scheme: http`, `:path: /opaque/`, `:authority: edge.example` (RFC 7541 appendix A).
    let head = [&[0x82, 0x86, 0x04, 8][..], b"/opaque/", &[0x01, 12], b"edge.example"].concat();
    for number in 0..200 {
        let id = 2 * number + 1;
        sent.extend(frame(1, 0x4, id, &head));
        // With this, the window of the stream is larger than the largest (RFC 9113 section 6.9.1).
        sent.extend(frame(8, 0, id, &0x7FFF_FFFF_u32.to_be_bytes()));
    }
    let (mut reading, mut writing) = stream.split();
    let mut seen = Vec::new();
    // The edge may end the connection before it has read everything.
    let (_, end) =
        tokio::join!(writing.write_all(&sent), tokio::time::timeout(PATIENCE, reading.read_to_end(&mut seen)));
    assert!(end.is_ok(), "the connection ends");
    let (mut frames, mut goodbye) = (seen.as_slice(), None);
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if head[3] == 7 {
            goodbye = payload.split_first_chunk::<8>().map(|(fixed, _)| *fixed);
        }
        frames = rest;
    }
    let [_, _, _, last, reason @ ..] = goodbye.expect("a GOAWAY");
    assert_eq!(u32::from_be_bytes(reason), u32::from(Reason::ENHANCE_YOUR_CALM));
    assert_eq!(last, 2 * 100 + 1, "the stream after the hundredth");
}
