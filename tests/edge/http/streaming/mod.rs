//! Event streams, HTTP/2 streams and WebSockets: how data passes, how long a stream may be silent, and how it ends.

mod broken;
mod grpc;
mod silence;
mod websocket;
pub mod wire;

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::{HandshakeError, HandshakeRole};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket, accept, client};

use crate::harness::http2::Http2;
use crate::harness::{Origin, PATIENCE, Reply, TestEdge, eventually, exchange, http2, read_reply, request};

use grpc::Grpc;
use websocket::*;
use wire::*;

pub const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
pub const ACCEPT_EVENTS: (&str, &str) = ("Accept", "text/event-stream");

/// A message that MCP routes accept in each revision up to 2025-11-25.
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
const IS_JSON: (&str, &str) = ("Content-Type", "application/json");

/// The time in which an upstream connection must end after its client has left: one second, and half a second more for
/// a busy machine.
pub const PROMPTLY: Duration = Duration::from_millis(1500);

/// An edge with four routes to `origin`: `/`, `/mcp/`, `/ws/` for WebSockets, and `/short/`, whose streams may be
/// silent for one second.
async fn edge(origin: &Origin, upstream: &str) -> TestEdge {
    TestEdge::start(&routes("", &[("a", origin, upstream)])).await
}

/// The configuration of these four routes for each of `upstreams`. With several upstreams, each path begins with the
/// name of its upstream.
fn routes(limits: &str, upstreams: &[(&str, &Origin, &str)]) -> String {
    let (mut sections, mut routes) = (String::new(), String::new());
    for (name, origin, settings) in upstreams {
        sections += &format!("  {name}: {{endpoints: [{{address: '{}'}}]{settings}}}\n", origin.address);
        let prefix = if upstreams.len() == 1 { String::new() } else { format!("/{name}") };
        // WebSocket needs HTTP/1.1.
        let upgrade = if settings.contains("http2") { "" } else { ", upgrade: [websocket]" };
        for (path, more) in [("/", ""), ("/mcp/", ", protocol: mcp"), ("/ws/", upgrade), ("/short/", ", idle: 1s")] {
            let more = if path == "/short/" { format!("{more}{upgrade}") } else { more.to_owned() };
            routes += &format!("  - {{path: {prefix}{path}, upstream: {name}, auth: none{more}}}\n");
        }
    }
    format!("limits: {{{limits}}}\nupstreams:\n{sections}routes:\n{routes}")
}

/// Each piece must reach the client before the origin sends the next one.
#[tokio::test]
async fn pieces_pass_one_by_one() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    for (method, path, content_type) in [
        ("GET", "/", "text/event-stream"),
        ("POST", "/mcp/", "text/event-stream"),
        ("GET", "/", "application/json"),
        ("POST", "/mcp/", "application/json"),
    ] {
        let body = if method == "POST" { CALL } else { "" };
        let mut client = Wire::open(&edge, &request(method, path, &[ACCEPT_EVENTS, IS_JSON], body)).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&EVENTS.replace("text/event-stream", content_type)).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.contains(content_type) && head.contains("200 OK"), "{head}");
        for number in 0..3 {
            let piece = format!("data: {number}\n");
            upstream.send(&chunk(&piece)).await;
            client.until(&piece).await;
        }
        upstream.send("0\r\n\r\n").await;
        client.until("0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn pieces_pass_one_by_one_to_an_http_2_client() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    let mut http2 = Http2::connect(edge.address).await;
    let call = tokio::spawn(async move { (http2.get("/", &[ACCEPT_EVENTS]).await, http2) });
    let mut upstream = next(&mut accepted).await;
    upstream.send(EVENTS).await;
    let (response, _http2) = call.await.expect("a response");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        upstream.send(&chunk(&event)).await;
        assert_eq!(http2::piece(&mut body).await.expect("an event").expect("no stream error"), event);
    }
    upstream.send("0\r\n\r\n").await;
    assert_eq!(http2::text(body).await, "", "the stream ends cleanly");
}

