//! Which requests are sent twice, and which are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use super::*;
use crate::harness::exchange;

/// An origin whose first connection answers one request. It ends without an answer when the next request arrives.
async fn forgetful() -> Origin {
    let connections = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut stream, recorder| {
        let first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let mut answered = 0;
            while recorder.read(&mut stream).await.is_some() {
                if first && answered == 1 {
                    return;
                }
                answered += 1;
                let body = answer("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
                if stream.write_all(&body).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_that_read_are_sent_again_when_their_pooled_connection_has_ended() {
    for body in [
        message("1", "tools/list", "{}"),
        message("1", "prompts/list", "{}"),
        message("1", "resources/templates/list", "{}"),
        message("1", "server/discover", "{}"),
        message("1", "ping", "{}"),
    ] {
        let origin = forgetful().await;
        let edge = edge(&origin, "", "").await;
        assert_eq!(exchange(edge.address, post("/mcp", &[], &body)).await.status, 200);
        assert_eq!(exchange(edge.address, post("/mcp", &[], &body)).await.status, 200, "{body}");
        assert_eq!((origin.connections(), origin.count()), (2, 3), "{body}");
        let bodies: Vec<_> = origin.requests().into_iter().map(|request| request.body).collect();
        assert!(bodies.iter().all(|sent| *sent == body.as_bytes()), "byte for byte");
    }
}

#[tokio::test]
async fn requests_that_may_have_done_something_are_not_sent_again() {
    let batch = format!("[{}]", message("1", "tools/list", "{}"));
    for body in [
        call("1", "x"),
        message("1", "prompts/get", r#"{"name":"x"}"#),
        message("1", "x/unknown", "{}"),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(),
        batch,
    ] {
        let origin = forgetful().await;
        let edge = edge(&origin, "", "").await;
        assert_eq!(exchange(edge.address, post("/mcp", &[], &message("1", "ping", "{}"))).await.status, 200);
        let reply = exchange(edge.address, post("/mcp", &[], &body)).await;
        assert_eq!(reply.status, 502, "{body}");
        assert_eq!((origin.connections(), origin.count()), (1, 2), "{body}");
    }
}

/// When an answer has begun, its request is not sent again, even if the answer is incomplete.
#[tokio::test]
async fn a_request_whose_answer_breaks_off_is_not_sent_again() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        recorder.read(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
            .await;
    })
    .await;
    let edge = edge(&origin, "", "").await;
    let reply = exchange(edge.address, post("/mcp", &[], &message("1", "tools/list", "{}"))).await;
    assert_eq!((reply.status, reply.complete), (200, false));
    assert_eq!(origin.count(), 1);
}
