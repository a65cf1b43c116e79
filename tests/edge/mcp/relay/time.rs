//! How long an answer may take, and the comments that keep a silent stream alive.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const COMMENT: &str = "3\r\n:\n\n\r\n";

#[tokio::test]
async fn silent_streams_get_comments_between_events() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", ", sse_keepalive: 1s").await;
    for get in [true, false] {
        let request =
            if get { request("GET", "/mcp", &[ACCEPT_EVENTS], "") } else { post("/mcp", &[], &call("1", "x")) };
        let mut client = Wire::open(&edge, &request).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(EVENTS).await;
        client.until("\r\n\r\n").await;
        // The stream is silent from the start.
        let begun = Instant::now();
        assert_eq!(client.until("\n\n\r\n").await, COMMENT);
        assert!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
        // There are no comments while events arrive.
        for number in 0..4 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let event = chunk(&format!("data: {number}\n\n"));
            upstream.send(&event).await;
            assert_eq!(client.until("\n\n\r\n").await, event);
        }
        assert_eq!(client.until("\n\n\r\n").await, COMMENT);
        assert_eq!(client.until("\n\n\r\n").await, COMMENT);
        // There are no comments within an event.
        upstream.send(&chunk("id: 7\ndata: ha")).await;
        client.until("ha\r\n").await;
        silence(&mut client, Duration::from_millis(2_500)).await;
        upstream.send(&chunk("lf\n")).await;
        assert_eq!(client.until("lf\n\r\n").await, chunk("lf\n"));
        silence(&mut client, Duration::from_millis(1_500)).await;
        upstream.send(&chunk("\n")).await;
        assert_eq!(client.until("\n\r\n").await, chunk("\n"));
        assert_eq!(client.until("\n\n\r\n").await, COMMENT);
        upstream.send(LAST_CHUNK).await;
        assert_eq!(client.until(LAST_CHUNK).await, LAST_CHUNK);
    }
}

/// The edge holds an event until it is complete and can be filtered. For the client this event has not begun, so a
/// comment may come before it.
#[tokio::test]
async fn comments_do_not_damage_streams_that_are_filtered() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", ", sse_keepalive: 1s, tools: [{match: free}]").await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &message("1", "tools/list", "{}"))).await;
    let mut upstream = next(&mut accepted).await;
    upstream
        .send(&format!("{EVENTS}{}", chunk("id: 1\ndata: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"secret\"}")))
        .await;
    let mut seen = client.until("\r\n\r\n").await;
    seen += &client.until(":\n\n\r\n").await;
    upstream.send(&chunk("]}}\n\n")).await;
    upstream.send(LAST_CHUNK).await;
    seen += &client.until(LAST_CHUNK).await;
    let body = parse(&seen).await.body;
    let events = body.trim_start_matches(":\n\n");
    assert_eq!(events, "id: 1\ndata: {\"id\":1,\"result\":{\"tools\":[]}}\n\n");
}

#[tokio::test]
async fn streams_get_no_comments_without_the_setting_nor_do_other_answers() {
    let (origin, mut accepted) = held().await;
    let (without, with) = (edge(&origin, "", "").await, edge(&origin, "", ", sse_keepalive: 1s").await);
    let mut silent = Vec::new();
    for (edge, content_type) in [(&without, "text/event-stream"), (&with, "application/json")] {
        let mut client = Wire::open(edge, &post("/mcp", &[], &call("1", "x"))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&EVENTS.replace("text/event-stream", content_type)).await;
        client.until("\r\n\r\n").await;
        silent.push((client, upstream));
    }
    for (client, _) in &mut silent {
        silence(client, Duration::from_millis(1_500)).await;
    }
}

const TOOLS: &str = ", tools: [{match: 'train_*', timeout: 1s}, {match: 'learn_*', timeout: 2s}, \
                     {match: 'report_*', timeout: 30s}, {match: '*'}]";

#[tokio::test]
async fn a_tool_that_takes_too_long_is_an_error_of_json_rpc() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", TOOLS).await;
    let begun = Instant::now();
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call(r#""a""#, "train_model"))).await;
    let upstream = next(&mut accepted).await;
    let reply = reply(&mut client, "}}}").await;
    assert!(
        begun.elapsed() > Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(reply.status, 200, "older SDKs end their session at any other status");
    assert_eq!((&reply.json()["id"], &reply.json()["error"]["code"]), (&"a".into(), &(-32004).into()));
    assert_eq!(upstream.end().await, "", "the edge closes the upstream connection");
    assert_eq!(origin.count(), 1, "the call is not sent again");
}

#[tokio::test]
async fn a_stream_of_a_tool_that_takes_too_long_ends_with_an_error() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", TOOLS).await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("7", "train_model"))).await;
    let mut upstream = next(&mut accepted).await;
    let begun = Instant::now();
    upstream.send(&format!("{EVENTS}{}", chunk("id: 1\ndata: \n\n"))).await;
    // The stream is not silent, but it reports no progress.
    let mut seen = String::new();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        upstream
            .send(&chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n"))
            .await;
    }
    seen += &client.until(LAST_CHUNK).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let reply = parse(&seen).await;
    assert_eq!((reply.status, reply.complete), (200, true));
    let last = reply.body.trim_end().rsplit("\n\n").next().expect("an event");
    let data = last.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let error: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(
        (&error["jsonrpc"], &error["id"], &error["error"]["code"]),
        (&"2.0".into(), &7.into(), &(-32004).into())
    );
    assert!(reply.body.starts_with("id: 1\ndata: \n\n") && reply.body.ends_with("\n\n"), "{}", reply.body);
    upstream.end().await;
    // The client's connection stays open.
    client.send(&post("/mcp", &[], &call("8", "other"))).await;
    next(&mut accepted).await.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").await;
    client.until("next").await;
}

