//! Reads a configuration file and all files that it includes.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::parse::parse;
use super::place::Place;
use super::problems::Problems;
use super::source::Source;
use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::limits;

/// Returns the root file and all files that it includes, in reading order. Every item with an error is reported in
/// `problems` and left out.
///
/// # Errors
/// The root file cannot be read.
pub(crate) fn load(root: &Path, problems: &mut Problems) -> Result<Vec<Source>, ConfigErrors> {
    let text = read_text(root).map_err(|message| {
        ConfigErrors(vec![ConfigError { file: root.to_owned(), position: None, path: String::new(), message }])
    })?;
    Ok(load_text(root, text, problems))
}

/// As [`load`], with `text` as the content of the root file.
pub(crate) fn load_text(root: &Path, text: String, problems: &mut Problems) -> Vec<Source> {
    let mut loader = Loader { sources: Vec::new(), open: Vec::new(), seen: BTreeSet::new(), problems };
    loader.add(root.to_owned(), text);
    loader.sources
}

/// Reads a file of at most [`limits::CONFIG_FILE_BYTES`] as UTF-8.
fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({error}): give the path of a readable YAML file");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(limits::CONFIG_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > limits::CONFIG_FILE_BYTES {
        return Err(format!("is larger than {} MiB: split it with `include`", limits::CONFIG_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let legal = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + legal.iter().filter(|&&byte| byte == b'\n').count();
        format!("is not UTF-8 in line {line}: save it as UTF-8")
    })
}

struct Loader<'a> {
    sources: Vec<Source>,
    /// The chain of files whose includes lead to the file that is read now, including that file.
    open: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
    problems: &'a mut Problems,
}

impl Loader<'_> {
    fn add(&mut self, path: PathBuf, text: String) {
        let index = self.sources.len();
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        self.seen.insert(identity.clone());
        self.open.push(identity);
        let (tree, file, left_out) = parse(index, &text, self.problems);
        let patterns = file.include.clone();
        self.sources.push(Source { path, text, tree, file, left_out });
        for (now, pattern) in patterns.iter().enumerate() {
            let item = self.sources[index].left_out.number("include", now);
            self.include(&Place::new(index, "include").item(item), pattern);
        }
        self.open.pop();
    }

    /// Reports an error because of which an included file is not read. That file could have defined any name, so errors
    /// about undefined names are suppressed.
    fn lost(&mut self, place: &Place, message: String) {
        self.sources[place.file].left_out.anything = true;
        self.problems.add(place, message);
    }

    fn include(&mut self, place: &Place, pattern: &str) {
        let folder = self.sources[place.file].path.parent().map(Path::to_owned).unwrap_or_default();
        let Some(folder) = folder.to_str() else {
            return self.lost(place, "the path of the folder of this file is not UTF-8: rename the folder".to_owned());
        };
        let full = Path::new(&glob::Pattern::escape(folder)).join(pattern);
        // A wildcard does not match hidden files: they belong to editors, or to the internals of Kubernetes volumes.
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let paths = match glob::glob_with(&full.to_string_lossy(), options) {
            Ok(paths) => paths,
            Err(error) => {
                let message =
                    format!("`{pattern}` is not a valid glob ({}): write one such as `routes.d/*.yaml`", error.msg);
                return self.lost(place, message);
            }
        };
        let mut any = false;
        for path in paths {
            any = true;
            match path {
                Ok(path) => self.include_file(place, path),
                Err(error) => self.lost(place, format!("{error}: make the folder readable")),
            }
        }
        if !any && !pattern.contains(['*', '?', '[']) {
            let full = Path::new(folder).join(pattern);
            self.lost(
                place,
                format!(
                    "`{}` does not exist: write the path of a file, relative to this file, or a glob",
                    full.display()
                ),
            );
        }
    }

    fn include_file(&mut self, place: &Place, path: PathBuf) {
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        let name = path.display();
        if self.open.contains(&identity) {
            return self.problems.add(place, format!("`{name}` includes itself: remove one `include` of the circle"));
        }
        if self.seen.contains(&identity) {
            return self.problems.add(place, format!("`{name}` is included twice: keep one of the two"));
        }
        if self.sources.len() >= limits::CONFIG_FILES {
            return self.lost(place, format!("there are more than {} files: merge some of them", limits::CONFIG_FILES));
        }
        match read_text(&path) {
            Ok(text) => self.add(path, text),
            Err(message) => self.lost(place, format!("`{name}` {message}")),
        }
    }
}
