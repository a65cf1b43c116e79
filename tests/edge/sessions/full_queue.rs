//! Case F17: a replica whose listen queue is full for a moment. Its sessions are alive.

use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{CALL, Caller, INITIALIZE, start};
use crate::harness::PATIENCE;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;

/// A replica that serves one connection at a time, when it is told so. Its queue holds one more.
async fn replica() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("a free port");
    socket.listen(0).expect("it listens");
    socket.set_nonblocking(true).expect("a socket");
    TcpListener::from_std(socket.into()).expect("the test has an event loop")
}

/// Answers one request on a new connection, and closes it.
async fn serve_one(listener: &TcpListener, body: &str, fields: &str) {
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut read = Vec::new();
    // The clients of the tests send bodies that end so.
    while !read.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut read).await.expect("bytes"), 0, "{}", String::from_utf8_lossy(&read));
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n{fields}");
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.expect("the edge reads");
}

/// Connections that nobody accepts, until another one has to wait.
async fn fill(listener: &TcpListener) -> Vec<TcpStream> {
    let address = listener.local_addr().expect("it is bound");
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.expect("the queue has room"));
        assert!(waiting.len() < 100, "the queue is never full");
    }
    waiting
}

#[tokio::test]
async fn a_full_queue_costs_no_session() {
    let listener = replica().await;
    let address = listener.local_addr().expect("it is bound");
    let edge = start("", &[address], ", timeouts: {connect: 500ms}", "").await;
    let mut caller = Caller::new(edge.address, "/a/", "alice");
    let initialized = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"a","version":"1"}}}"#;
    let opened = async { serve_one(&listener, initialized, "Mcp-Session-Id: one\r\n").await };
    let (reply, ()) = tokio::join!(caller.post(INITIALIZE), opened);
    caller.session = Some(reply.header("mcp-session-id").expect("a session").to_owned());
    let waiting = fill(&listener).await;
    let reply = tokio::time::timeout(PATIENCE, caller.post(CALL)).await.expect("an answer in time");
    assert_eq!(reply.status, 503, "the session is not lost: {}", reply.body);
    assert!(reply.header("retry-after").is_some());
    // The queue is emptied while the first try waits (the system tries again only after 1 s): the second one gets through.
    let drained = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for _ in &waiting {
            drop(listener.accept().await);
        }
        loop {
            // The attempt that was given up may still be in the queue.
            let (stream, _) = listener.accept().await.expect("a client");
            if stream.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
                break stream;
            }
        }
    };
    let answer = async {
        let mut stream = drained.await;
        let mut read = Vec::new();
        while !read.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut read).await.expect("bytes"), 0);
        }
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", RESULT.len());
        stream.write_all((head + RESULT).as_bytes()).await.expect("the edge reads");
    };
    let both = async { tokio::join!(caller.post(CALL), answer) };
    let (reply, ()) = tokio::time::timeout(PATIENCE, both).await.expect("an answer in time");
    assert_eq!((reply.status, reply.body.as_str()), (200, RESULT));
    // A replica that refuses connections has lost its sessions.
    drop((listener, waiting));
    assert_eq!(caller.post(CALL).await.status, 404);
}
