//! What flows: event streams, HTTP/2 streams and WebSockets, how long they may be silent, and how they end.

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

use crate::harness::http2::{self, Http2};
use crate::harness::{Origin, PATIENCE, Reply, TestEdge, eventually, exchange, read_reply, request};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const ACCEPT_EVENTS: (&str, &str) = ("Accept", "text/event-stream");

/// How soon an upstream connection must end after its client has left: a second, and half of one for a busy machine.
const PROMPTLY: Duration = Duration::from_millis(1500);

/// A connection on either side of the edge, read as its bytes come.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, unread: Vec::new() }
    }

    /// A client's connection to the edge, on which `text` is sent.
    async fn open(edge: &TestEdge, text: &str) -> Self {
        let mut wire = Self::new(TcpStream::connect(edge.address).await.expect("the edge listens"));
        wire.send(text).await;
        wire
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the connection is open");
    }

    /// Everything up to `mark`.
    async fn until(&mut self, mark: &str) -> String {
        let read = tokio::time::timeout(PATIENCE, async {
            loop {
                let at = self.unread.windows(mark.len()).position(|window| window == mark.as_bytes());
                if let Some(at) = at {
                    return self.unread.drain(..at + mark.len()).collect::<Vec<u8>>();
                }
                if !matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {
                    panic!("it ends before `{mark}`: {}", String::from_utf8_lossy(&self.unread));
                }
            }
        });
        String::from_utf8(read.await.unwrap_or_else(|_| panic!("no `{mark}`"))).expect("the tests send text")
    }

    /// Everything up to the connection's end, be it a close or a reset.
    async fn end(mut self) -> String {
        let rest = async { while matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {} };
        tokio::time::timeout(PATIENCE, rest).await.expect("the connection ends");
        String::from_utf8(self.unread).expect("the tests send text")
    }

    /// Ends the connection with a reset.
    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A response as far as it came.
async fn parse(text: &str) -> Reply {
    read_reply(&mut text.as_bytes()).await
}

/// The next of what an origin has accepted.
async fn next<T>(accepted: &mut Receiver<T>) -> T {
    tokio::time::timeout(PATIENCE, accepted.recv()).await.expect("it reaches the origin").expect("the origin is there")
}

/// An origin whose connections the test answers, after their first request.
async fn held() -> (Origin, Receiver<Wire>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |mut stream, recorder| {
        let sender = sender.clone();
        async move {
            if recorder.read(&mut stream).await.is_some() {
                // An error says that the test has ended.
                let _ = sender.send(Wire::new(stream)).await;
            }
        }
    });
    (origin.await, accepted)
}

/// An origin whose connections the test reads and answers from their first byte.
async fn raw() -> (Origin, Receiver<Wire>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |stream, _| {
        let sender = sender.clone();
        async move { drop(sender.send(Wire::new(stream)).await) }
    });
    (origin.await, accepted)
}

/// A request to an HTTP/2 origin, and what it is answered with.
type Call = (Request<RecvStream>, SendResponse<Bytes>);

/// An HTTP/2 origin whose requests the test answers.
async fn held_calls() -> (Origin, Receiver<Call>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |stream, _| {
        let sender = sender.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.expect("the edge speaks HTTP/2");
            while let Some(Ok(call)) = connection.accept().await {
                let _ = sender.send(call).await;
            }
        }
    });
    (origin.await, accepted)
}

/// TCP for `tungstenite`, which reads and writes and says `WouldBlock`.
struct NonBlocking(TcpStream);

impl Read for NonBlocking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for NonBlocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end of a WebSocket.
struct Socket(WebSocket<NonBlocking>);

impl Socket {
    /// Opens one through the edge.
    async fn open(edge: &TestEdge, path: &str) -> tungstenite::Result<Self> {
        let stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        let request = format!("ws://{}{path}", edge.address).into_client_request().expect("a URL");
        shake(client(request, NonBlocking(stream))).await.map(|(socket, _)| Self(socket))
    }

    async fn send(&mut self, message: Message) {
        let mut sent = self.0.send(message);
        while let Err(Error::Io(error)) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.0.get_ref().0.writable().await.expect("a TCP socket");
            sent = self.0.flush();
        }
        sent.expect("the WebSocket is open");
    }

    /// The next message, or how the WebSocket ended.
    async fn receive(&mut self) -> tungstenite::Result<Message> {
        let message = async {
            loop {
                match self.0.read() {
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.0.get_ref().0.readable().await.expect("a TCP socket");
                    }
                    message => return message,
                }
            }
        };
        let message = tokio::time::timeout(PATIENCE, message).await.expect("a message in time");
        if matches!(message, Ok(Message::Close(_))) {
            // The answer to a close waits in the library. An error says that this was the answer, and all is said.
            let _ = self.0.flush();
        }
        message
    }

    async fn text(&mut self) -> String {
        self.receive().await.expect("a message").into_text().expect("a text").to_string()
    }
}

