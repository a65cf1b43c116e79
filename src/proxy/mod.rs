//! The data path: Pingora's hooks, each of which delegates to the file that it is about.

mod answer;
mod authorize;
mod body;
mod call;
mod client;
mod clock;
mod context;
mod credential;
mod deadline;
mod downstream;
mod ending;
mod exchange;
mod headers;
mod held;
mod hooks;
mod link;
mod listener;
mod log;
mod message;
mod origin;
mod peer;
mod reject;
mod relay;
mod request;
mod resume;
mod retry;
mod session;
mod snapshot;
mod upstream_head;
mod wellknown;

pub use context::RequestContext;
pub use downstream::Downstream;
pub use hooks::Edge;
pub use listener::ListenerContext;
pub(crate) use log::TARGET as ACCESS_LOG;
pub use snapshot::{RouteContext, Snapshot};
