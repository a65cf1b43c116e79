//! Places in the configuration.

/// A place in the configuration: the number of the file, and the key path in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) path: String,
}

impl Place {
    pub(crate) fn new(file: usize, path: impl Into<String>) -> Self {
        Self { file, path: path.into() }
    }

    /// The place of a key below this one.
    pub(crate) fn key(&self, key: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Self { file: self.file, path }
    }

    /// The place of an item of the list at this place.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self { file: self.file, path: format!("{}[{index}]", self.path) }
    }
}
