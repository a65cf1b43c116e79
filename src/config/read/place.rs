//! A place in the configuration.

/// Where in the configuration something stands.
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

    /// The place of an item of the list that stands here.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self { file: self.file, path: format!("{}[{index}]", self.path) }
    }
}
