//! Clients and upstreams that misbehave.

use super::*;
use crate::harness::http2::Http2;
use crate::harness::{EdgeProcess, Recorded, exchange, http2, is_refused_by_error};

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

fn large(size: usize) -> String {
    message("1", "tools/call", &format!(r#"{{"name":"train_x","arguments":"{}"}}"#, "x".repeat(size)))
}

fn whole() -> String {
    String::from_utf8(answer("200 OK", "application/json", OK)).expect("text")
}

/// A server that answers before it has read the whole message would take the next request on the connection for the
/// rest of this message.
#[tokio::test]
async fn a_connection_with_half_a_request_on_it_is_not_used_again() {
    for (limits, tool) in [("", ", tools: [{match: 'train_*', timeout: 1s}]"), ("limits: {write_timeout: 1s}\n", "")] {
        let (origin, mut accepted) = raw().await;
        let edge = TestEdge::start(&format!(
            "{limits}upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, protocol: mcp, auth: none, body_bytes: 16MiB{tool}}}]
",
            origin.address
        ))
        .await;
        let mut client = Wire::open(&edge, &post("/mcp", &[], &large(12 << 20))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.until("\r\n\r\n").await;
        upstream.send(&whole()).await;
        assert_eq!(reply(&mut client, "}}").await.status, 200, "the client gets the server's answer");
        let mut second = Wire::open(&edge, &post("/mcp", &[], &message("2", "ping", "{}"))).await;
        let mut other = next(&mut accepted).await;
        other.until("\r\n\r\n").await;
        other.send(&whole()).await;
        assert_eq!(reply(&mut second, "}}").await.status, 200);
        assert!(!upstream.end().await.contains("POST"), "no other request was sent on this connection");
    }
}

#[tokio::test]
async fn the_memory_of_a_message_is_released_when_it_was_sent() {
    let (origin, mut accepted) = held().await;
    let edge = TestEdge::start(&format!(
        "limits: {{held_bytes: 1MiB}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, protocol: mcp, auth: none, body_bytes: 1MiB}}]
",
        origin.address
    ))
    .await;
    let mut first = Wire::open(&edge, &post("/mcp", &[], &large(700 << 10))).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(&format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
    first.until("data: {}").await;
    let mut second = Wire::open(&edge, &post("/mcp", &[], &large(700 << 10))).await;
    let mut other = next(&mut accepted).await;
    other.send(&whole()).await;
    assert_eq!(reply(&mut second, "}}").await.status, 200);
    upstream.send(&format!("{}{LAST_CHUNK}", chunk(&format!("data: {OK}\n\n")))).await;
    first.until(LAST_CHUNK).await;
}

#[tokio::test]
async fn a_flood_does_not_postpone_the_deadline_of_a_tool() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        use tokio::io::AsyncWriteExt;
        recorder.read(&mut stream).await;
        let events = chunk(&"data: {}\n\n".repeat(2_000));
        let _ = stream.write_all(EVENTS.as_bytes()).await;
        while stream.write_all(events.as_bytes()).await.is_ok() {}
    })
    .await;
    let edge = edge(&origin, "", ", tools: [{match: 'train_*', timeout: 1s}]").await;
    let client = Wire::open(&edge, &post("/mcp", &[], &call("1", "train_x"))).await;
    let begun = Instant::now();
    let (mut stream, mut last) = (client.stream, Vec::new());
    let all = async {
        use tokio::io::AsyncReadExt;
        let mut piece = vec![0; 1 << 16];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            last.extend_from_slice(&piece[..read]);
            let much = last.len().saturating_sub(1 << 10);
            last.drain(..much);
            if last.ends_with(LAST_CHUNK.as_bytes()) {
                return;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(6), all).await;
    assert!(ended.is_ok(), "still going after {:?}", begun.elapsed());
}

/// Some servers, such as WSGI servers, read `Mcp_Session_Id` as `Mcp-Session-Id`. Some frameworks take the method from
/// a header field.
#[tokio::test]
async fn fields_that_some_servers_take_for_others_do_not_pass() {
    let origin = Origin::answering(|_: &Recorded| whole().into_bytes()).await;
    let edge = edge(&origin, "", "").await;
    let fields = [
        ("Mcp_Session_Id", "theirs"),
        ("mcp_session-id", "theirs"),
        ("MCP_Protocol_Version", "2026-07-28"),
        ("Mcp_Method", "tools/list"),
        ("Last_Event_Id", "1"),
        ("X-HTTP-Method-Override", "GET"),
        ("X-Method-Override", "GET"),
        ("X-HTTP-Method", "GET"),
        ("X_HTTP_Method_Override", "GET"),
    ];
    let reply = exchange(edge.address, post("/mcp", &fields, &message("1", "ping", "{}"))).await;
    assert_eq!(reply.status, 200);
    let head = origin.last().head.to_ascii_lowercase().replace('_', "-");
    for name in
        ["mcp-session-id", "mcp-protocol-version", "mcp-method", "last-event-id", "method-override", "x-http-method"]
    {
        assert!(!head.contains(name), "{name}: {head}");
    }
}

/// HTTP/1 removes white space around a value, so the upstream would read another version than the edge.
#[tokio::test]
async fn values_with_white_space_around_them_do_not_pass() {
    let origin = Origin::answering(|_: &Recorded| whole().into_bytes()).await;
    let edge = edge(&origin, "", "").await;
    let mut http2 = Http2::connect(edge.address).await;
    for (version, status) in
        [("2026-07-28 ", 400), (" 2026-07-28", 400), ("2026-07-28\t", 400), ("2026-07-28", 400), ("2025-11-25", 200)]
    {
        let request = http::Request::post("http://edge.example/mcp")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", version)
            .header("mcp-method", "tools/list")
            .header("mcp-name", "another");
        let (response, mut sending) = http2.send(request.body(()).expect("a request"), false).await;
        // An error means that the request was refused before its body was sent.
        let _ = sending.send_data(call("1", "x").into(), true);
        assert_eq!(http2::head(response).await.status(), status, "{version:?}");
    }
    assert_eq!(origin.count(), 1);
}

/// Fields that `Connection` names are not passed on, so the edge must not decide by them.
#[tokio::test]
async fn fields_that_the_edge_decides_by_may_not_be_named_by_connection() {
    let origin = Origin::answering(|_: &Recorded| whole().into_bytes()).await;
    let edge = edge(&origin, "", "").await;
    for named in ["mcp-protocol-version", "close, Mcp-Name", "keep-alive,MCP-METHOD", "Content-Type"] {
        let text = post_stateless("/mcp", &[("Connection", named)], &call("1", "x"));
        assert_eq!(exchange(edge.address, text).await.status, 400, "{named}");
    }
    assert_eq!(origin.count(), 0);
    let text = post_stateless("/mcp", &[("Connection", "x-mine"), ("X-Mine", "1")], &call("1", "x"));
    assert_eq!(exchange(edge.address, text).await.status, 200);
    assert_eq!(origin.last().header("X-Mine"), None);
}

/// RFC 9112 section 9.3.2: answers come in the order of the requests.
#[tokio::test]
async fn pipelined_requests_are_answered_one_after_the_other() {
    const COUNT: usize = 100;
    if crate::harness::reads_through_pingora() {
        // Pingora answers the first one and closes the connection.
        return;
    }
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", "").await;
    let text = |id: usize| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"x":"{}"}}}}"#, "y".repeat(2_000));
    for later in [false, true] {
        let request = |id: usize| post("/mcp", &[], &call(&id.to_string(), "x"));
        let rest: String = (1..COUNT).map(request).collect();
        let mut client = Wire::open(&edge, &if later { request(0) } else { request(0) + &rest }).await;
        let mut upstream = next(&mut accepted).await;
        for id in 0..COUNT {
            upstream.until(&call(&id.to_string(), "x")).await;
            assert!(upstream.unread.is_empty(), "the edge sends one request at a time");
            if later && id == 0 {
                // The first request is still in progress, and the rest is more than the edge reads ahead.
                client.send(&rest).await;
            }
            let answer = answer("200 OK", "application/json", &text(id));
            upstream.send(&String::from_utf8(answer).expect("text")).await;
        }
        for id in 0..COUNT {
            let reply = reply(&mut client, "}}").await;
            assert_eq!((reply.status, reply.body), (200, text(id)), "later: {later}");
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_half_gets_its_answer() {
    use tokio::io::AsyncWriteExt;
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &message("1", "ping", "{}"))).await;
    client.stream.shutdown().await.expect("the sending half can be closed");
    let mut upstream = next(&mut accepted).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    upstream.send(&whole()).await;
    assert_eq!(reply(&mut client, "}}").await.status, 200);
}

