//! The command line.

mod hash_key;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Parser, Subcommand};

use crate::config::Config;
use crate::import::{ImportError, Sources};
use crate::{config, import, server};
use hash_key::HashKey;

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
    /// Turn an nginx configuration and a scope file of mcp-gateway-registry into a configuration, with a comment for
    /// whatever could not be carried over
    #[command(group(ArgGroup::new("sources").required(true).multiple(true).args(["scopes", "nginx"])))]
    Import {
        /// The scope file: which scope opens which methods and tools of which server
        #[arg(long, value_name = "FILE")]
        scopes: Option<PathBuf>,
        /// The nginx configuration with the locations
        #[arg(long, value_name = "FILE")]
        nginx: Option<PathBuf>,
        /// Where the YAML goes; default: standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the output if it exists
        #[arg(long, requires = "output")]
        force: bool,
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
            Command::Import { scopes, nginx, output, force } => {
                import(&Sources { scopes, nginx }, output.as_deref(), force)
            }
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

fn import(sources: &Sources, output: Option<&Path>, force: bool) -> ExitCode {
    // Nothing is left to do when standard error is closed.
    let tell = |text: &str| writeln!(std::io::stderr(), "{text}").unwrap_or_default();
    if let Some(path) = output.filter(|path| !force && path.symlink_metadata().is_ok()) {
        tell(&exists(path));
        return ExitCode::from(EXIT_USAGE);
    }
    let imported = match import::import(sources, output.unwrap_or(Path::new("edge.yaml"))) {
        Ok(imported) => imported,
        Err(error) => {
            tell(&error.to_string());
            return match error {
                ImportError::Unreadable { .. } | ImportError::Malformed { .. } => ExitCode::from(EXIT_USAGE),
                ImportError::Unchecked(_) => ExitCode::FAILURE,
            };
        }
    };
    let written = match output {
        Some(path) => write(path, &imported.yaml, force),
        None => std::io::stdout().write_all(imported.yaml.as_bytes()).map_err(|error| error.to_string()),
    };
    if let Err(message) = written {
        tell(&message);
        return ExitCode::FAILURE;
    }
    for note in &imported.notes {
        tell(&note.to_string());
    }
    let count = imported.notes.len();
    tell(&format!("{count} {}", if count == 1 { "note" } else { "notes" }));
    ExitCode::SUCCESS
}

fn exists(path: &Path) -> String {
    format!("{}: exists already: name another file, or write `--force` to replace it", path.display())
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    // Also when the file has come since it was looked for.
    let options =
        if force { options.write(true).create(true).truncate(true) } else { options.write(true).create_new(true) };
    let result = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => format!("{}: cannot be written ({error}): name a file in a folder that can", path.display()),
    })
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
