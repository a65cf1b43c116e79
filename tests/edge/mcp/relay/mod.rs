//! MCP exchanges: which part of an answer reaches the client, when it arrives, and how it ends.

mod bytes;
mod hostile;
mod http2;
mod leaving;
mod repeated;
mod time;

use std::time::{Duration, Instant};

use crate::harness::{
    Origin, PATIENCE, Reply, TestEdge, answer, call, eventually, message, post, post_stateless, reads_through_pingora,
    request,
};
use crate::http::streaming::wire::{Wire, chunk, held, held_calls, next, parse, raw};
use crate::http::streaming::{EVENTS, PROMPTLY};

const ACCEPT_EVENTS: (&str, &str) = ("Accept", "text/event-stream");
const LAST_CHUNK: &str = "0\r\n\r\n";

/// An edge with a route `/` to `origin`, with further settings of the upstream and of the route.
async fn edge(origin: &Origin, upstream: &str, route: &str) -> TestEdge {
    TestEdge::start(&format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]{upstream}}}}}
routes: [{{path: /, upstream: a, protocol: mcp, auth: none{route}}}]
",
        origin.address
    ))
    .await
}

/// Reads an answer up to `end`, on a connection that then stays open.
async fn reply(client: &mut Wire, end: &str) -> Reply {
    parse(&client.until(end).await).await
}

/// Expects that nothing arrives for this time.
async fn silence(wire: &mut Wire, time: Duration) {
    use tokio::io::AsyncReadExt;
    assert_eq!(String::from_utf8_lossy(&wire.unread), "");
    let read = tokio::time::timeout(time, wire.stream.read_buf(&mut wire.unread)).await;
    assert!(read.is_err(), "{read:?}: {}", String::from_utf8_lossy(&wire.unread));
}
