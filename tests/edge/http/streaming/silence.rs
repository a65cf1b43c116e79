//! How long a stream may be silent.

use super::*;

/// Opens streams of all kinds, keeps silent for `silence`, and expects them to go on.
async fn silence(limits: &str, upstream: &str, silence: Duration) {
    let ((events, mut accepted), (sockets, mut accepted_sockets)) = (held().await, held_sockets().await);
    let (calls, mut accepted_calls) = held_calls().await;
    let yaml = routes(
        limits,
        &[
            ("events", &events, upstream),
            ("sockets", &sockets, upstream),
            ("calls", &calls, &format!("{upstream}, http2: true")),
        ],
    );
    let edge = TestEdge::start(&yaml).await;

    let mut streams = Vec::new();
    for (method, path, body) in [("GET", "/events/", ""), ("GET", "/events/mcp/", ""), ("POST", "/events/mcp/", CALL)] {
        let mut client = Wire::open(&edge, &request(method, path, &[ACCEPT_EVENTS, IS_JSON], body)).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&(EVENTS.to_owned() + &chunk("data: before\n\n"))).await;
        client.until("data: before\n\n").await;
        streams.push((client, upstream));
    }
    let mut http2 = Http2::connect(edge.address).await;
    let call = tokio::spawn(async move { (http2.get("/events/", &[ACCEPT_EVENTS]).await.into_body(), http2) });
    let mut upstream = next(&mut accepted).await;
    upstream.send(EVENTS).await;
    let (mut body, _http2) = call.await.expect("a response");
    let mut client = Socket::open(&edge, "/sockets/ws/").await.expect("it is upgraded");
    let mut server = next(&mut accepted_sockets).await;
    client.send(Message::text("before")).await;
    assert_eq!(server.text().await, "before");
    let mut call = Grpc::open(&edge, "/calls/", &mut accepted_calls).await;
    call.talk("before").await;

    tokio::time::sleep(silence).await;

    for (client, upstream) in &mut streams {
        upstream.send(&chunk("data: after\n\n")).await;
        client.until("data: after\n\n").await;
    }
    upstream.send(&chunk("data: after\n\n")).await;
    assert_eq!(http2::piece(&mut body).await.expect("an event").expect("no stream error"), "data: after\n\n");
    client.send(Message::text("there")).await;
    assert_eq!(server.text().await, "there");
    server.send(Message::text("back")).await;
    assert_eq!(client.text().await, "back");
    call.talk("after").await;
}

/// The other time limits are shorter, but they do not apply to an open stream.
#[tokio::test]
async fn silent_streams_outlive_all_other_limits() {
    let limits = "header_timeout: 1s, body_timeout: 1s, write_timeout: 1s, keepalive_timeout: 1s";
    silence(limits, ", timeouts: {connect: 1s, response: 1s, keepalive: 1s}", Duration::from_secs(4)).await;
}

#[tokio::test]
async fn a_default_stream_may_be_silent_for_two_minutes() {
    silence("", "", Duration::from_secs(125)).await;
}

/// The client must see that the stream was cut: it must not look like a complete answer.
#[tokio::test]
async fn a_stream_that_is_silent_for_too_long_is_cut() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    let mut client = Wire::open(&edge, &request("GET", "/short/", &[ACCEPT_EVENTS], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(EVENTS).await;
    // The stream is not silent, so it is not cut.
    let mut seen = String::new();
    for number in 0..3 {
        upstream.send(&chunk(&format!("data: {number}\n\n"))).await;
        seen += &client.until("\n\n").await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let begun = Instant::now();
    seen += &client.end().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let reply = parse(&seen).await;
    assert_eq!((reply.status, reply.complete), (200, false));
    assert_eq!(reply.body, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    upstream.end().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "the origin's connection is closed too");

    let (sockets, mut accepted) = held_sockets().await;
    let edge = self::edge(&sockets, "").await;
    let begun = Instant::now();
    let mut client = Socket::open(&edge, "/short/").await.expect("it is upgraded");
    let mut server = next(&mut accepted).await;
    client.receive().await.expect_err("no close was sent");
    server.receive().await.expect_err("no close was sent to the server either");
    assert!(
        begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn an_http_2_stream_that_is_silent_for_too_long_is_reset() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true").await;
    let begun = Instant::now();
    let mut call = Grpc::open(&edge, "/short/", &mut accepted).await;
    call.talk("before").await;
    let error = http2::piece(&mut call.body).await.expect("the stream does not end cleanly").expect_err("no more data");
    assert!(error.is_reset(), "{error}");
    assert!(
        begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    let reset = std::future::poll_fn(|context| call.answer.poll_reset(context));
    assert_eq!(tokio::time::timeout(PATIENCE, reset).await.expect("a reset in time").expect("a reset"), Reason::CANCEL);
}
