//! Memory into which a thread writes its lines, one after the other.

use crate::config::limits;
use std::cell::Cell;

/// Empty between two lines. Each place in the code that writes lines needs a memory of its own, because a line may be written
/// while another one is being made.
pub(crate) struct LineMemory(Cell<String>);

impl LineMemory {
    /// Empty.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(String::new()))
    }

    /// Lets `write` fill an empty string, and keeps the memory of the string for the next line.
    pub(crate) fn with<T>(&self, write: impl FnOnce(&mut String) -> T) -> T {
        let mut text = self.0.take();
        let done = write(&mut text);
        text.clear();
        text.shrink_to(limits::KEPT_LINE_BYTES);
        self.0.set(text);
        done
    }
}
