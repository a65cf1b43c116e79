//! HTTP: routes, limits, protocol versions, TLS, web pages as clients, and bodies that are streamed.

mod every_way;
mod exchange;
mod fields;
mod fronts;
mod http1;
mod http2_upstreams;
mod informational;
mod limits;
mod origin_and_cors;
mod repeated_heads;
mod routing;
pub(crate) mod streaming;
mod tls;
