//! Build, bind, serve, reload, drain. This module owns every background task.

mod build;
mod descriptors;
mod listener;
mod log_queue;
mod reload;
mod run;
mod shared;
mod socket;
mod tasks;
mod telemetry;
mod tls;
mod watch;
mod workers;

pub use build::build;
pub use reload::{ReloadOutcome, ReloadStatus, Reloader, Trigger};
pub use run::{RunningEdge, StartError, run};
pub use shared::Shared;
pub use telemetry::Telemetry;
pub use workers::Workers;
