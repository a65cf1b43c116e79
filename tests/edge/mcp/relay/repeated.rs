//! What is sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use super::*;
use crate::harness::exchange;

/// An origin whose first connection answers one request, and ends without an answer when the next one comes.
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
async fn what_reads_is_sent_again_when_its_pooled_connection_had_ended() {
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
async fn what_may_have_done_something_is_not_sent_again() {
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

/// One that is answered, however badly, is answered.
#[tokio::test]
async fn an_answer_that_breaks_off_is_not_asked_for_again() {
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
