//! `mcp-edge check`: reads a configuration and reports everything that is wrong with it.

use std::path::Path;
use std::process::ExitCode;

use super::exit::{EXIT_USAGE, print, report};
use crate::config::Config;

/// Loads the configuration at `path`. Its errors are written to standard error.
///
/// # Errors
/// The configuration has errors. The value is the exit code.
pub(super) fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|errors| {
        let count = errors.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        report(&format!("{errors}\n{count} {noun}"));
        ExitCode::from(EXIT_USAGE)
    })
}

/// Checks the configuration at `path` and reports the result.
pub(super) fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            let (routes, upstreams, providers) = (config.routes.len(), config.upstreams.len(), config.providers.len());
            let path = path.display();
            print(&format!("{path}: ok: {routes} routes, {upstreams} upstreams, {providers} providers"))
        }
        Err(code) => code,
    }
}
