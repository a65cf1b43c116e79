//! Collects errors while a configuration is read and resolved, so that all are reported at once.

use super::error::{ConfigError, ConfigErrors};
use super::limits;
use super::load::Source;
use super::spans;

/// Where in the configuration something stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) path: String,
}

impl Place {
    pub(super) fn new(file: usize, path: impl Into<String>) -> Self {
        Self { file, path: path.into() }
    }

    /// The place of a key below this one.
    pub(super) fn key(&self, key: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Self { file: self.file, path }
    }

    /// The place of an item of the list that stands here.
    pub(super) fn item(&self, index: usize) -> Self {
        Self { file: self.file, path: format!("{}[{index}]", self.path) }
    }
}

/// The errors so far.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

struct Problem {
    place: Place,
    /// Known without the index: syntax errors.
    position: Option<(usize, usize)>,
    message: String,
}

impl Problems {
    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>) {
        if self.0.len() < limits::CONFIG_ERRORS {
            self.0.push(Problem { place: place.clone(), position: None, message: message.into() });
        }
    }

    /// An error of a file as a whole, at a position that the parser gave.
    pub(super) fn add_at(&mut self, file: usize, position: Option<(usize, usize)>, message: String) {
        if self.0.len() < limits::CONFIG_ERRORS {
            self.0.push(Problem { place: Place::new(file, ""), position, message });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors in the order of files and lines.
    pub(super) fn into_errors(self, sources: &[Source]) -> ConfigErrors {
        let mut indexes: Vec<_> = sources.iter().map(|_| None).collect();
        let mut errors: Vec<(usize, ConfigError)> = self
            .0
            .into_iter()
            .map(|Problem { place, position, message }| {
                let source = &sources[place.file];
                let position = position.or_else(|| {
                    let index = indexes[place.file].get_or_insert_with(|| spans::index(&source.text));
                    spans::locate(index, &place.path)
                });
                (place.file, ConfigError { file: source.path.clone(), position, path: place.path, message })
            })
            .collect();
        errors.sort_by_key(|(file, error)| (*file, error.position));
        ConfigErrors(errors.into_iter().map(|(_, error)| error).collect())
    }
}