/// A handshake to its end.
async fn shake<R: HandshakeRole<InternalStream = NonBlocking>>(
    mut outcome: Result<R::FinalResult, HandshakeError<R>>,
) -> tungstenite::Result<R::FinalResult> {
    let shaken = async {
        loop {
            match outcome {
                Ok(done) => return Ok(done),
                Err(HandshakeError::Failure(error)) => return Err(error),
                Err(HandshakeError::Interrupted(unfinished)) => {
                    unfinished.get_ref().get_ref().0.readable().await.expect("a TCP socket");
                    outcome = unfinished.handshake();
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, shaken).await.expect("a handshake in time")
}

/// An origin whose WebSockets the test holds.
async fn held_sockets() -> (Origin, Receiver<Socket>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |stream, _| {
        let sender = sender.clone();
        async move {
            let socket = shake(accept(NonBlocking(stream))).await.expect("a WebSocket");
            let _ = sender.send(Socket(socket)).await;
        }
    });
    (origin.await, accepted)
}

/// Routes `/` and `/mcp/` for `origin`, `/ws/` for WebSockets, and `/short/`, which bears a second of silence.
async fn edge(origin: &Origin, upstream: &str) -> TestEdge {
    TestEdge::start(&routes("", &[("a", origin, upstream)])).await
}

/// The same for each of several upstreams, whose routes begin with their names where there is more than one.
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

/// Each piece must arrive before the origin sends the next.
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
        let body = if method == "POST" { "{}" } else { "" };
        let mut client = Wire::open(&edge, &request(method, path, &[ACCEPT_EVENTS], body)).await;
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
        assert_eq!(http2::piece(&mut body).await.expect("an event").expect("whole"), event);
    }
    upstream.send("0\r\n\r\n").await;
    assert_eq!(http2::text(body).await, "", "and its end is an end");
}

/// Request bodies too.
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

/// A call as gRPC makes it, with a client that goes on sending and a server that goes on answering.
struct Grpc {
    _http2: Http2,
    sending: SendStream<Bytes>,
    body: RecvStream,
    /// The other end.
    received: RecvStream,
    answer: SendStream<Bytes>,
    head: Request<()>,
}

impl Grpc {
    async fn open(edge: &TestEdge, path: &str, accepted: &mut Receiver<Call>) -> Self {
        let mut http2 = Http2::connect(edge.address).await;
        let request = Request::post(format!("http://edge.example{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let (response, sending) = http2.send(request.body(()).expect("a request"), false).await;
        let (request, mut answer) = next(accepted).await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a response");
        let answer = answer.send_response(head, false).expect("the stream is open");
        let response = http2::head(response).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/grpc".parse().expect("a value"))
        );
        let (parts, received) = request.into_parts();
        Self {
            _http2: http2,
            sending,
            body: response.into_body(),
            received,
            answer,
            head: Request::from_parts(parts, ()),
        }
    }

    /// One message there and one back.
    async fn talk(&mut self, text: &str) {
        let (there, back) = (format!("there {text}"), format!("back {text}"));
        self.sending.send_data(there.clone().into(), false).expect("the stream is open");
        assert_eq!(http2::piece(&mut self.received).await.expect("a message").expect("whole"), there);
        self.answer.send_data(back.clone().into(), false).expect("the stream is open");
        assert_eq!(http2::piece(&mut self.body).await.expect("a message").expect("whole"), back);
    }
}

#[tokio::test]
async fn http_2_from_end_to_end_with_trailers() {
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
        assert_eq!(http2::piece(&mut call.received).await.expect("a message").expect("whole"), "last");
        assert!(http2::piece(&mut call.received).await.is_none(), "the client has said all");
        call.answer.send_data("answer".into(), false).expect("the stream is open");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().expect("a value"));
        call.answer.send_trailers(trailers).expect("the stream is open");
        assert_eq!(http2::piece(&mut call.body).await.expect("a message").expect("whole"), "answer");
        assert!(http2::piece(&mut call.body).await.is_none());
        let trailers = tokio::time::timeout(PATIENCE, call.body.trailers()).await.expect("trailers in time");
        assert_eq!(trailers.expect("no reset").expect("there are some")["grpc-status"], status);
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
        // The large one is longer than what sockets buffer: someone must read.
        let ((), received) = tokio::join!(client.send(message.clone()), server.receive());
        assert_eq!(received.expect("a message"), message);
        let ((), received) = tokio::join!(server.send(message.clone()), client.receive());
        assert_eq!(received.expect("a message"), message);
    }
    // It can also speak first.
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
    assert_eq!(origin.connections(), 0, "the origin sees nothing of it");
}

