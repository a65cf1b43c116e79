//! Bodies of all sizes, in all framings: the bytes that the edge checks are the bytes that arrive, and bodies that are
//! too large are not held.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::guarded::*;
use crate::harness::http2::Http2;
use crate::harness::{Origin, PATIENCE, Reply, eventually, http2, read_reply, request};

/// A call of `size` bytes with the name of the tool at its very end.
fn sized(tool: &str, size: usize) -> String {
    let head = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":""#;
    let tail = format!(r#""}},"name":"{tool}"}}}}"#);
    // The text differs everywhere, so that the test notices when pieces are swapped.
    let mut body = head.to_owned();
    for number in 0.. {
        body.push_str(&format!("{number} "));
        if body.len() + tail.len() >= size {
            break;
        }
    }
    body.truncate(size - tail.len());
    body + &tail
}

/// A POST in chunks of `piece` bytes.
fn chunked(headers: &[(&str, &str)], body: &str, piece: usize) -> Vec<u8> {
    let headers = [headers, &[("Transfer-Encoding", "chunked")]].concat();
    let mut bytes = request("POST", "/guarded/mcp", &headers, "").into_bytes();
    for piece in body.as_bytes().chunks(piece) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Sends a POST over HTTP/2, in frames of `piece` bytes. Returns the status, the challenge and the body of the answer.
async fn over_http2(http2: &mut Http2, token: &str, body: &str, piece: usize) -> (u16, Option<String>, String) {
    let request = Request::post("http://edge.example/guarded/mcp")
        .header("authorization", token)
        .header("content-type", "application/json");
    let (response, mut sending) = http2.send(request.body(()).expect("a request"), false).await;
    let mut rest = Bytes::copy_from_slice(body.as_bytes());
    while !rest.is_empty() {
        let next = rest.split_to(piece.min(rest.len()));
        // The edge may have answered and reset the stream.
        if sending.send_data(next, rest.is_empty()).is_err() {
            break;
        }
    }
    let response = http2::head(response).await;
    let (head, body) = response.into_parts();
    let challenge = head.headers.get("www-authenticate").map(|value| value.to_str().expect("text").to_owned());
    (head.status.as_u16(), challenge, http2::text(body).await)
}

/// Row 57 of the fault matrix: the inspected bytes are the forwarded bytes, whatever their number.
#[tokio::test]
async fn large_bodies_pass_byte_for_byte_and_denied_ones_do_not_pass() {
    let guarded = Guarded::start_with("body_bytes: 1MiB", Origin::answering(answer).await).await;
    let fields = [("Authorization", &*guarded.alice), IS_JSON];
    let mut http2 = Http2::connect(guarded.edge.address).await;
    for size in [200, 16 << 10, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 200_000, 1 << 20] {
        let (allowed, denied) = (sized("get", size), sized("place", size));
        assert_eq!((allowed.len(), denied.len()), (size, size));
        guarded.passes(&[IS_JSON], &allowed).await;
        let reply = guarded.refused(&[IS_JSON], &denied).await;
        assert_denied(&reply, "base read trade", &size.to_string());
        assert_error(&reply, 403, -32001, &json!(1), &size.to_string());
        for piece in [size, 65_536, 1_000] {
            let what = format!("{size} in pieces of {piece}");
            let seen = guarded.origin.count();
            let reply = guarded.exchange(&chunked(&fields, &denied, piece)).await;
            assert_denied(&reply, "base read trade", &what);
            assert_error(&reply, 403, -32001, &json!(1), &what);
            let (status, challenge, body) = over_http2(&mut http2, fields[0].1, &denied, piece).await;
            let error: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!((status, &error["id"], &error["error"]["code"]), (403, &json!(1), &json!(-32001)), "{what}");
            assert!(challenge.is_some_and(|challenge| challenge.contains(r#"scope="base read trade""#)), "{what}");
            assert_eq!(guarded.origin.count(), seen, "{what}");
            let reply = guarded.exchange(&chunked(&fields, &allowed, piece)).await;
            assert_eq!((reply.status, guarded.origin.count()), (200, seen + 1), "{what}: {reply:?}");
            assert!(guarded.origin.last().body == allowed.as_bytes(), "{what}");
            let (status, _, body) = over_http2(&mut http2, fields[0].1, &allowed, piece).await;
            assert_eq!((status, guarded.origin.count()), (200, seen + 2), "{what}: {body}");
            let arrived = guarded.origin.last();
            assert!(arrived.body == allowed.as_bytes(), "{what}");
            assert_eq!(arrived.headers("content-length"), [size.to_string()], "{what}");
            assert!(arrived.headers("transfer-encoding").is_empty(), "{what}");
        }
    }
}

/// Row 41 of the fault matrix, on MCP routes.
#[tokio::test]
async fn one_byte_too_many_is_413_declared_or_not() {
    for limit in [1_000, 64 << 10, 100_000] {
        let origin = Origin::answering(answer).await;
        let guarded = Guarded::start_with(&format!("body_bytes: {limit}B"), origin).await;
        let fields = [("Authorization", &*guarded.alice), IS_JSON];
        let mut http2 = Http2::connect(guarded.edge.address).await;
        let (just, more) = (sized("get", limit), sized("get", limit + 1));
        guarded.passes(&[IS_JSON], &just).await;
        assert_eq!(guarded.exchange(&chunked(&fields, &just, 1_000)).await.status, 200);
        assert_eq!(over_http2(&mut http2, fields[0].1, &just, 1_000).await.0, 200);
        let told = |reply: &Reply| (reply.status, reply.json()["error"].as_str().map(str::to_owned));
        let expected = (413, Some("body_too_large".to_owned()));
        let seen = (guarded.origin.count(), guarded.origin.connections());
        assert_eq!(told(&guarded.refused(&[IS_JSON], &more).await), expected, "{limit}");
        for piece in [limit + 1, 1_000, 1] {
            // A chunk for each byte needs six times as many bytes on the wire, so only the smallest body is sent like
            // this.
            if piece > 1 || limit == 1_000 {
                let reply = guarded.exchange(&chunked(&fields, &more, piece)).await;
                assert_eq!(told(&reply), expected, "{limit} in pieces of {piece}");
            }
        }
        let (status, _, body) = over_http2(&mut http2, fields[0].1, &more, 1_000).await;
        assert!(status == 413 && body.contains("body_too_large"), "{limit}: {status} {body}");
        assert_eq!((guarded.origin.count(), guarded.origin.connections()), seen, "{limit}");
        // A declared length that is too large is refused at once, before the body arrives.
        let length = (limit + 1).to_string();
        let head = request("POST", "/guarded/mcp", &[fields[0], fields[1], ("Content-Length", &length)], "");
        assert_eq!(told(&guarded.exchange(head.as_bytes()).await), expected, "{limit}");
        // A caller without a token gets 401, not 413.
        let reply = guarded.exchange(&post("/guarded/mcp", &[IS_JSON], more.as_bytes())).await;
        assert_eq!(reply.status, 401, "{limit}");
        // The HTTP/2 connection stays open after the refusals.
        assert_eq!(over_http2(&mut http2, fields[0].1, &just, 1_000).await.0, 200);
    }
}

/// In HTTP/2, a body needs neither `Content-Length` nor `Transfer-Encoding`.
#[tokio::test]
async fn over_http_2_only_post_carries_a_body_too() {
    let guarded = Guarded::start().await;
    let mut http2 = Http2::connect(guarded.edge.address).await;
    for method in ["GET", "DELETE", "PUT"] {
        let request = Request::builder()
            .method(method)
            .uri("http://edge.example/guarded/mcp")
            .header("authorization", &guarded.alice)
            .header("content-type", "application/json");
        let (response, mut sending) = http2.send(request.body(()).expect("a request"), false).await;
        // The edge may refuse the request before its body is sent.
        let _ = sending.send_data(call("get").into(), true);
        let status = http2::head(response).await.status().as_u16();
        assert_eq!(status, if method == "PUT" { 405 } else { 400 }, "{method}");
    }
    assert_eq!((guarded.origin.count(), guarded.origin.connections()), (0, 0));
    let reply = http2.get("/guarded/mcp", &[("authorization", &guarded.alice)]).await;
    assert_eq!((reply.status().as_u16(), guarded.origin.count()), (200, 1));
}

/// Row 42 of the fault matrix, on MCP routes: a client that is silent or sends single bytes cannot hold the memory of a
/// message for long, even if much of the message has arrived.
#[tokio::test]
async fn a_message_that_does_not_arrive_in_time_is_408() {
    let guarded = Guarded::start_with("body_timeout: 1s", Origin::answering(answer).await).await;
    let large = sized("get", 30_000);
    let in_time = |begun: Instant, what: &str| {
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(8), "{what}: {took:?}");
    };
    for (what, first, dripping) in [("silence", 0, false), ("a drip", 0, true), ("silence after much", 20_000, false)] {
        let headers = [("Authorization", &*guarded.alice), IS_JSON, ("Content-Length", "30000")];
        let begun = Instant::now();
        let mut stream = TcpStream::connect(guarded.edge.address).await.expect("the edge listens");
        let text = request("POST", "/guarded/mcp", &headers, "") + &large[..first];
        stream.write_all(text.as_bytes()).await.expect("it reads");
        let (mut reading, mut writing) = stream.into_split();
        let drip = tokio::spawn(async move {
            while dripping && writing.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (!dripping).then_some(writing)
        });
        let reply = read_reply(&mut reading).await;
        assert_eq!((reply.status, &reply.json()["error"]), (408, &json!("body_timeout")), "{what}");
        in_time(begun, what);
        drip.abort();
    }
    let mut http2 = Http2::connect(guarded.edge.address).await;
    for first in [0, 20_000] {
        let begun = Instant::now();
        let request = Request::post("http://edge.example/guarded/mcp")
            .header("authorization", &*guarded.alice)
            .header("content-type", "application/json");
        let (response, mut sending) = http2.send(request.body(()).expect("a request"), false).await;
        sending.send_data(Bytes::copy_from_slice(&large.as_bytes()[..first]), false).expect("the stream is open");
        let what = format!("HTTP/2, silence after {first} bytes");
        assert_eq!(http2::head(response).await.status().as_u16(), 408, "{what}");
        in_time(begun, &what);
    }
    assert_eq!(guarded.origin.connections(), 0);
}

/// A client that leaves before its message is complete gets no answer. The request is counted with code 499, not as a
/// rejection.
#[tokio::test]
async fn a_client_may_leave_before_its_message_is_whole() {
    let guarded = Guarded::start().await;
    let bytes = post("/guarded/mcp", &[("Authorization", &*guarded.alice), IS_JSON], sized("get", 100_000).as_bytes());
    let in_flight = r#"mcp_edge_requests_in_flight{route="/guarded/"}"#;
    let begins = async || eventually("it has begun", async || guarded.edge.metric(in_flight).await == 1.0).await;
    let ends = async || eventually("it has ended", async || guarded.edge.metric(in_flight).await == 0.0).await;
    for reset in [false, true] {
        let mut client = TcpStream::connect(guarded.edge.address).await.expect("the edge listens");
        client.write_all(&bytes[..bytes.len() / 2]).await.expect("the edge reads");
        begins().await;
        if reset {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        }
        drop(client);
        ends().await;
        let mut http2 = Http2::connect(guarded.edge.address).await;
        let request = Request::post("http://edge.example/guarded/mcp")
            .header("authorization", &*guarded.alice)
            .header("content-type", "application/json");
        let (_response, mut sending) = http2.send(request.body(()).expect("a request"), false).await;
        sending.send_data(Bytes::from_static(b"{"), false).expect("the stream is open");
        begins().await;
        if reset {
            sending.send_reset(h2::Reason::CANCEL);
        } else {
            drop(http2);
        }
        ends().await;
    }
    let scrape = guarded.edge.admin_get("/metrics").await.body;
    let rejected =
        scrape.lines().filter(|line| line.starts_with("mcp_edge_rejections_total{") && !line.ends_with(" 0"));
    assert_eq!(rejected.collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(guarded.edge.metric(r#"mcp_edge_requests_total{code="499",route="/guarded/"}"#).await, 4.0);
    assert_eq!(guarded.origin.connections(), 0);
}

/// `limits.held_bytes` is the budget of all large bodies together.
#[tokio::test]
async fn large_bodies_share_a_budget_and_release_it() {
    static GATE: Semaphore = Semaphore::const_new(0);
    // The origin answers a large call only when the test adds a permit to the semaphore.
    let origin = Origin::scripted(|mut stream, recorder| async move {
        while let Some(request) = recorder.read(&mut stream).await {
            if request.body.len() > 500_000 {
                GATE.acquire().await.expect("it is never closed").forget();
            }
            if stream.write_all(&answer(&request)).await.is_err() {
                break;
            }
        }
    });
    let guarded = Guarded::start_with("body_bytes: 1MiB, held_bytes: 1MiB", origin.await).await;
    let fields = [("Authorization", &*guarded.alice), IS_JSON];
    let (large, medium, small) = (sized("get", 800_000), sized("get", 300_000), sized("get", 64 << 10));
    let overloaded = async |what: &str| {
        let reply = guarded.refused(&[IS_JSON], &medium).await;
        assert_eq!((reply.status, &reply.json()["error"]), (503, &json!("overloaded")), "{what}");
        assert!(reply.header("retry-after").is_some(), "{what}");
    };
    let given_back = async |what: &str| {
        eventually(what, async || guarded.post(&[IS_JSON], &medium).await.status == 200).await;
        guarded.passes(&[IS_JSON], &medium).await;
    };
    guarded.passes(&[IS_JSON], &medium).await;

    // A call that was sent on and waits for its answer holds the budget.
    let mut client = TcpStream::connect(guarded.edge.address).await.expect("the edge listens");
    client.write_all(&post("/guarded/mcp", &fields, large.as_bytes())).await.expect("the edge reads");
    let arrived = guarded.origin.count();
    eventually("it waits at the origin", async || guarded.origin.count() == arrived + 1).await;
    overloaded("while a large call waits for its answer").await;
    guarded.passes(&[IS_JSON], &small).await;
    let reply = guarded.exchange(&chunked(&fields, &medium, 10_000)).await;
    assert_eq!(reply.status, 503, "a body without a declared length counts as well");
    GATE.add_permits(1);
    assert_eq!(read_reply(&mut client).await.status, 200);
    given_back("the answered call releases the budget").await;

    // Refused calls release the budget as well, even if there are many.
    for _ in 0..10 {
        assert_eq!(guarded.refused(&[IS_JSON], sized("place", 800_000)).await.status, 403);
        assert_eq!(guarded.refused(&[IS_JSON], &large[..800_000 - 1]).await.status, 400);
        let reply = guarded.exchange(&chunked(&fields, &sized("get", 1_100_000), 10_000)).await;
        assert_eq!(reply.status, 413, "the body is larger than `body_bytes`");
    }
    given_back("the refused calls release the budget").await;

    // A call that is still being sent holds the budget. Then it is sent completely, or the client leaves.
    for finished in [true, false] {
        let bytes = post("/guarded/mcp", &fields, large.as_bytes());
        let (most, rest) = bytes.split_at(bytes.len() - 10);
        let mut client = TcpStream::connect(guarded.edge.address).await.expect("the edge listens");
        client.write_all(most).await.expect("the edge reads");
        // The test can see that the edge has read the body only because there is no room for other bodies.
        let full = async || guarded.post(&[IS_JSON], &medium).await.status == 503;
        eventually("the body is held", full).await;
        overloaded("while a large call is being sent").await;
        if finished {
            GATE.add_permits(1);
            client.write_all(rest).await.expect("the edge reads");
            assert_eq!(tokio::time::timeout(PATIENCE, read_reply(&mut client)).await.expect("in time").status, 200);
        } else {
            drop(client);
        }
        given_back(if finished {
            "the finished call releases the budget"
        } else {
            "the abandoned call releases the budget"
        })
        .await;
    }
    assert!(guarded.edge.metric(r#"mcp_edge_rejections_total{reason="overloaded"}"#).await >= 6.0);
}
