//! `mcp-edge import`: converts an nginx configuration and a scope file of mcp-gateway-registry to one configuration of
//! the edge.
//!
//! Each format has a module that only reads it ([`nginx`], [`scopes`]). `convert` makes the sections of the
//! configuration, `render` writes the YAML, and `repair` checks the result.
//!
//! One rule applies to all routes: nginx may have served the paths of a route by several locations, and the route has
//! the requirement of the strictest of them. `search` finds these locations as nginx does, `requirement` decides what
//! each of them requires of callers, `hosts` finds the servers that count, and `table` combines the results. If the
//! requirement is not clear, the route is closed, and a comment says what to write instead.

mod convert;
mod draft;
mod error;
mod nginx;
mod note;
mod render;
mod repair;
mod scopes;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::limits;
use crate::config::text::Position;
use crate::types::excerpt;

pub use error::ImportError;
pub use note::Note;
pub use repair::Imported;

/// The files to import; at least one of them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The scope file.
    pub scopes: Option<PathBuf>,
    /// The nginx configuration.
    pub nginx: Option<PathBuf>,
}

/// Imports `sources`. `output` is the path that the result will have: its relative paths start from that folder.
///
/// # Errors
/// A source cannot be read or is not valid, or the result does not pass the check.
pub fn import(sources: &Sources, output: &Path) -> Result<Imported, ImportError> {
    let scopes = match &sources.scopes {
        Some(path) => {
            let (name, text) = read(path)?;
            let read = scopes::ScopeFile::parse(&name, &text).map_err(|flaw| malformed(path, flaw.at, flaw.message))?;
            Some((name, read))
        }
        None => None,
    };
    let nginx = match &sources.nginx {
        Some(path) => {
            let (name, text) = read(path)?;
            let root = nginx::parse(&text).map_err(|flaw| malformed(path, flaw.at, flaw.message))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            // The output may be in another folder, so relative paths would not work.
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            Some((name, root, folder))
        }
        None => None,
    };
    let draft = convert::convert(
        nginx.as_ref().map(|(file, root, folder)| convert::sources::Nginx { file, folder, root }),
        scopes.as_ref().map(|(file, read)| convert::sources::Scopes { file, read }),
    );
    let names = [nginx.as_ref().map(|(name, ..)| name), scopes.as_ref().map(|(name, _)| name)];
    let made_from = names.into_iter().flatten().map(AsRef::as_ref).collect::<Vec<&str>>().join(" and ");
    repair::checked(draft, &made_from, output).map_err(ImportError::Unchecked)
}

fn malformed(file: &Path, at: Position, message: String) -> ImportError {
    ImportError::Malformed { file: file.to_owned(), at, message }
}

/// Reads a file. Returns its name for notes, and its text.
fn read(path: &Path) -> Result<(Arc<str>, String), ImportError> {
    let unreadable = |message: String| ImportError::Unreadable { file: path.to_owned(), message };
    let cannot =
        |error: std::io::Error| unreadable(format!("cannot be read ({error}): give the path of a readable file"));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(limits::IMPORT_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > limits::IMPORT_FILE_BYTES {
        let most = limits::IMPORT_FILE_BYTES >> 20;
        return Err(unreadable(format!(
            "is larger than {most} MiB: import parts of it, and put the results together with `include`"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let legal = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + legal.iter().filter(|&&byte| byte == b'\n').count();
        let column = 1 + legal.iter().rev().take_while(|&&byte| byte != b'\n').count();
        malformed(path, (line, column), "is not UTF-8: save it as UTF-8".to_owned())
    })?;
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), std::ffi::OsStr::to_string_lossy);
    Ok((excerpt(&name).into(), text))
}
