//! `mcp-edge check`: reads a configuration and reports everything that is wrong with it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::exit::{EXIT_USAGE, print};
use crate::config::Config;

/// Loads the configuration at `path`. What is wrong goes to standard error.
///
/// # Errors
/// The exit code, when the configuration has errors.
pub(super) fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|errors| {
        let count = errors.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        // If standard error is closed, nobody can be told.
        let _ = writeln!(std::io::stderr(), "{errors}\n{count} {noun}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// Checks the configuration at `path`.
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