/// Bodies of requests are streamed as well.
#[tokio::test]
async fn pieces_of_a_request_pass_one_by_one() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    let mut client = Wire::open(&edge, &request("POST", "/", &[("Transfer-Encoding", "chunked")], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    for number in 0..3 {
        let piece = format!("piece {number}\n");
        client.send(&chunk(&piece)).await;
        upstream.until(&piece).await;
    }
    client.send("0\r\n\r\n").await;
    upstream.until("0\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.until("\r\n\r\n").await;
}

#[tokio::test]
async fn messages_and_trailers_pass_over_http_2_from_end_to_end() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true").await;
    for status in ["0", "13"] {
        let mut call = Grpc::open(&edge, "/pkg.Service/Method", &mut accepted).await;
        assert_eq!(call.head.uri().path(), "/pkg.Service/Method");
        assert_eq!(call.head.uri().authority().expect("an authority"), "edge.example");
        assert_eq!(call.head.headers()["te"], "trailers");
        for number in 0..5 {
            call.talk(&number.to_string()).await;
        }
        call.sending.send_data("last".into(), true).expect("the stream is open");
        assert_eq!(http2::piece(&mut call.received).await.expect("a message").expect("no stream error"), "last");
        assert!(http2::piece(&mut call.received).await.is_none(), "the client has ended its stream");
        call.answer.send_data("answer".into(), false).expect("the stream is open");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().expect("a value"));
        for misplaced in ["content-length", "set-cookie", "www-authenticate", "host"] {
            trailers.insert(misplaced, "5".parse().expect("a value"));
        }
        call.answer.send_trailers(trailers).expect("the stream is open");
        assert_eq!(http2::piece(&mut call.body).await.expect("a message").expect("no stream error"), "answer");
        assert!(http2::piece(&mut call.body).await.is_none());
        let trailers = tokio::time::timeout(PATIENCE, call.body.trailers()).await.expect("trailers in time");
        let trailers = trailers.expect("no reset").expect("the response has trailers");
        assert_eq!((trailers.len(), trailers["grpc-status"].as_bytes()), (1, status.as_bytes()), "{trailers:?}");
    }
    assert_eq!(origin.connections(), 1, "calls share a connection");
}

#[tokio::test]
async fn a_web_socket_carries_messages_both_ways() {
    let (origin, mut accepted) = held_sockets().await;
    let edge = edge(&origin, "").await;
    let mut client = Socket::open(&edge, "/ws/chat").await.expect("it is upgraded");
    let mut server = next(&mut accepted).await;
    let large = vec![7; 1 << 20];
    for message in
        [Message::text("grüße"), Message::binary(vec![0, 255, 10]), Message::text(""), Message::binary(large)]
    {
        // The large message does not fit into the buffers of the sockets, so one end must read while the other end
        // sends.
        let ((), received) = tokio::join!(client.send(message.clone()), server.receive());
        assert_eq!(received.expect("a message"), message);
        let ((), received) = tokio::join!(server.send(message.clone()), client.receive());
        assert_eq!(received.expect("a message"), message);
    }
    // The server can also send first.
    server.send(Message::text("unasked")).await;
    assert_eq!(client.text().await, "unasked");
}

#[tokio::test]
async fn a_web_socket_close_passes_both_ways() {
    let (origin, mut accepted) = held_sockets().await;
    let edge = edge(&origin, "").await;
    for client_first in [true, false] {
        let client = Socket::open(&edge, "/ws/").await.expect("it is upgraded");
        let server = next(&mut accepted).await;
        let (mut closing, mut other) = if client_first { (client, server) } else { (server, client) };
        let frame = CloseFrame { code: CloseCode::Away, reason: "good bye".into() };
        closing.send(Message::Close(Some(frame.clone()))).await;
        assert_eq!(
            other.receive().await.expect("a close"),
            Message::Close(Some(frame)),
            "client first: {client_first}"
        );
        let Message::Close(Some(answer)) = closing.receive().await.expect("an answer") else { panic!("no close") };
        assert_eq!(answer.code, CloseCode::Away);
    }
    eventually("both are closed", async || edge.metric(r#"mcp_edge_streams_open{route="/ws/"}"#).await == 0.0).await;
}

#[tokio::test]
async fn only_a_route_with_upgrade_carries_web_sockets() {
    let (origin, _accepted) = held_sockets().await;
    let edge = edge(&origin, "").await;
    for path in ["/", "/mcp/"] {
        match Socket::open(&edge, path).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 400, "{path}"),
            Err(error) => panic!("{path}: {error}"),
            Ok(_) => panic!("{path}: it was upgraded"),
        }
    }
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (path, body) in [("/ws/", ""), ("/ws/", "hello"), ("/", "hello")] {
        let reply = exchange(edge.address, request("POST", path, &upgrade, body)).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some("bad_request")), "{path} {body}");
    }
    assert_eq!(origin.connections(), 0, "no request reaches the origin");
}

