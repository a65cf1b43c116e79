//! Prometheus metrics. Every label value comes from the configuration, from an upstream's list of tools, or from a
//! closed enum, never from a client.

mod call;
mod endpoint;
mod families;
mod keys;
mod labels;
mod route;

pub use call::CallMetrics;
pub use endpoint::{EndpointMetrics, InFlight, UpstreamMetrics};
pub use families::Metrics;
pub use keys::KeyMetrics;
pub use labels::{
    AuthResult, CacheResult, CallOutcome, EndpointResult, KeyFetchResult, Label, RefreshResult, RejectionReason,
    ReloadResult, UpstreamTokenResult,
};
pub use route::RouteMetrics;
