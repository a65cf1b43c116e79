//! The command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};
use crate::hash_key::HashKey;
use crate::server;

/// A configuration that does not load, and wrong arguments: nothing was bound, nothing was changed.
const EXIT_USAGE: u8 = 2;

/// An edge proxy for fleets of MCP servers.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM; SIGHUP and changes of the files reload the configuration
    Run {
        /// The YAML file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Read a configuration, report everything that is wrong with it, and exit with 0 or 2
    Check {
        /// The YAML file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Make an API key: the entry for the file of keys on standard output, the key itself on standard error
    HashKey(HashKey),
}

impl Arguments {
    /// Does what was asked. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run { config } => run(&config),
            Command::Check { config } => check(&config),
            Command::HashKey(command) => command.run(),
            Command::Schema => print(&format!("{:#}", config::json_schema())),
        }
    }
}

fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|errors| {
        let count = errors.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        // Nothing is left to do when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{errors}\n{count} {noun}");
        ExitCode::from(EXIT_USAGE)
    })
}

fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            let (routes, upstreams, providers) = (config.routes.len(), config.upstreams.len(), config.providers.len());
            let path = path.display();
            print(&format!("{path}: ok: {routes} routes, {upstreams} upstreams, {providers} providers"))
        }
        Err(code) => code,
    }
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match server::run(path, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
