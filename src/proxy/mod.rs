//! The data path: the connections of clients, the decisions about their requests, and the exchange with upstreams.
//!
//! From top to bottom, each using only what is below it: `front` and `hooks` (who reads a connection), `serve` (one request),
//! `gateway`, `exchange` and `admit`, `respond` and `log`, `client` and the small files, `context`.

mod abandoned;
mod admit;
mod client;
mod context;
mod credential;
mod edge;
mod endpoint;
mod exchange;
mod fill;
mod front;
mod gateway;
mod gateway_memory;
mod h2_body;
mod headers;
mod held;
mod hooks;
mod listener;
mod location;
mod log;
mod mcp_session;
mod outbox;
mod respond;
mod resumptions;
mod serve;
mod snapshot;
mod text;
mod within;

pub use client::stream::ClientStream;
pub use context::RequestContext;
pub use edge::Edge;
pub use front::Front;
pub use gateway_memory::catalog::{Catalog, GatewayNames, UnknownTool};
pub use hooks::Hooks;
pub use listener::ListenerContext;
pub(crate) use log::{LineMemory, TARGET as ACCESS_LOG, escaped_json};
pub use snapshot::{Destination, GatewayContext, GatewayServer, RouteContext, ServerContext, Snapshot};
