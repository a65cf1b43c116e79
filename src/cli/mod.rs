//! The command line: one file for each command.

mod check;
mod exit;
mod hash_key;
mod import;
mod run;
mod schema;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use hash_key::HashKey;
use import::Import;
use schema::Schema;

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
    /// Turn an nginx configuration and a scope file of mcp-gateway-registry into a configuration, with a comment for
    /// everything that could not be converted
    Import(Import),
    /// Print the JSON Schema of the configuration, for editors, or a reference in Markdown that is made from it
    Schema(Schema),
    /// Make an API key: print the entry for the file of keys on standard output, and the key itself on standard error
    HashKey(HashKey),
}

impl Arguments {
    /// Runs the command. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run { config } => run::run(&config),
            Command::Check { config } => check::check(&config),
            Command::Import(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::HashKey(command) => command.run(),
        }
    }
}
