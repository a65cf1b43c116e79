//! Clients that leave before the answer has begun, or before it is complete.

use http::{Request, Response};

use super::*;
use crate::harness::http2;
use crate::harness::http2::Http2;

/// Expects the upstream's connection to end within [`PROMPTLY`].
async fn ends_promptly(upstream: Wire, what: &str) {
    let begun = Instant::now();
    upstream.end().await;
    assert!(begun.elapsed() < PROMPTLY, "{what}: {:?}", begun.elapsed());
}

/// Expects the edge to read the rest of the answer, although the client has left.
async fn is_read_to_the_end(mut upstream: Wire, head: bool, what: &str) {
    silence(&mut upstream, PROMPTLY).await;
    if head {
        upstream.send(EVENTS).await;
    }
    // This is more than the buffers between the edge and the upstream hold.
    let piece = chunk(&format!("data: {}\n\n", "x".repeat(1 << 20)));
    for _ in 0..24 {
        let sent = tokio::time::timeout(PATIENCE, upstream.send(&piece)).await;
        sent.unwrap_or_else(|_| panic!("the edge does not read: {what}"));
    }
    upstream.send(LAST_CHUNK).await;
    tokio::time::timeout(PATIENCE, upstream.end()).await.expect("the connection has ended");
}

/// For each case: its name, the request, whether the upstream connection must be closed when the client leaves, and
/// settings of the route.
fn requests() -> [(&'static str, String, bool, &'static str); 7] {
    let old = [("MCP-Protocol-Version", "2025-11-25")];
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    [
        ("a stateless call", post_stateless("/mcp", &[], &call("1", "x")), true, ""),
        ("an old call", post("/mcp", &old, &call("1", "x")), false, ""),
        ("an old list", post("/mcp", &old, &message("1", "tools/list", "{}")), false, ""),
        ("a call of no version", post("/mcp", &[], &call("1", "x")), false, ""),
        ("an old call, to be cancelled", post("/mcp", &old, &call("1", "x")), true, ", cancel_on_disconnect: true"),
        ("a GET", request("GET", "/mcp", &[ACCEPT_EVENTS, old[0]], ""), true, ""),
        ("a notification", post("/mcp", &old, notification), false, ""),
    ]
}

