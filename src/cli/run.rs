//! `mcp-edge run`: serves until SIGTERM.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::check::load;
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
            // If standard error is closed, the error cannot be reported anywhere.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
