//! Collects the errors of a configuration while it is read and checked, so that all of them are reported at once.

use super::place::Place;
use super::source::Source;
use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::limits;
use crate::config::text::tree::Position;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Problems {
    problems: Vec<Problem>,
    /// True when there were more errors than [`limits::CONFIG_ERRORS`].
    more: bool,
}

struct Problem {
    place: Place,
    /// The position, if it is known already. Otherwise it is looked up from `place`.
    position: Option<Position>,
    message: String,
}

impl Problems {
    pub(crate) fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Problem { place: place.clone(), position: None, message: message.into() });
    }

    /// An error at a position that the parser gave.
    pub(crate) fn add_at(&mut self, place: Place, position: Position, message: String) {
        self.push(Problem { place, position: Some(position), message });
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < limits::CONFIG_ERRORS {
            self.problems.push(problem);
        } else {
            self.more = true;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The errors in the order of files and lines.
    pub(crate) fn into_errors(self, sources: &[Source]) -> ConfigErrors {
        let mut errors: Vec<(usize, ConfigError)> = self
            .problems
            .into_iter()
            .map(|Problem { place: Place { file, path }, position, message }| {
                let position = position.or_else(|| sources[file].tree.locate(&path));
                (file, ConfigError { file: sources[file].path.clone(), position, path, message })
            })
            .collect();
        errors.sort_by_key(|(file, error)| (*file, error.position));
        let mut errors: Vec<ConfigError> = errors.into_iter().map(|(_, error)| error).collect();
        if let Some(root) = sources.first().filter(|_| self.more) {
            let message = format!("there are more than {} errors: correct these first", limits::CONFIG_ERRORS);
            errors.push(ConfigError { file: root.path.clone(), position: None, path: String::new(), message });
        }
        ConfigErrors(errors)
    }
}
