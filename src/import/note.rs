//! What could not be carried over, or was carried over with an assumption.

use std::fmt;
use std::sync::Arc;

use crate::config::limits;
use crate::config::text::Position;

/// One thing that the operator should know. It becomes a comment in the YAML, and a line on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file that it is about, as given on the command line; `None`: the output.
    pub file: Option<Arc<str>>,
    /// The lines in that file.
    pub lines: Vec<usize>,
    /// What it is. One line, without any character that could end it.
    pub text: String,
}

impl Note {
    /// A note about what stands at `at` of `file`.
    pub(super) fn new(file: &Arc<str>, at: Position, text: impl Into<String>) -> Self {
        Self { file: Some(Arc::clone(file)), lines: vec![at.0], text: text.into() }
    }

    /// A note about the result.
    pub(super) fn of_output(text: impl Into<String>) -> Self {
        Self { file: None, lines: Vec::new(), text: text.into() }
    }
}

/// `nginx.conf:12,40: what it is`.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.escape_debug())?;
            for (index, line) in self.lines.iter().take(limits::NOTE_LINES).enumerate() {
                write!(f, "{}{line}", if index == 0 { ':' } else { ',' })?;
            }
            f.write_str(if self.lines.len() > limits::NOTE_LINES { ",...: " } else { ": " })?;
        }
        f.write_str(&self.text)
    }
}
