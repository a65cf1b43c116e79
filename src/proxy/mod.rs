//! The data path: connections of clients, what is decided about their requests, and what becomes of these.

mod admit;
mod client;
mod context;
mod credential;
mod edge;
mod exchange;
mod front;
mod headers;
mod held;
mod listener;
mod log;
mod mcp_session;
mod opaque;
mod respond;
mod snapshot;
mod text;
mod within;

pub use client::stream::Downstream;
pub use context::RequestContext;
pub use edge::Edge;
pub use front::Front;
pub use listener::ListenerContext;
pub(crate) use log::{LineMemory, TARGET as ACCESS_LOG};
pub use opaque::hooks::Hooks;
pub use snapshot::{RouteContext, Snapshot};
