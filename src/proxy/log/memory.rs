//! Memory that each thread writes its lines into, one after the other.

use crate::config::limits;
use std::cell::Cell;

/// Empty between two lines. One is for one place only: lines that are made within each other need two.
pub(crate) struct LineMemory(Cell<String>);

impl LineMemory {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(String::new()))
    }

    /// Gives an empty string to `write`, and keeps its memory.
    pub(crate) fn with<T>(&self, write: impl FnOnce(&mut String) -> T) -> T {
        let mut text = self.0.take();
        let done = write(&mut text);
        text.clear();
        text.shrink_to(limits::KEPT_LINE_BYTES);
        self.0.set(text);
        done
    }
}