async fn a_client_leaves(in_stream: bool) {
    let (origin, mut accepted) = held().await;
    for (what, request, closes, route) in requests() {
        let edge = edge(&origin, "", route).await;
        for reset in [false, true] {
            let mut client = Wire::open(&edge, &request).await;
            let mut upstream = next(&mut accepted).await;
            if in_stream {
                upstream.send(&format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
                client.until("data: {}\n\n\r\n").await;
            }
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            if closes {
                ends_promptly(upstream, what).await;
            } else {
                is_read_to_the_end(upstream, !in_stream, what).await;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_cancels_only_where_leaving_cancels() {
    a_client_leaves(false).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_cancels_only_where_leaving_cancels() {
    a_client_leaves(true).await;
}

/// The client leaves when the edge has read half of a head. The edge must read the rest of the head correctly.
#[tokio::test]
async fn a_client_that_leaves_within_the_head_does_not_break_it() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/ev").await;
    // The edge needs time to read this.
    silence(&mut upstream, Duration::from_millis(200)).await;
    drop(client);
    silence(&mut upstream, Duration::from_millis(200)).await;
    upstream.send("ent-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    is_read_to_the_end(upstream, false, "half a head").await;
}

/// Converts `text`, a request of the harness, to HTTP/2.
fn over_http2(text: &str) -> (Request<()>, String) {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let method = lines.next().and_then(|line| line.split(' ').next()).expect("a method");
    let mut request = Request::builder().method(method).uri("http://edge.example/mcp");
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if !name.eq_ignore_ascii_case("host") {
            request = request.header(name, value);
        }
    }
    (request.body(()).expect("a request"), body.to_owned())
}

async fn an_http_2_client_leaves(in_stream: bool) {
    let (origin, mut accepted) = held().await;
    for (what, request, closes, route) in requests() {
        let edge = edge(&origin, "", route).await;
        // The client resets only its stream, or closes the whole connection.
        for whole in [false, true] {
            let mut http2 = Http2::connect(edge.address).await;
            let (head, body) = over_http2(&request);
            let (response, mut sending) = http2.send(head, body.is_empty()).await;
            if !body.is_empty() {
                sending.send_data(body.into(), true).expect("the stream is open");
            }
            let mut upstream = next(&mut accepted).await;
            let mut answer = None;
            let mut response = Some(response);
            if in_stream {
                upstream.send(&format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
                let mut body = http2::head(response.take().expect("the response is still unread")).await.into_body();
                assert_eq!(http2::piece(&mut body).await.expect("an event").expect("no stream error"), "data: {}\n\n");
                answer = Some(body);
            }
            if whole {
                drop(http2);
            } else {
                sending.send_reset(h2::Reason::CANCEL);
            }
            drop((response, answer));
            let what = format!("{what} over HTTP/2, with its connection: {whole}");
            if closes {
                ends_promptly(upstream, &what).await;
            } else {
                is_read_to_the_end(upstream, !in_stream, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn an_http_2_client_that_leaves_before_the_head_cancels_only_where_leaving_cancels() {
    an_http_2_client_leaves(false).await;
}

#[tokio::test]
async fn an_http_2_client_that_leaves_a_stream_cancels_only_where_leaving_cancels() {
    an_http_2_client_leaves(true).await;
}

#[tokio::test]
async fn a_client_that_leaves_resets_the_stream_of_an_http_2_upstream() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    for in_stream in [false, true] {
        let mut client = Wire::open(&edge, &post_stateless("/mcp", &[], &call("1", "x"))).await;
        let (_request, mut respond) = next(&mut accepted).await;
        let begun;
        let reason = if in_stream {
            let head = Response::builder().header("content-type", "text/event-stream").body(()).expect("a response");
            let mut body = respond.send_response(head, false).expect("the stream is open");
            body.send_data("data: {}\n\n".into(), false).expect("the stream is open");
            client.until("data: {}\n\n").await;
            begun = Instant::now();
            drop(client);
            tokio::time::timeout(PATIENCE, std::future::poll_fn(|context| body.poll_reset(context))).await
        } else {
            begun = Instant::now();
            drop(client);
            tokio::time::timeout(PATIENCE, std::future::poll_fn(|context| respond.poll_reset(context))).await
        };
        reason.expect("a reset in time").expect("a reset");
        assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    }
    assert_eq!(origin.connections(), 1, "the edge resets the stream, not the connection");
}

/// A message that is larger than the buffers between the edge and the upstream.
fn large(method: &str) -> String {
    message("1", method, &format!(r#"{{"name":"train_x","arguments":"{}"}}"#, "x".repeat(12 << 20)))
}

/// The upstream does not read the message. The edge must not wait for the upstream when the client leaves.
#[tokio::test]
async fn a_client_that_leaves_while_its_message_is_being_sent_cancels_too() {
    for http2 in ["", ", http2: true"] {
        let (origin, mut accepted) = raw().await;
        let edge = edge(&origin, http2, ", body_bytes: 16MiB").await;
        let client = Wire::open(&edge, &post_stateless("/mcp", &[], &large("tools/call"))).await;
        let _upstream = next(&mut accepted).await;
        let in_flight = r#"mcp_edge_requests_in_flight{route="/"}"#;
        eventually("it is in flight", async || edge.metric(in_flight).await == 1.0).await;
        drop(client);
        let begun = Instant::now();
        eventually("it has ended", async || edge.metric(in_flight).await == 0.0).await;
        assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_deadline_of_a_tool_counts_the_time_that_its_message_takes() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", ", body_bytes: 16MiB, tools: [{match: 'train_*', timeout: 1s}]").await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &large("tools/call"))).await;
    let _upstream = next(&mut accepted).await;
    let begun = Instant::now();
    let reply = reply(&mut client, "}}}").await;
    assert_eq!((reply.status, &reply.json()["id"]), (200, &1.into()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Case F1: calls of older revisions go on when their clients leave. They do not keep others out, and each caller may have so many.
#[tokio::test]
async fn calls_that_go_on_alone_keep_nobody_out_and_are_bounded() {
    // Where Pingora reads the connection, its place cannot be given away.
    if reads_through_pingora() {
        return;
    }
    let (origin, mut accepted) = held().await;
    let edge = TestEdge::start(&format!(
        "limits: {{connections: 20}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, protocol: mcp, auth: none}}]
",
        origin.address
    ))
    .await;
    let mut alone = Vec::new();
    // 32 of one caller may go on; that is more than there are connections.
    for number in 0..32 {
        let client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
        alone.push(next(&mut accepted).await);
        client.reset();
        eventually(&format!("client {number} has made room"), async || {
            edge.metric("mcp_edge_client_connections").await >= f64::from(number + 1)
        })
        .await;
    }
    for _ in 0..3 {
        let client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
        let one_more = next(&mut accepted).await;
        client.reset();
        ends_promptly(one_more, "one call too many").await;
    }
    for mut upstream in alone {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;
    }
    // When these have ended, others may go on.
    eventually("all have ended", async || edge.metric("mcp_edge_client_connections").await == 0.0).await;
    let client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
    let upstream = next(&mut accepted).await;
    client.reset();
    is_read_to_the_end(upstream, true, "a call after them").await;
}
