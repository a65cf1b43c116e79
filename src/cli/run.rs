//! `mcp-edge run`: serves until SIGTERM.

use std::path::Path;
use std::process::ExitCode;

use super::check::load;
use super::exit::report;
use crate::server;

/// Serves with the configuration at `path`.
pub(super) fn run(path: &Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match server::run(path, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
