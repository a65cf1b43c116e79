//! Answers, byte for byte.

use super::*;
use crate::harness::{exchange, http2};

/// Event streams with all elements that a stream may contain.
const STREAMS: [&str; 4] = [
    ": priming\nid: 0_1\nretry: 250\ndata: \n\n: a comment\n\nevent: message\nid: 0_2\ndata: {\"jsonrpc\":\"2.0\",\ndata:  \
     \"method\":\"notifications/message\"}\n\n\n\nid: 0_3\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"x\":1.0e+2}}\n\n",
    "id:1\r\ndata:{}\r\n\r\n:\r\n\r\nretry\r\n\r\ndata: {\"id\":1,\"result\":{}}\r\n\r\n",
    "\u{feff}data: {}\r\rid\rdata\r\r\u{fffd}unknown: \u{1F600}\r\rdata: 2\r\r",
    "data: {\"id\":1,\"result\":{}}\n\ndata: no end",
];

#[tokio::test]
async fn event_streams_pass_byte_for_byte() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", ", sse_keepalive: 1m").await;
    for stream in STREAMS {
        for cut in [1, 5, stream.len()] {
            for get in [true, false] {
                let request =
                    if get { request("GET", "/mcp", &[ACCEPT_EVENTS], "") } else { post("/mcp", &[], &call("1", "x")) };
                let mut client = Wire::open(&edge, &request).await;
                let mut upstream = next(&mut accepted).await;
                let mut sent = EVENTS.as_bytes().to_vec();
                for piece in stream.as_bytes().chunks(cut) {
                    sent.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                    sent.extend([piece, b"\r\n"].concat());
                }
                sent.extend(LAST_CHUNK.as_bytes());
                tokio::io::AsyncWriteExt::write_all(&mut upstream.stream, &sent).await.expect("the edge reads");
                let reply = crate::harness::read_reply(&mut client.stream).await;
                assert_eq!((reply.status, reply.complete), (200, true));
                assert_eq!(reply.body, stream, "in pieces of {cut}");
            }
        }
    }
}

#[tokio::test]
async fn lines_of_json_pass_one_by_one() {
    let (origin, mut accepted) = held().await;
    // The route filters lists, but these answers are not lists.
    let edge = edge(&origin, "", ", tools: [{match: '*'}]").await;
    for content_type in ["application/json", "application/x-ndjson", "application/json-seq"] {
        let mut client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&EVENTS.replace("text/event-stream", content_type)).await;
        let mut seen = client.until("\r\n\r\n").await;
        let mut whole = String::new();
        for number in 0..3 {
            let line = format!("{{\"n\":{number}.50}}\n");
            upstream.send(&chunk(&line)).await;
            seen += &client.until(&line).await;
            whole += &line;
        }
        upstream.send(LAST_CHUNK).await;
        seen += &client.until(LAST_CHUNK).await;
        assert_eq!(parse(&seen).await.body, whole, "{content_type}");
    }
}

#[tokio::test]
async fn only_event_streams_get_x_accel_buffering() {
    for (content_type, expected) in [
        ("text/event-stream", Some("no")),
        ("text/event-stream; charset=utf-8", Some("no")),
        ("Text/Event-Stream", Some("no")),
        ("application/json", None),
        ("text/plain", None),
    ] {
        let origin = Origin::answering(move |_| answer("200 OK", content_type, "data: {}\n\n")).await;
        let edge = edge(&origin, "", "").await;
        for request in [post("/mcp", &[], &call("1", "x")), request("GET", "/mcp", &[], "")] {
            let reply = exchange(edge.address, request).await;
            assert_eq!(reply.header("X-Accel-Buffering"), expected, "{content_type}");
            assert_eq!(reply.header("Content-Type"), Some(content_type));
        }
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for (sent, expected) in [
        (answer("200 OK", "application/json", body), body),
        (
            format!("{EVENTS}{}{}{LAST_CHUNK}", chunk("data: 1\n\n"), chunk("data: 2\n\n")).into_bytes(),
            "data: 1\n\ndata: 2\n\n",
        ),
    ] {
        let mut client =
            Wire::open(&edge, &post("/mcp", &[], &call("1", "x")).replacen("HTTP/1.1", "HTTP/1.0", 1)).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(std::str::from_utf8(&sent).expect("text")).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "{head}");
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(client.end().await, expected, "the connection ends with the answer");
    }
}

