//! An answer that breaks off must not look like a complete answer.

use super::*;

const JSON: &str = r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#;

/// Answers that an origin begins before it is killed, and the part of their body that the client gets.
fn broken_answers() -> [(String, &'static str); 4] {
    let (json, rest) = JSON.split_at(20);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    [
        (format!("{head}Content-Length: {}\r\n\r\n{json}", json.len() + rest.len()), json),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk(json)), json),
        // These break off between two events, and within an event.
        (format!("{EVENTS}{}{}", chunk("data: 1\n\n"), chunk("data: 2\n\n")), "data: 1\n\ndata: 2\n\n"),
        (format!("{EVENTS}{}ff\r\ndata: 2", chunk("data: 1\n\n")), "data: 1\n\ndata: 2"),
    ]
}

#[tokio::test]
async fn a_killed_origin_does_not_end_a_message_cleanly() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    for reset in [false, true] {
        for (answer, expected) in broken_answers() {
            for path in ["/", "/mcp/"] {
                let mut client = Wire::open(&edge, &request("POST", path, &[ACCEPT_EVENTS, IS_JSON], CALL)).await;
                let mut upstream = next(&mut accepted).await;
                upstream.send(&answer).await;
                // A reset may overtake what was sent before it.
                let (_, last) = expected.split_at(expected.len() - 7);
                let seen = client.until(last).await;
                if reset {
                    upstream.reset()
                } else {
                    drop(upstream)
                }
                let reply = parse(&(seen + &client.end().await)).await;
                assert_eq!((reply.status, reply.complete), (200, false), "{path} {reset} {answer}");
                assert_eq!(reply.body, expected, "{path} {reset} {answer}");
            }
        }
    }
    assert_eq!(origin.connections(), 16, "no request is sent again");
}

/// Without a length or chunks, only a reset shows that a message is incomplete.
#[tokio::test]
async fn a_message_that_ends_with_its_connection_ends_cleanly_but_not_by_a_reset() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    for reset in [false, true] {
        let mut client = Wire::open(&edge, &request("GET", "/", &[ACCEPT_EVENTS], "")).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
        let seen = client.until("data: 1\n\n").await;
        let reply = if reset {
            upstream.reset();
            parse(&(seen + &client.end().await)).await
        } else {
            drop(upstream);
            parse(&(seen + &client.until("0\r\n\r\n").await)).await
        };
        assert_eq!((reply.status, reply.body.as_str(), reply.complete), (200, "data: 1\n\n", !reset));
    }
}

#[tokio::test]
async fn a_killed_origin_resets_an_http_2_stream() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    let mut http2 = Http2::connect(edge.address).await;
    for (answer, expected) in broken_answers() {
        let request = Request::get("http://edge.example/").header(ACCEPT_EVENTS.0, ACCEPT_EVENTS.1).body(());
        let (response, _) = http2.send(request.expect("a request"), true).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&answer).await;
        let mut body = http2::head(response).await.into_body();
        let mut seen = String::new();
        while seen != expected {
            let piece = http2::piece(&mut body).await.expect("there is more").expect("nothing is broken yet");
            seen += std::str::from_utf8(&piece).expect("the tests send text");
        }
        drop(upstream);
        let error = http2::piece(&mut body).await.expect("the stream does not end cleanly").expect_err("no more data");
        assert!(error.is_reset(), "{answer}: {error}");
    }
    // The client's connection stays open when the connection of the origin breaks.
    let (response, _) = http2.send(Request::get("http://edge.example/").body(()).expect("a request"), true).await;
    next(&mut accepted).await.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await;
    assert_eq!(http2::text(http2::head(response).await.into_body()).await, "in");
}

#[tokio::test]
async fn a_reset_by_an_http_2_origin_does_not_end_a_message_cleanly() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true").await;
    let mut client = Wire::open(&edge, &request("GET", "/", &[ACCEPT_EVENTS], "")).await;
    let (_request, mut answer) = next(&mut accepted).await;
    let head = Response::builder().header("content-type", "text/event-stream").body(()).expect("a response");
    let mut body = answer.send_response(head, false).expect("the stream is open");
    body.send_data("data: 1\n\n".into(), false).expect("the stream is open");
    let seen = client.until("data: 1\n\n").await;
    body.send_reset(Reason::INTERNAL_ERROR);
    let reply = parse(&(seen + &client.end().await)).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.complete), (200, "data: 1\n\n", false));

    let mut call = Grpc::open(&edge, "/", &mut accepted).await;
    call.talk("before").await;
    call.answer.send_reset(Reason::INTERNAL_ERROR);
    let error = http2::piece(&mut call.body).await.expect("the stream does not end cleanly").expect_err("no more data");
    assert!(error.is_reset(), "{error}");
}
