//! Pools of replicas: which endpoints there are, which are healthy, and which gets the next request.

mod balance;
mod discovery;
mod endpoint;
mod health;
mod idle;
mod peer;
mod pool;
mod wire;

pub use balance::Table;
pub use endpoint::{Endpoint, EndpointStatus, InFlightGuard};
pub use health::ProbeClient;
pub use pool::{NoEndpoint, Upstream, UpstreamStatus};
pub use wire::{Wire, keep_alive};
