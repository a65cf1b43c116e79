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
        /// As given.
        file: PathBuf,
        /// Why, and what to do.
        message: String,
    },
    /// A file is not what it should be.
    #[error("{}:{}:{}: {message}", .file.display(), .at.0, .at.1)]
    Malformed {
        /// As given.
        file: PathBuf,
        /// Line and column, from 1.
        at: (usize, usize),
        /// What is wrong and what to write instead.
        message: String,
    },
    /// What was made is no configuration: a fault of the importer.
    #[error("the result does not pass the check, which is a fault of mcp-edge:\n{0}")]
    Unchecked(ConfigErrors),
}
