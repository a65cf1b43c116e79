//! Finds the route of a request, and the path for its upstream.

mod router;
mod target;

pub use router::{Overlap, Router};
pub use target::upstream_path;
