//! `mcp-edge import`: makes a configuration from an nginx configuration and a scope file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::exit::{EXIT_USAGE, report};
use crate::import::{self, ImportError, Sources};

/// What is imported, and where the result goes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("sources").required(true).multiple(true).args(["scopes", "nginx"])))]
pub(super) struct Import {
    /// The scope file: which scope allows which methods and tools of which server
    #[arg(long, value_name = "FILE")]
    scopes: Option<PathBuf>,
    /// The nginx configuration with the locations
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,
    /// The file for the YAML; default: standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Import {
    pub(super) fn run(self) -> ExitCode {
        let Self { scopes, nginx, output, force } = self;
        import(&Sources { scopes, nginx }, output.as_deref(), force)
    }
}

fn import(sources: &Sources, output: Option<&Path>, force: bool) -> ExitCode {
    if let Some(path) = output.filter(|path| !force && path.symlink_metadata().is_ok()) {
        report(&exists(path));
        return ExitCode::from(EXIT_USAGE);
    }
    let imported = match import::import(sources, output.unwrap_or(Path::new("edge.yaml"))) {
        Ok(imported) => imported,
        Err(error) => {
            report(&error.to_string());
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
        report(&message);
        return ExitCode::FAILURE;
    }
    for note in &imported.notes {
        report(&note.to_string());
    }
    let count = imported.notes.len();
    report(&format!("{count} {}", if count == 1 { "note" } else { "notes" }));
    ExitCode::SUCCESS
}

fn exists(path: &Path) -> String {
    format!("{}: already exists: name another file, or use `--force` to replace it", path.display())
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    // `create_new` also fails when the file was made after the first check.
    let options =
        if force { options.write(true).create(true).truncate(true) } else { options.write(true).create_new(true) };
    let result = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => format!("{}: cannot be written ({error}): name a file in a writable folder", path.display()),
    })
}
