//! The Model Context Protocol, without I/O.

mod jsonrpc;
mod probe;

pub use jsonrpc::{MessageId, error_message};
pub use probe::{ProbeAnswer, probe_headers, probe_request};