/// An origin that does not want to upgrade answers as it likes.
#[tokio::test]
async fn an_origin_may_refuse_to_upgrade() {
    let origin = Origin::answering(|_| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_vec()).await;
    let edge = edge(&origin, "").await;
    let Err(Error::Http(response)) = Socket::open(&edge, "/ws/").await else { panic!("it was upgraded") };
    assert_eq!((response.status().as_u16(), origin.last().header("upgrade")), (403, Some("websocket")));
}

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
    for (method, path, body) in [("GET", "/events/", ""), ("POST", "/events/mcp/", "{}")] {
        let mut client = Wire::open(&edge, &request(method, path, &[ACCEPT_EVENTS], body)).await;
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
    assert_eq!(http2::piece(&mut body).await.expect("an event").expect("whole"), "data: after\n\n");
    client.send(Message::text("there")).await;
    assert_eq!(server.text().await, "there");
    server.send(Message::text("back")).await;
    assert_eq!(client.text().await, "back");
    call.talk("after").await;
}

/// None of the shorter limits is one on a stream.
#[tokio::test]
async fn silent_streams_outlive_all_other_limits() {
    let limits = "header_timeout: 1s, body_timeout: 1s, write_timeout: 1s, keepalive_timeout: 1s";
    silence(limits, ", timeouts: {connect: 1s, response: 1s, keepalive: 1s}", Duration::from_secs(4)).await;
}

#[tokio::test]
async fn a_default_stream_may_be_silent_for_two_minutes() {
    silence("", "", Duration::from_secs(125)).await;
}