/// The upstream sends without a pause, so the edge is never idle. It must check the deadline all the same.
#[tokio::test]
async fn a_tool_that_never_pauses_has_the_same_deadline() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", TOOLS).await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("7", "train_model"))).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(EVENTS).await;
    let event =
        chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n").repeat(1000);
    // The flood ends when the edge closes the connection.
    let flood = tokio::spawn(async move { while upstream.stream.write_all(event.as_bytes()).await.is_ok() {} });
    let read = async {
        let mut last = Vec::new();
        while !last.ends_with(LAST_CHUNK.as_bytes()) {
            let mut piece = Vec::with_capacity(1 << 16);
            assert!(
                client.stream.read_buf(&mut piece).await.expect("the stream goes on") > 0,
                "the stream ends with its last chunk"
            );
            last.extend_from_slice(&piece);
            last.drain(..last.len().saturating_sub(1_000));
        }
        String::from_utf8(last).expect("the tests send text")
    };
    let end = tokio::time::timeout(Duration::from_secs(8), read).await.expect("the deadline holds");
    assert!(end.contains("-32004"), "{end}");
    flood.await.expect("the upstream's connection is closed");
}

/// An error within another event would damage this event, so the edge waits for the end of the event.
#[tokio::test]
async fn a_stream_that_is_late_within_an_event_ends_after_this_event() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", TOOLS).await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("7", "train_model"))).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(&format!("{EVENTS}{}", chunk("data: half"))).await;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    upstream.send(&chunk(" whole\n\n")).await;
    let reply = parse(&client.until(LAST_CHUNK).await).await;
    let (event, error) = reply.body.split_once("\n\n").expect("two events");
    assert_eq!((reply.status, reply.complete, event), (200, true, "data: half whole"));
    assert!(error.contains("-32004"), "{error}");
    upstream.end().await;
}

#[tokio::test]
async fn an_event_that_does_not_end_is_cut_a_second_after_the_deadline() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", TOOLS).await;
    for silent in [true, false] {
        let begun = Instant::now();
        let client = Wire::open(&edge, &post("/mcp", &[], &call("7", "train_model"))).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&format!("{EVENTS}{}", chunk("data: half"))).await;
        let dripped = tokio::spawn(async move {
            while !silent && upstream.stream.write_all(chunk("x").as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            upstream.end().await
        });
        let reply = parse(&client.end().await).await;
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(1_900) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!((reply.status, reply.complete), (200, false));
        assert_eq!(reply.body.trim_end_matches('x'), "data: half");
        dripped.await.expect("the upstream's connection is closed");
    }
}

#[tokio::test]
async fn progress_restarts_the_deadline_of_a_tool() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "", TOOLS).await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("7", "learn_words"))).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(EVENTS).await;
    let begun = Instant::now();
    let mut sent = String::new();
    let mut seen = String::new();
    for step in 0..6 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let event = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":1,\"progress\":{step}}}}}\n\n"
        );
        upstream.send(&chunk(&event)).await;
        seen += &client.until(&event).await;
        sent += &event;
    }
    assert!(begun.elapsed() > Duration::from_secs(3));
    let result = "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n\n";
    upstream.send(&(chunk(result) + LAST_CHUNK)).await;
    seen += &client.until(LAST_CHUNK).await;
    let reply = parse(&seen).await;
    assert_eq!((reply.complete, reply.body), (true, sent + result));
}

#[tokio::test]
async fn the_deadline_of_a_tool_replaces_the_limits_of_its_upstream() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, ", timeouts: {response: 1s, idle: 1s}", TOOLS).await;
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("7", "report_sales"))).await;
    let mut upstream = next(&mut accepted).await;
    let mut other = Wire::open(&edge, &post("/mcp", &[], &call("8", "other"))).await;
    let _other_upstream = next(&mut accepted).await;
    let late = reply(&mut other, "}}}").await;
    assert_eq!((late.status, &late.json()["id"]), (504, &8.into()), "the upstream's limit applies to other tools");
    tokio::time::sleep(Duration::from_millis(500)).await;
    upstream.send(EVENTS).await;
    // The tool may also be silent after its stream has begun.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    upstream.send(&(chunk("data: {\"id\":7,\"result\":{}}\n\n") + LAST_CHUNK)).await;
    let reply = reply(&mut client, LAST_CHUNK).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "data: {\"id\":7,\"result\":{}}\n\n"));
}
