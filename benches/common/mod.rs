//! What the benches share: the allocator of the real binary, a runtime of one thread, and configurations from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use mcp_edge::config::Config;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Short measurements. The figures are compared with their targets, so a difference of a few percent does not matter.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// A runtime with one thread, so that a figure is the cost of one request and does not depend on the number of
/// processors.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the runtime can be built")
}

/// Writes a file of a configuration.
pub fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("the temporary folder is writable");
    path
}

/// The checked configuration in `path`.
pub fn load(path: &Path) -> Arc<Config> {
    match Config::load(path) {
        Ok(config) => Arc::new(config),
        Err(errors) => panic!("the configuration of the bench has errors: {errors:?}"),
    }
}
