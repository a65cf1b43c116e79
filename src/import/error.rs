//! Why nothing could be imported.

use std::path::PathBuf;

use thiserror::Error;

use crate::config::ConfigErrors;

/// Why nothing could be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file cannot be read at all.
    #[error("{}: {message}", .file.display())]
    Unreadable {
        /// The path as given.
        file: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The content of a file is not valid.
    #[error("{}:{}:{}: {message}", .file.display(), .at.0, .at.1)]
    Malformed {
        /// The path as given.
        file: PathBuf,
        /// Line and column, from 1.
        at: (usize, usize),
        /// What is wrong and what to write instead.
        message: String,
    },
    /// The result is not a valid configuration, which is a bug in the importer.
    #[error("the imported configuration does not pass the check, which is a bug in mcp-edge:\n{0}")]
    Unchecked(ConfigErrors),
}
