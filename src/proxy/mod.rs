//! The data path: Pingora's hooks, each of which delegates to the file that it is about.

mod body;
mod context;
mod deadline;
mod downstream;
mod headers;
mod hooks;
mod listener;
mod log;
mod peer;
mod reject;
mod request;
mod retry;
mod snapshot;
mod wellknown;

pub use context::RequestContext;
pub use downstream::Downstream;
pub use hooks::Edge;
pub use listener::ListenerContext;
pub(crate) use log::TARGET as ACCESS_LOG;
pub use snapshot::{RouteContext, Snapshot};
