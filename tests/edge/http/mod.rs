//! HTTP: routes, limits, versions, web pages, and bodies that stream.

mod http1;
mod limits;
mod origin_and_cors;
mod repeated_heads;
mod routing;
pub(crate) mod streaming;
mod tls;