#[tokio::test]
async fn head_is_answered_with_a_head_only() {
    for (sent, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n", Some("500")),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        let origin = Origin::answering(move |request| {
            let is_head = request.line().starts_with("HEAD /mcp ");
            if is_head { sent.as_bytes().to_vec() } else { answer("200 OK", "text/plain", "next") }
        })
        .await;
        // The route filters lists.
        let edge = edge(&origin, "", ", tools: [{match: x}], sse_keepalive: 1s").await;
        let mut client = Wire::open(&edge, &request("HEAD", "/mcp", &[], "")).await;
        let head = client.until("\r\n\r\n").await;
        assert_eq!(head.split(' ').nth(1), sent.split(' ').nth(1), "{head}");
        let head = head.to_ascii_lowercase();
        let told = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
        assert_eq!(told, length, "{head}");
        // The next answer follows directly on the connection.
        client.send(&request("GET", "/mcp", &[], "")).await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        client.until("next").await;

        let mut http2 = http2::Http2::connect(edge.address).await;
        let head = http::Request::head("http://edge.example/mcp").body(()).expect("a request");
        let (response, _) = http2.send(head, true).await;
        let response = http2::head(response).await;
        assert_eq!(response.headers().get("content-length").map(|length| length.to_str().expect("text")), length);
        assert_eq!(http2::text(response.into_body()).await, "");
    }
}

#[tokio::test]
async fn informational_responses_are_not_taken_for_the_answer() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let early =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    for whole in [true, false] {
        let mut client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
        let mut upstream = next(&mut accepted).await;
        let last = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        if whole {
            upstream.send(&format!("{early}{last}")).await;
        } else {
            upstream.send(early).await;
            upstream.send(last).await;
        }
        let reply = reply(&mut client, "{}").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
        assert_eq!(reply.header("Link"), None);
        // The connections can be used again.
        client.send(&post("/mcp", &[], &call("2", "x"))).await;
        let again = upstream.until(r#""id":2"#).await;
        assert!(again.starts_with("POST /mcp "), "{again}");
    }
}

/// A server may refuse a request without reading it to its end.
#[tokio::test]
async fn an_answer_before_the_request_is_read_reaches_the_client() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", ", body_bytes: 16MiB").await;
    let large = message("1", "tools/call", &format!(r#"{{"name":"x","arguments":"{}"}}"#, "x".repeat(12 << 20)));
    let posted = tokio::spawn(exchange(edge.address, post("/mcp", &[], &large)));
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large").await;
    // The connection has unread bytes, so this closes it with a reset.
    drop(upstream);
    let reply = posted.await.expect("a reply");
    assert_eq!((reply.status, reply.body.as_str()), (413, "too large"));
}

/// An incomplete answer does not look like a complete one.
#[tokio::test]
async fn a_truncated_answer_breaks_off() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", ", tools: [{match: '*'}]").await;
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let one = chunk("data: {}\n\n");
    for (sent, seen) in [
        (format!("{json}Content-Length: 100\r\n\r\n{{\"id\":1,"), "{\"id\":1,"),
        (format!("{json}Transfer-Encoding: chunked\r\n\r\n{}", chunk("{\"id\":1,")), "{\"id\":1,"),
        (format!("{EVENTS}{one}"), "data: {}\n\n"),
        (format!("{EVENTS}{one}ff\r\ndata: half"), "data: {}\n\ndata: half"),
        (format!("{}{one}", EVENTS.replace("Transfer-Encoding: chunked", "Content-Length: 500")), ""),
    ] {
        let mut client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&sent).await;
        let before = client.until(if seen.is_empty() { "data: {}" } else { seen.split_at(seen.len() - 4).1 }).await;
        drop(upstream);
        let reply = parse(&(before + &client.end().await)).await;
        assert_eq!((reply.status, reply.complete), (200, false), "{sent}");
        assert!(reply.body.starts_with(seen), "{reply:?}");
    }
    // The edge holds a list until it is complete, so the client can still get an error.
    for sent in [
        format!("{json}Content-Length: 100\r\n\r\n{{\"id\":1}}"),
        format!("{json}Transfer-Encoding: chunked\r\n\r\n{}", chunk("{\"id\":1}")),
    ] {
        let client =
            Wire::open(&edge, &post("/mcp", &[("Connection", "close")], &message("1", "tools/list", "{}"))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&sent).await;
        drop(upstream);
        let reply = parse(&client.end().await).await;
        assert_eq!((reply.status, reply.complete), (502, true), "{sent}");
        assert_eq!(reply.json()["id"], 1);
    }
    // An incomplete event may be a list, so the edge does not pass it on.
    let client = Wire::open(&edge, &request("GET", "/mcp", &[ACCEPT_EVENTS], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(&format!("{EVENTS}{one}{}", chunk("data: {\"result\":"))).await;
    let mut client = client;
    let before = client.until("data: {}\n\n").await;
    drop(upstream);
    let reply = parse(&(before + &client.end().await)).await;
    assert_eq!((reply.complete, reply.body.as_str()), (false, "data: {}\n\n"));
}
