//! Upstreams that speak HTTP/2.

use h2::Reason;
use http::Response;

use super::*;
use crate::harness::http2::text;

fn head(content_type: &str) -> Response<()> {
    Response::builder().header("content-type", content_type).body(()).expect("a response")
}

#[tokio::test]
async fn a_call_and_a_stream_pass_over_http_2() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", ", tools: [{match: 'x*'}]").await;
    let body = call("1", "x");
    let mut client = Wire::open(&edge, &post("/mcp?a=b", &[("X-Own", "1")], &body)).await;
    let (request, mut respond) = next(&mut accepted).await;
    assert_eq!(request.uri().path_and_query().map(|target| target.as_str()), Some("/mcp?a=b"));
    assert_eq!(request.uri().authority().map(|name| name.as_str()), Some(&*origin.address.to_string()));
    assert_eq!(request.method(), "POST");
    assert_eq!(request.headers()["x-own"], "1");
    for name in ["host", "connection", "transfer-encoding"] {
        assert!(!request.headers().contains_key(name), "{:?}", request.headers());
    }
    assert_eq!(text(request.into_body()).await, body);
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let mut answer = respond.send_response(head("application/json"), false).expect("the stream is open");
    answer.send_data(result.into(), true).expect("the stream is open");
    let first = reply(&mut client, LAST_CHUNK).await;
    assert_eq!((first.status, first.body.as_str(), first.complete), (200, result, true));

    client.send(&post("/mcp", &[], &message("2", "tools/list", "{}"))).await;
    let (_request, mut respond) = next(&mut accepted).await;
    let mut answer = respond.send_response(head("text/event-stream"), false).expect("the stream is open");
    let mut seen = String::new();
    for number in 0..3 {
        let event = format!("id: {number}\ndata: {{}}\n\n");
        answer.send_data(event.clone().into(), false).expect("the stream is open");
        seen += &client.until(&event).await;
    }
    answer
        .send_data("data: {\"result\":{\"tools\":[{\"name\":\"secret\"},{\"name\":\"xx\"}]}}\n\n".into(), true)
        .expect("the stream is open");
    seen += &client.until(LAST_CHUNK).await;
    let second = parse(&seen).await;
    assert_eq!(second.header("X-Accel-Buffering"), Some("no"));
    assert!(second.body.ends_with("data: {\"result\":{\"tools\":[{\"name\":\"xx\"}]}}\n\n"), "{}", second.body);

    client.send(&crate::harness::request("GET", "/mcp", &[ACCEPT_EVENTS], "")).await;
    let (request, mut respond) = next(&mut accepted).await;
    assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/mcp"));
    assert_eq!(text(request.into_body()).await, "", "the edge ends the body, which is empty");
    respond
        .send_response(Response::builder().status(405).body(()).expect("a response"), true)
        .expect("the stream is open");
    assert_eq!(reply(&mut client, LAST_CHUNK).await.status, 405);
    assert_eq!(origin.connections(), 1, "one connection carries all");
}

/// Three clients call at once, on one upstream connection.
#[tokio::test]
async fn calls_share_a_connection_over_http_2() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    let mut clients = Vec::new();
    for id in ["1", "2", "3"] {
        let client = Wire::open(&edge, &post("/mcp", &[], &call(id, "x"))).await;
        clients.push((id, client, next(&mut accepted).await));
    }
    clients.reverse();
    for (id, client, (_, respond)) in &mut clients {
        let mut answer = respond.send_response(head("application/json"), false).expect("the stream is open");
        answer.send_data(format!("answer {id}").into(), true).expect("the stream is open");
        assert_eq!(reply(client, LAST_CHUNK).await.body, format!("answer {id}"));
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn only_requests_that_read_are_sent_again_over_http_2() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    let respond_with = |respond: &mut h2::server::SendResponse<::bytes::Bytes>, body: &'static str| {
        let mut answer = respond.send_response(head("application/json"), false).expect("the stream is open");
        answer.send_data(body.into(), true).expect("the stream is open");
    };
    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("0", "x"))).await;
    respond_with(&mut next(&mut accepted).await.1, "first");
    assert_eq!(reply(&mut client, LAST_CHUNK).await.body, "first");
    // This connection has served a request before. A failure on it does not mean that the replica has failed.
    client.send(&post("/mcp", &[], &message("1", "tools/list", "{}"))).await;
    next(&mut accepted).await.1.send_reset(Reason::INTERNAL_ERROR);
    respond_with(&mut next(&mut accepted).await.1, "second");
    assert_eq!(reply(&mut client, LAST_CHUNK).await.body, "second");

    let mut client = Wire::open(&edge, &post("/mcp", &[], &call("2", "x"))).await;
    let (_, mut respond) = next(&mut accepted).await;
    respond.send_reset(Reason::INTERNAL_ERROR);
    let reply = reply(&mut client, "}}}").await;
    assert_eq!((reply.status, &reply.json()["id"]), (502, &2.into()));
    let again = tokio::time::timeout(Duration::from_millis(300), accepted.recv()).await;
    assert!(again.is_err(), "a call may have done something");
}

#[tokio::test]
async fn a_reset_by_an_http_2_upstream_does_not_end_an_answer_cleanly() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true", "").await;
    for content_type in ["text/event-stream", "application/json"] {
        let mut client = Wire::open(&edge, &post("/mcp", &[], &call("1", "x"))).await;
        let (_request, mut respond) = next(&mut accepted).await;
        let mut answer = respond.send_response(head(content_type), false).expect("the stream is open");
        answer.send_data("data: {}\n\n".into(), false).expect("the stream is open");
        let seen = client.until("data: {}\n\n").await;
        answer.send_reset(Reason::INTERNAL_ERROR);
        let reply = parse(&(seen + &client.end().await)).await;
        assert_eq!((reply.status, reply.complete, reply.body.as_str()), (200, false, "data: {}\n\n"), "{content_type}");
    }
}
