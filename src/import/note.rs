//! Notes about what was not imported, or was imported with an assumption.

use std::fmt;
use std::sync::Arc;

use crate::config::limits;
use crate::config::text::Position;

/// One note for the operator. It becomes a comment in the YAML, and a line on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The name of the file that the note is about. `None`: the note is about the output.
    pub file: Option<Arc<str>>,
    /// The lines in that file.
    pub lines: Vec<usize>,
    /// The text: one line, without line breaks.
    pub text: String,
}

impl Note {
    /// A note about the position `at` of `file`.
    pub(super) fn new(file: &Arc<str>, at: Position, text: impl Into<String>) -> Self {
        Self { file: Some(Arc::clone(file)), lines: vec![at.0], text: text.into() }
    }

    /// A note about the output.
    pub(super) fn of_output(text: impl Into<String>) -> Self {
        Self { file: None, lines: Vec::new(), text: text.into() }
    }
}

/// `nginx.conf:12,40: text`.
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