/// The client must not take it for the end.
#[tokio::test]
async fn a_stream_that_is_silent_for_too_long_is_cut() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    let mut client = Wire::open(&edge, &request("GET", "/short/", &[ACCEPT_EVENTS], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(EVENTS).await;
    // Not silent, so not cut.
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
    server.receive().await.expect_err("nor here");
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
    let error = http2::piece(&mut call.body).await.expect("not an end").expect_err("no more data");
    assert!(error.is_reset(), "{error}");
    assert!(
        begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    let reset = std::future::poll_fn(|context| call.answer.poll_reset(context));
    assert_eq!(tokio::time::timeout(PATIENCE, reset).await.expect("a reset in time").expect("a reset"), Reason::CANCEL);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_upstream_connection_along() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    let ended = async |what: &str, upstream: Wire, left: Instant| {
        upstream.end().await;
        assert!(left.elapsed() <= PROMPTLY, "{what}: {:?}", left.elapsed());
    };
    for reset in [false, true] {
        // In the middle of events.
        let mut client = Wire::open(&edge, &request("GET", "/", &[ACCEPT_EVENTS], "")).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(&(EVENTS.to_owned() + &chunk("data: 1\n\n"))).await;
        client.until("data: 1\n\n").await;
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        ended("events", upstream, left).await;
        // Before there is any answer.
        for path in ["/", "/mcp/"] {
            let client = Wire::open(&edge, &request("POST", path, &[], "{}")).await;
            let upstream = next(&mut accepted).await;
            let left = Instant::now();
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            ended(path, upstream, left).await;
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
    // And then it leaves as a whole.
    let (response, _sending) = http2.send(get(), true).await;
    let upstream = next(&mut accepted).await;
    let left = Instant::now();
    drop(http2);
    ended("HTTP/2 connection", upstream, left).await;
    drop(response);
}

#[tokio::test]
async fn a_web_socket_client_that_leaves_takes_its_upstream_connection_along() {
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

/// Streams to an HTTP/2 origin share a connection, so there a stream is reset.
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

const JSON: &str = r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#;

/// What an origin sends before it is killed, and what a client has of it.
fn broken_answers() -> [(String, &'static str); 4] {
    let (json, rest) = JSON.split_at(20);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    [
        (format!("{head}Content-Length: {}\r\n\r\n{json}", json.len() + rest.len()), json),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk(json)), json),
        // Between two events, and within one.
        (format!("{EVENTS}{}{}", chunk("data: 1\n\n"), chunk("data: 2\n\n")), "data: 1\n\ndata: 2\n\n"),
        (format!("{EVENTS}{}ff\r\ndata: 2", chunk("data: 1\n\n")), "data: 1\n\ndata: 2"),
    ]
}

#[tokio::test]
async fn a_killed_origin_is_no_end_of_a_message() {
    let (origin, mut accepted) = held().await;
    let edge = edge(&origin, "").await;
    for reset in [false, true] {
        for (answer, expected) in broken_answers() {
            for path in ["/", "/mcp/"] {
                let mut client = Wire::open(&edge, &request("POST", path, &[ACCEPT_EVENTS], "{}")).await;
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
    assert_eq!(origin.connections(), 16, "nothing of it is sent again");
}

/// Without a length or chunks only a reset tells a broken message from a whole one.
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
        let error = http2::piece(&mut body).await.expect("not an end").expect_err("no more data");
        assert!(error.is_reset(), "{answer}: {error}");
    }
    // The connection is the client's, not the origin's.
    let (response, _) = http2.send(Request::get("http://edge.example/").body(()).expect("a request"), true).await;
    next(&mut accepted).await.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await;
    assert_eq!(http2::text(http2::head(response).await.into_body()).await, "in");
}

#[tokio::test]
async fn an_http_2_origin_that_resets_is_no_end_of_a_message() {
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
    let error = http2::piece(&mut call.body).await.expect("not an end").expect_err("no more data");
    assert!(error.is_reset(), "{error}");
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
    // An answer that is no stream is none, however long it takes.
    let mut client = Wire::open(&edge, &request("GET", "/events/mcp/", &[], "")).await;
    let mut upstream = next(&mut accepted).await;
    upstream.send(&EVENTS.replace("text/event-stream", "application/json")).await;
    client.until("\r\n\r\n").await;
    open("/events/mcp/", 0.0).await;
    open("/events/", 3.0).await;

    // One ends, one is killed, one client leaves.
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
    for path in ["/", "/mcp/"] {
        // It is told to go on.
        let begun = Instant::now();
        let mut client = Wire::open(&edge, &expecting(path)).await;
        let mut upstream = next(&mut accepted).await;
        assert!(upstream.until("\r\n\r\n").await.to_ascii_lowercase().contains("expect: 100-continue"));
        upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"), "{path}");
        client.send("hello").await;
        upstream.until("hello").await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await;
        assert!(client.until("in").await.starts_with("HTTP/1.1 200"), "{path}");
        drop(upstream);
        // It is answered before it sent anything.
        let mut client = Wire::open(&edge, &expecting(path)).await;
        let mut upstream = next(&mut accepted).await;
        upstream.until("\r\n\r\n").await;
        upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        assert!(client.until("no").await.starts_with("HTTP/1.1 413"), "{path}");
        drop(client);
        upstream.end().await;
        // The origin does not know the field; the client goes on by itself, as curl does after a second.
        let mut client = Wire::open(&edge, &expecting(path)).await;
        let mut upstream = next(&mut accepted).await;
        upstream.until("\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send("hello").await;
        upstream.until("hello").await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await;
        assert!(client.until("in").await.contains("HTTP/1.1 200"), "{path}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}: {:?}", begun.elapsed());
    }
    // What the edge itself refuses is refused at once.
    for path in ["/a/../", "/mcp/../"] {
        let begun = Instant::now();
        let mut client = Wire::open(&edge, &expecting(path)).await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert!(begun.elapsed() < Duration::from_millis(800), "{path}: {:?}", begun.elapsed());
    }
}

/// 100 is no answer yet.
#[tokio::test]
async fn an_origin_that_dies_after_100_continue_is_502() {
    let (origin, mut accepted) = raw().await;
    let edge = edge(&origin, "").await;
    for path in ["/", "/mcp/"] {
        let text = request("POST", path, &[("Expect", "100-continue"), ("Content-Length", "5")], "");
        let mut client = Wire::open(&edge, &text).await;
        let mut upstream = next(&mut accepted).await;
        upstream.until("\r\n\r\n").await;
        upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"), "{path}");
        client.send("hello").await;
        upstream.until("hello").await;
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
        // Were there a body, the next head would begin with it.
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {head}");
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{method} {path}: {head}");
        assert_eq!(head.contains("Content-Length: 5"), status != "204", "{method} {path}: {head}");
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
