//! Which route a request takes.

mod router;
mod target;

pub use router::{Overlap, Router};
pub use target::upstream_path;