#[tokio::test]
async fn extra_bytes_behind_an_answer_reach_no_client() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "", "").await;
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}{LAST_CHUNK}",
        chunk(OK)
    );
    let bare = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_owned();
    for head in [whole(), chunked, bare] {
        for later in [false, true] {
            let mut client = Wire::open(&edge, &post("/mcp", &[], &message("1", "ping", "{}"))).await;
            let mut upstream = next(&mut accepted).await;
            upstream.until("\r\n\r\n").await;
            let evil = String::from_utf8(answer("200 OK", "application/json", r#"{"evil":{}}"#)).expect("text");
            if later {
                upstream.send(&head).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut upstream.stream, evil.as_bytes()).await;
            } else {
                upstream.send(&format!("{head}{evil}")).await;
            }
            let mark = if head.contains("204") {
                "\r\n\r\n"
            } else if head.contains("chunked") {
                LAST_CHUNK
            } else {
                "}}"
            };
            let text = client.until(mark).await;
            assert!(!text.contains("evil"), "{text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(origin.connections(), 6);
}

/// Floods the stream of a client that never reads, until the edge closes the upstream connection.
async fn never_reads(edge: &TestEdge, accepted: &mut tokio::sync::mpsc::Receiver<Wire>, what: &str) {
    let mut upstream = next(accepted).await;
    upstream.send(EVENTS).await;
    let piece = chunk(&format!("data: {}\n\n", "x".repeat(1 << 16)));
    let mut sent = 0;
    let flood = async {
        while tokio::io::AsyncWriteExt::write_all(&mut upstream.stream, piece.as_bytes()).await.is_ok() {
            sent += piece.len();
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.unwrap_or_else(|_| panic!("{what}: never closed"));
    assert!(sent < 32 << 20, "{what}: the edge took more than the buffers hold: {sent}");
    eventually("no stream is open", async || {
        edge.metric(r#"mcp_edge_streams_open{route="/"}"#).await == 0.0
            && edge.metric(r#"mcp_edge_requests_in_flight{route="/"}"#).await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_its_client_never_reads_is_closed() {
    let (origin, mut accepted) = held().await;
    let edge = TestEdge::start(&format!(
        "limits: {{write_timeout: 1s}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, protocol: mcp, auth: none}}]
",
        origin.address
    ))
    .await;
    let _client = Wire::open(&edge, &request("GET", "/mcp", &[ACCEPT_EVENTS], "")).await;
    never_reads(&edge, &mut accepted, "HTTP/1").await;
    let mut http2 = Http2::connect(edge.address).await;
    let request = http::Request::get("http://edge.example/mcp").header("accept", "text/event-stream");
    let (response, _sending) = http2.send(request.body(()).expect("a request"), true).await;
    let getting = tokio::spawn(async move {
        let response = http2::head(response).await;
        std::future::pending::<()>().await;
        drop(response);
    });
    never_reads(&edge, &mut accepted, "HTTP/2").await;
    getting.abort();
}

#[tokio::test]
async fn lists_of_8_mib_and_deeply_nested_json_are_filtered() {
    let origin = Origin::answering(|request: &Recorded| {
        let tools = if request.body.windows(4).any(|w| w == b"deep") {
            format!(r#"{{"name":"a","inputSchema":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000))
        } else {
            vec![r#"{"name":"a"},{"name":"b"}"#; (8 << 20) / 26 - 10].join(",")
        };
        answer("200 OK", "application/json", &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}]}}}}"#))
    })
    .await;
    let edge = edge(&origin, "", ", tools: [{match: a}, {match: 'x*y*z'}]").await;
    for params in ["{}", r#"{"cursor":"deep"}"#] {
        let body = message("1", "tools/list", params);
        let reply = exchange(edge.address, post("/mcp", &[], &body)).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.body.contains(r#""b""#));
    }
}

#[tokio::test]
async fn two_reloads_at_once_do_not_disturb_a_call() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", "").await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
    let mut upstream = next(&mut accepted).await;
    let yaml = format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, protocol: mcp, auth: none, tools: []}}]
",
        origin.address
    );
    let (one, two) = tokio::join!(edge.reload(&yaml), edge.reload(&yaml));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    upstream.send(&whole()).await;
    assert_eq!(reply(&mut client, "}}").await.status, 200);
    let denied = exchange(edge.address, post("/mcp", &[], &call("1", "x"))).await;
    assert!(is_refused_by_error(&denied), "{denied:?}");
}

/// Log lines wait in memory until they are written. Many lines with long names would fill this memory.
#[tokio::test]
async fn a_long_name_of_a_tool_is_shortened_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("edge.yaml");
    let yaml = "listeners: [{address: '127.0.0.1:0', hosts: [edge.example]}]
admin: {address: '127.0.0.1:0'}
upstreams: {a: {endpoints: [{address: '127.0.0.1:1'}]}}
routes: [{path: /, upstream: a, protocol: mcp, auth: none, tools: []}]
";
    std::fs::write(&path, yaml).expect("the folder is writable");
    let mut edge = EdgeProcess::start(&path).await;
    let reply = exchange(edge.address, post("/mcp", &[], &call("1", &"\u{e9}".repeat(1 << 20)))).await;
    assert!(is_refused_by_error(&reply) && reply.body.len() < 2_000, "{} bytes", reply.body.len());
    let line = loop {
        let line = edge.line().await.expect("a line");
        if line.contains("mcp_tool") {
            break line;
        }
    };
    assert!(line.len() < 2_000 && line.contains("\u{e9}..."), "{} bytes", line.len());
}
