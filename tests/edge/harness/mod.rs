//! Starts real edges, origins and issuers.

mod authority;
mod clock;
mod edge;
mod fleet;
mod http;
pub mod http2;
mod idp;
mod message;
mod names;
mod origin;
mod process;
pub mod signer;
mod tokens;

pub use authority::{Authority, Identity};
pub use clock::Clock;
pub use edge::TestEdge;
pub use fleet::Fleet;
pub use http::{Reply, exchange, is_refused_by_error, read_reply, request};
pub use idp::Idp;
pub use message::{answer, call, message, post, post_stateless};
pub use names::Names;
pub use origin::{Origin, Recorded, Recorder, ok};
pub use process::EdgeProcess;
pub use signer::Signer;
pub use tokens::{Claims, Tokens};

use std::time::Duration;

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// True when `MCP_EDGE_TEST_PIPELINE` is set: Pingora then reads all HTTP/1, which the edge otherwise reads itself.
/// Pingora accepts more malformed requests and supports fewer features, so some tests do not apply.
pub fn reads_through_pingora() -> bool {
    std::env::var_os("MCP_EDGE_TEST_PIPELINE").is_some()
}

/// Calls `done` every 10 ms until it returns true. Panics with `what` after [`PATIENCE`].
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(PATIENCE, async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}
