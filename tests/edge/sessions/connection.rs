//! MCP sessions on a connection that several callers share, as behind another proxy. A session id that was valid for
//! one request must not be accepted for the next request without a check.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::harness::read_reply;

/// Sends a caller's request on `stream`, and returns the status of the answer.
async fn status(stream: &mut TcpStream, caller: &Caller) -> u16 {
    stream.write_all(caller.text("POST", &[], CALL).as_bytes()).await.expect("the connection is open");
    read_reply(stream).await.status
}

#[tokio::test]
async fn a_request_does_not_inherit_the_session_of_the_request_before() {
    let origin = server("a").await;
    let keys = [("old.key", "old old old old old old old old 1"), ("new.key", "new new new new new new new new 1")];
    let config = |keys: &str| yaml(&format!("sessions: {{keys: [{keys}]}}"), &[origin.address], "", "");
    let edge = TestEdge::start_with(&config("{file: new.key}, {file: old.key}"), &keys).await;
    let old_edge = TestEdge::start_with(&config("{file: old.key}"), &keys).await;
    let alice = Caller::open(old_edge.address, "/a/mcp", "alice").await.at(&edge);
    let bob = Caller { session: alice.session.clone(), ..Caller::new(edge.address, "/a/mcp", "bob") };
    let elsewhere = Caller { path: "/b/mcp".to_owned(), ..alice.clone() };
    let mut id = alice.id().to_owned();
    id.replace_range(id.len() - 2.., if id.ends_with("AA") { "BB" } else { "AA" });
    let forger = Caller { session: Some(id), ..alice.clone() };
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    assert_eq!(status(&mut stream, &alice).await, 200);
    for (name, stranger) in [("bob", &bob), ("elsewhere", &elsewhere), ("forger", &forger)] {
        assert_eq!(status(&mut stream, stranger).await, 404, "{name}");
        assert_eq!(status(&mut stream, &alice).await, 200, "after {name}");
    }
    edge.reload(&config("{file: new.key}")).await.expect("it reloads");
    assert_eq!(status(&mut stream, &alice).await, 404, "the removed key opens no session");
    assert_eq!(edge.metric("mcp_edge_client_connections").await, 1.0, "all requests used one connection");
}