/// When the origin refuses to upgrade, the client gets the origin's answer.
#[tokio::test]
async fn an_origin_may_refuse_to_upgrade() {
    let origin = Origin::answering(|_| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_vec()).await;
    let edge = edge(&origin, "").await;
    let Err(Error::Http(response)) = Socket::open(&edge, "/ws/").await else { panic!("it was upgraded") };
    assert_eq!((response.status().as_u16(), origin.last().header("upgrade")), (403, Some("websocket")));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_upstream_connection() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    let ended = async |what: &str, upstream: Wire, left: Instant| {
        upstream.end().await;
        assert!(left.elapsed() <= PROMPTLY, "{what}: {:?}", left.elapsed());
    };
    for reset in [false, true] {
        let leave = |client: Wire| {
            let left = Instant::now();
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            left
        };
        // In the middle of events.
        for path in ["/", "/mcp/"] {
            let mut client = Wire::open(&edge, &request("GET", path, &[ACCEPT_EVENTS], "")).await;
            let mut upstream = next(&mut accepted).await;
            upstream.send(&(EVENTS.to_owned() + &chunk("data: 1\n\n"))).await;
            client.until("data: 1\n\n").await;
            ended(path, upstream, leave(client)).await;
        }
        // Before the answer has begun.
        let stateless = CALL.replace("}}", r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#);
        let repeated =
            [IS_JSON, ("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "a")];
        for text in [
            request("POST", "/", &[], "{}"),
            request("GET", "/mcp/", &[ACCEPT_EVENTS], ""),
            request("POST", "/mcp/", &repeated, &stateless),
        ] {
            let client = Wire::open(&edge, &text).await;
            let upstream = next(&mut accepted).await;
            ended(&text, upstream, leave(client)).await;
        }
    }
    // An HTTP/2 client resets one stream; the other goes on.
    let mut http2 = Http2::connect(edge.address).await;
    let get = || Request::get("http://edge.example/").body(()).expect("a request");
    let (kept, _sending) = http2.send(get(), true).await;
    let mut other = next(&mut accepted).await;
    let (response, mut sending) = http2.send(get(), true).await;
    let upstream = next(&mut accepted).await;
    let left = Instant::now();
    sending.send_reset(Reason::CANCEL);
    ended("HTTP/2 stream", upstream, left).await;
    drop(response);
    other.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nkept").await;
    assert_eq!(http2::text(http2::head(kept).await.into_body()).await, "kept");
    // The client closes the whole connection.
    let (response, _sending) = http2.send(get(), true).await;
    let upstream = next(&mut accepted).await;
    let left = Instant::now();
    drop(http2);
    ended("HTTP/2 connection", upstream, left).await;
    drop(response);
    // No request was rejected, however its client left.
    let in_flight = r#"mcp_edge_requests_in_flight{route="/"}"#;
    eventually("all have ended", async || edge.metric(in_flight).await == 0.0).await;
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="bad_request"}"#).await, 0.0);
}

/// Up to revision 2025-11-25, a client that leaves does not cancel its call. The call goes on, whether its answer has
/// begun or not.
#[tokio::test]
async fn a_call_of_an_older_revision_goes_on_without_its_client() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    for flows in [false, true] {
        let mut client = Wire::open(&edge, &request("POST", "/mcp/", &[ACCEPT_EVENTS, IS_JSON], CALL)).await;
        let mut upstream = next(&mut accepted).await;
        if flows {
            upstream.send(&(EVENTS.to_owned() + &chunk("data: 1\n\n"))).await;
            client.until("data: 1\n\n").await;
        }
        drop(client);
        let ended = tokio::time::timeout(PROMPTLY, upstream.stream.read_buf(&mut upstream.unread)).await;
        assert!(ended.is_err(), "flows: {flows}: {ended:?}");
        // The edge reads the rest of the answer to its end.
        if !flows {
            upstream.send(EVENTS).await;
        }
        let event = format!("data: {}\n\n", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        for _ in 0..3 {
            upstream.send(&chunk(&event)).await;
        }
        upstream.send("0\r\n\r\n").await;
        upstream.end().await;
    }
    let series =
        r#"mcp_edge_endpoint_in_flight{endpoint="{}",upstream="a"}"#.replace("{}", &origin.address.to_string());
    eventually("the call has ended", async || edge.metric(&series).await == 0.0).await;
}

/// The same for a client that stays and does not read: it does not hold up the answer for longer than `write_timeout`.
#[tokio::test]
async fn a_call_of_an_older_revision_goes_on_when_its_client_does_not_read() {
    let (origin, mut accepted) = held().await;
    let edge = TestEdge::start(&routes("write_timeout: 1s", &[("a", &origin, "")])).await;
    let _client = Wire::open(&edge, &request("POST", "/mcp/", &[ACCEPT_EVENTS, IS_JSON], CALL)).await;
    let mut upstream = next(&mut accepted).await;
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#, "x".repeat(40 << 20));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
    let sent = tokio::time::timeout(PATIENCE, async {
        upstream.send(&head).await;
        upstream.send(&answer).await;
    });
    assert!(sent.await.is_ok(), "the edge reads the whole answer");
}

#[tokio::test]
async fn a_web_socket_client_that_leaves_ends_its_upstream_connection() {
    let (origin, mut accepted) = held_sockets().await;
    let edge = edge(&origin, "").await;
    for politely in [true, false] {
        let mut client = Socket::open(&edge, "/ws/").await.expect("it is upgraded");
        let mut server = next(&mut accepted).await;
        let left = Instant::now();
        if politely {
            client.send(Message::Close(None)).await;
            assert_eq!(server.receive().await.expect("a close"), Message::Close(None));
        }
        drop(client);
        server.receive().await.expect_err("the connection has ended");
        assert!(left.elapsed() <= PROMPTLY, "{:?}", left.elapsed());
    }
}

/// Requests to an HTTP/2 origin share a connection, so the edge resets only the client's stream.
#[tokio::test]
async fn a_client_that_leaves_resets_its_http_2_stream() {
    let (origin, mut accepted) = held_calls().await;
    let edge = edge(&origin, ", http2: true").await;
    for answered in [true, false] {
        let mut client = Wire::open(&edge, &request("GET", "/", &[ACCEPT_EVENTS], "")).await;
        let (_request, mut answer) = next(&mut accepted).await;
        let left;
        let reason = if answered {
            let head = Response::builder().header("content-type", "text/event-stream").body(()).expect("a response");
            let mut body = answer.send_response(head, false).expect("the stream is open");
            client.until("\r\n\r\n").await;
            left = Instant::now();
            drop(client);
            let reset = std::future::poll_fn(|context| body.poll_reset(context));
            tokio::time::timeout(PATIENCE, reset).await
        } else {
            left = Instant::now();
            drop(client);
            let reset = std::future::poll_fn(|context| answer.poll_reset(context));
            tokio::time::timeout(PATIENCE, reset).await
        };
        assert_eq!(reason.expect("a reset in time").expect("a reset"), Reason::CANCEL, "answered: {answered}");
        assert!(left.elapsed() <= PROMPTLY, "answered: {answered}: {:?}", left.elapsed());
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn open_streams_are_counted() {
    let ((events, mut accepted), (sockets, mut accepted_sockets)) = (held().await, held_sockets().await);
    let (calls, mut accepted_calls) = held_calls().await;
    let edge = TestEdge::start(&routes(
        "",
        &[("events", &events, ""), ("sockets", &sockets, ""), ("calls", &calls, ", http2: true")],
    ))
    .await;
    let open = async |route: &str, count: f64| {
        let series = format!(r#"mcp_edge_streams_open{{route="{route}"}}"#);
        eventually(&format!("{route} has {count}"), async || edge.metric(&series).await == count).await;
    };
    let mut streams = Vec::new();
    for number in 1..=3_u8 {
        let mut client = Wire::open(&edge, &request("GET", "/events/", &[ACCEPT_EVENTS], "")).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(EVENTS).await;
        client.until("\r\n\r\n").await;
        streams.push((client, upstream));
        open("/events/", number.into()).await;
    }
    let socket = Socket::open(&edge, "/sockets/ws/").await.expect("it is upgraded");
    let _server = next(&mut accepted_sockets).await;
    open("/sockets/ws/", 1.0).await;
    let call = Grpc::open(&edge, "/calls/", &mut accepted_calls).await;
    open("/calls/", 1.0).await;
    // An answer that is not an event stream is not counted, however long it takes.
    let mut client = Wire::open(&edge, &request("GET", "/events/mcp/", &[], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(&EVENTS.replace("text/event-stream", "application/json")).await;
    client.until("\r\n\r\n").await;
    open("/events/mcp/", 0.0).await;
    open("/events/", 3.0).await;

    // One stream ends, the origin of one breaks off, and the client of one leaves.
    let (mut client, mut upstream) = streams.pop().expect("three were opened");
    upstream.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
    open("/events/", 2.0).await;
    let (client, upstream) = streams.pop().expect("three were opened");
    drop(upstream);
    client.end().await;
    open("/events/", 1.0).await;
    drop(streams);
    open("/events/", 0.0).await;
    drop(socket);
    open("/sockets/ws/", 0.0).await;
    drop(call);
    open("/calls/", 0.0).await;
}

#[tokio::test]
async fn a_client_may_wait_for_100_continue() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    let expecting = |path| request("POST", path, &[("Expect", "100-continue"), ("Content-Length", "5")], "");
    // The origin tells the client to continue.
    let begun = Instant::now();
    let mut client = Wire::open(&edge, &expecting("/")).await;
    let mut upstream = next(&mut accepted).await;
    assert!(upstream.until("\r\n\r\n").await.to_ascii_lowercase().contains("expect: 100-continue"));
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    client.send("hello").await;
    upstream.until("hello").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await;
    assert!(client.until("in").await.starts_with("HTTP/1.1 200"));
    drop(upstream);
    // The origin answers before the client sends its body.
    let mut client = Wire::open(&edge, &expecting("/")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    assert!(client.until("no").await.starts_with("HTTP/1.1 413"));
    drop(client);
    upstream.end().await;
    // The origin ignores `Expect`. The client sends its body after a second, as curl does.
    let mut client = Wire::open(&edge, &expecting("/")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.until("\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send("hello").await;
    upstream.until("hello").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await;
    assert!(client.until("in").await.contains("HTTP/1.1 200"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // A request that the edge itself refuses is refused at once.
    for path in ["/a/../", "/mcp/../"] {
        let begun = Instant::now();
        let mut client = Wire::open(&edge, &expecting(path)).await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert!(begun.elapsed() < Duration::from_millis(800), "{path}: {:?}", begun.elapsed());
    }
}

/// On MCP routes the edge needs the message before it chooses an upstream, so the edge itself sends 100 Continue.
#[tokio::test]
async fn a_client_of_an_mcp_route_may_wait_for_100_continue() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    let length = CALL.len().to_string();
    let expecting = |content_type| {
        let headers = [("Expect", "100-continue"), ("Content-Length", &length), ("Content-Type", content_type)];
        request("POST", "/mcp/", &headers, "")
    };
    for patient in [true, false] {
        let mut client = Wire::open(&edge, &expecting("application/json")).await;
        if patient {
            assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"));
            assert_eq!(origin.connections(), 0, "the edge has no message to send yet");
        }
        client.send(CALL).await;
        let mut upstream = next(&mut accepted).await;
        let head = upstream.until("\r\n\r\n").await.to_ascii_lowercase();
        assert!(!head.contains("expect:") && head.contains(&format!("content-length: {length}\r\n")), "{head}");
        upstream.until(CALL).await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        let said = client.until("done").await;
        let expected = if patient { 0 } else { 1 };
        assert!(said.contains("HTTP/1.1 200") && said.matches("HTTP/1.1 100").count() == expected, "{said}");
        // The connections serve another request.
        client.send(&request("GET", "/mcp/", &[], "")).await;
        upstream.until("\r\n\r\n").await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\non").await;
        client.until("on").await;
    }
    // A request that the edge itself refuses is refused before its body is sent.
    let connections = origin.connections();
    let begun = Instant::now();
    let mut client = Wire::open(&edge, &expecting("text/plain")).await;
    let said = client.until("\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 415"), "{said}");
    assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
    assert_eq!(origin.connections(), connections);
}

/// 100 Continue is not the answer, so the client can still get a 502.
#[tokio::test]
async fn an_origin_that_dies_after_100_continue_is_502() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    for path in ["/", "/mcp/"] {
        let length = CALL.len().to_string();
        let headers = [("Expect", "100-continue"), ("Content-Length", &length), IS_JSON];
        let mut client = Wire::open(&edge, &request("POST", path, &headers, "")).await;
        let upstream = if path == "/mcp/" {
            assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"), "{path}");
            client.send(CALL).await;
            let mut upstream = next(&mut accepted).await;
            upstream.until(CALL).await;
            // The origin sends 100 Continue although the request to it has no `Expect`.
            upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            upstream
        } else {
            let mut upstream = next(&mut accepted).await;
            upstream.until("\r\n\r\n").await;
            upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"), "{path}");
            client.send(CALL).await;
            upstream.until(CALL).await;
            upstream
        };
        drop(upstream);
        let reply = read_reply(&mut client.stream).await;
        assert_eq!((reply.status, reply.header("content-type")), (502, Some("application/json")), "{path}");
    }
    assert_eq!(edge.metric(r#"mcp_edge_requests_total{code="502",route="/"}"#).await, 1.0);
}

#[tokio::test]
async fn answers_without_a_body_keep_both_connections() {
    let origin = Origin::answering(|request| {
        let text = match request.line().split(' ').nth(1) {
            Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
            Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
            _ if request.line().starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        };
        text.as_bytes().to_vec()
    })
    .await;
    let edge = edge(&origin, "").await;
    let mut client = Wire::open(&edge, "").await;
    let requests = [
        ("HEAD", "/", "200"),
        ("GET", "/204", "204"),
        ("GET", "/304", "304"),
        ("HEAD", "/304", "304"),
        ("GET", "/", "200"),
    ];
    for (method, path, status) in requests.repeat(2) {
        client.send(&request(method, path, &[], "")).await;
        let head = client.until("\r\n\r\n").await;
        // If a body followed, the next head would begin with this body.
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {head}");
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{method} {path}: {head}");
        assert_eq!(head.to_ascii_lowercase().contains("content-length: 5"), status != "204", "{method} {path}: {head}");
        if (method, status) == ("GET", "200") {
            client.until("hello").await;
        }
    }
    assert_eq!(origin.connections(), 1, "the origin's connection is kept as well");

    let mut http2 = Http2::connect(edge.address).await;
    for (method, path, status) in requests {
        let request = Request::builder().method(method).uri(format!("http://edge.example{path}")).body(());
        let (response, _) = http2.send(request.expect("a request"), true).await;
        let response = http2::head(response).await;
        assert_eq!(response.status().as_str(), status, "{method} {path}");
        let body = http2::text(response.into_body()).await;
        assert_eq!(body, if (method, status) == ("GET", "200") { "hello" } else { "" }, "{method} {path}");
    }
    assert_eq!(origin.connections(), 1);
}

/// A comment that the edge sends on a silent stream does not take the place of an event that waits for its client.
#[tokio::test]
async fn an_event_that_waits_for_an_http_2_client_is_not_lost() {
    let (origin, mut accepted) = held().await;
    let yaml = routes("", &[("a", &origin, "")]).replace("protocol: mcp", "protocol: mcp, sse_keepalive: 1s");
    let edge = TestEdge::start(&yaml).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(10);
    let stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    let (sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.expect("a handshake");
    let driver = tokio::spawn(async move { drop(connection.await) });
    let get = http::Request::get("http://edge.example/mcp/").header("accept", "text/event-stream").body(());
    let (response, _) = sender.ready().await.expect("open").send_request(get.expect("a request"), true).expect("sent");
    let mut upstream = next(&mut accepted).await;
    let event = format!("data: {}\n\n", "x".repeat(1_000));
    upstream.send(&(EVENTS.to_owned() + &chunk(&event))).await;
    let mut body = http2::head(response).await.into_body();
    // Two comments come due while the event waits.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut seen = String::new();
    while seen.len() < event.len() {
        let piece = http2::piece(&mut body).await.expect("a piece").expect("no error");
        seen.push_str(std::str::from_utf8(&piece).expect("text"));
    }
    assert!(seen.starts_with(&event), "{seen}");
    driver.abort();
}
