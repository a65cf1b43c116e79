//! Prometheus metrics. Every label value comes from the configuration or from a closed enum, never from a client.

mod endpoint;
mod families;
mod labels;
mod route;

pub use endpoint::{EndpointMetrics, InFlight, UpstreamMetrics};
pub use families::Metrics;
pub use labels::{AuthResult, CacheResult, EndpointResult, Label, RejectionReason, ReloadResult};
pub use route::RouteMetrics;
