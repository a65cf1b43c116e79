//! Reads configuration files with everything that they include.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::error::{ConfigError, ConfigErrors};
use super::file::File;
use super::limits;
use super::problems::{Place, Problems};

/// One file that was read.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) file: File,
    pub(super) left_out: LeftOut,
}

impl Source {
    /// The folders in which its includes look for files, up to the first one that is a pattern itself.
    pub(super) fn include_folders(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        self.file.include.iter().map(move |pattern| {
            let fixed = Path::new(pattern).components().take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']));
            let path = folder.join(fixed.collect::<PathBuf>());
            if pattern.contains(['*', '?', '[']) { path } else { path.parent().map(Path::to_owned).unwrap_or_default() }
        })
    }
}

/// The root file and all files that it includes, in reading order; every wrong item is in `problems` and left out.
///
/// # Errors
/// The root file cannot be read at all.
pub(super) fn load(root: &Path, problems: &mut Problems) -> Result<Vec<Source>, ConfigErrors> {
    let text = read_text(root).map_err(|message| {
        ConfigErrors(vec![ConfigError { file: root.to_owned(), position: None, path: String::new(), message }])
    })?;
    let mut loader = Loader { sources: Vec::new(), open: Vec::new(), seen: BTreeSet::new(), problems };
    loader.add(root.to_owned(), text);
    Ok(loader.sources)
}

/// Reads a file of at most [`limits::CONFIG_FILE_BYTES`] as UTF-8.
fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({error}): give the path of a readable YAML file");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut text = String::new();
    file.take(limits::CONFIG_FILE_BYTES + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > limits::CONFIG_FILE_BYTES {
        return Err(format!("is larger than {} MiB: split it with `include`", limits::CONFIG_FILE_BYTES >> 20));
    }
    Ok(text)
}

struct Loader<'a> {
    sources: Vec<Source>,
    /// The chain of includes that leads to the file being read.
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
        self.sources.push(Source { path, text, file: File::default(), left_out: LeftOut::default() });
        let (file, left_out) = parse(index, &self.sources[index].text, self.problems);
        let patterns = file.include.clone();
        self.sources[index].file = file;
        self.sources[index].left_out = left_out;
        for (item, pattern) in patterns.iter().enumerate() {
            self.include(&Place::new(index, "include").item(item), pattern);
        }
        self.open.pop();
    }

    fn include(&mut self, place: &Place, pattern: &str) {
        let folder = self.sources[place.file].path.parent().map(Path::to_owned).unwrap_or_default();
        let full = folder.join(pattern);
        let Some(full) = full.to_str() else {
            return self.problems.add(place, "is no UTF-8 path: rename the folder");
        };
        let paths = match glob::glob(full) {
            Ok(paths) => paths,
            Err(error) => {
                return self.problems.add(place, format!("`{pattern}` is no glob ({error}): write one such as `routes.d/*.yaml`"));
            }
        };
        let mut any = false;
        for path in paths {
            any = true;
            match path {
                Ok(path) => self.include_file(place, path),
                Err(error) => self.problems.add(place, format!("{error}: make the folder readable")),
            }
        }
        if !any && !pattern.contains(['*', '?', '[']) {
            self.problems.add(place, format!("`{pattern}` does not exist: write the path of a file, relative to this one, or a glob"));
        }
    }

    fn include_file(&mut self, place: &Place, path: PathBuf) {
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        if self.open.contains(&identity) {
            let name = path.display();
            return self.problems.add(place, format!("`{name}` includes itself: take it out of one of the files in the circle"));
        }
        if self.seen.contains(&identity) {
            let name = path.display();
            return self.problems.add(place, format!("`{name}` is included twice: keep one of the two"));
        }
        if self.sources.len() >= limits::CONFIG_FILES {
            let most = limits::CONFIG_FILES;
            return self.problems.add(place, format!("there are more than {most} files: put some together"));
        }
        match read_text(&path) {
            Ok(text) => self.add(path, text),
            Err(message) => self.problems.add(place, format!("`{}` {message}", path.display())),
        }
    }
}

/// Parses one file. An item that is wrong is reported, left out, and the rest is parsed again, so that one run tells of
/// all wrong items.
fn parse(index: usize, text: &str, problems: &mut Problems) -> (File, LeftOut) {
    let mut left_out = LeftOut::default();
    let mut value = match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Null) => return (File::default(), left_out),
        Ok(value) => value,
        Err(error) => {
            problems.add_at(index, error.location().map(|at| (at.line(), at.column())), yaml_message(&error));
            left_out.unreadable = true;
            return (File::default(), left_out);
        }
    };
    for _ in 0..limits::CONFIG_ERRORS {
        match serde_path_to_error::deserialize::<_, File>(value.clone()) {
            Ok(file) => return (file, left_out),
            Err(error) => {
                let steps: Vec<Step> = error.path().iter().filter_map(Step::from_segment).collect();
                problems.add(&Place::new(index, left_out.path_text(&steps)), error.inner().to_string());
                if !left_out.cut(&mut value, &steps) {
                    break;
                }
            }
        }
    }
    left_out.unreadable = true;
    (File::default(), left_out)
}

/// The parser's message without the position at its end, which stands in front of the whole error.
fn yaml_message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let text = error.location().map_or(text.as_str(), |at| {
        text.strip_suffix(&format!(" at line {} column {}", at.line(), at.column())).unwrap_or(&text)
    });
    format!("is no valid YAML: {text}")
}

enum Step {
    Key(String),
    Item(usize),
}

impl Step {
    fn from_segment(segment: &serde_path_to_error::Segment) -> Option<Self> {
        match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Self::Item(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Self::Key(key.clone())),
            _ => None,
        }
    }
}

/// What was wrong in a file and therefore left out. Names in it still count as defined, so that one error does not
/// cause others, and the items that stay keep the numbers that they have in the file.
#[derive(Default)]
pub(super) struct LeftOut {
    keys: BTreeSet<String>,
    items: BTreeMap<String, BTreeSet<usize>>,
    unreadable: bool,
}

impl LeftOut {
    /// The keys directly below `section` that were left out.
    pub(super) fn keys_of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter_map(move |key| key.strip_prefix(section)?.strip_prefix('.'))
    }

    /// True when the whole section was left out.
    pub(super) fn has(&self, section: &str) -> bool {
        self.keys.contains(section)
    }

    /// True when the list `list` or one of its items was left out, or the file has no readable content at all.
    pub(super) fn touches(&self, list: &str) -> bool {
        self.unreadable || self.has(list) || self.items.contains_key(list)
    }

    /// The number in the file of an item of the top-level list `list` that now has number `now`.
    pub(super) fn number(&self, list: &str, now: usize) -> usize {
        let cut = self.items.get(list).into_iter().flatten();
        cut.fold(now, |number, &cut| if cut <= number { number + 1 } else { number })
    }

    fn path_text(&self, steps: &[Step]) -> String {
        let mut text = String::new();
        for (depth, step) in steps.iter().enumerate() {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.push_str(&format!(".{key}")),
                Step::Item(index) if depth == 1 => text = format!("{text}[{}]", self.number(&text, *index)),
                Step::Item(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// Cuts the item of a list or map that holds the error: `routes[3]`, `upstreams.x`, `auth.providers.x`, or else the
    /// whole section. False when there is nothing that could be cut.
    fn cut(&mut self, value: &mut Value, steps: &[Step]) -> bool {
        let depth = match steps {
            [Step::Key(auth), Step::Key(providers), _, ..] if auth == "auth" && providers == "providers" => 3,
            [Step::Key(section), _, ..] if section == "upstreams" => 2,
            [Step::Key(_), Step::Item(_), ..] => 2,
            [Step::Key(_), ..] => 1,
            _ => return false,
        };
        let text = self.path_text(&steps[..depth]);
        let mut parent = value;
        for step in &steps[..depth - 1] {
            let Step::Key(key) = step else { return false };
            match parent.get_mut(key.as_str()) {
                Some(child) => parent = child,
                None => return false,
            }
        }
        match (&steps[depth - 1], parent) {
            (Step::Key(key), Value::Mapping(map)) => {
                self.keys.insert(text);
                map.remove(key.as_str()).is_some()
            }
            (Step::Item(index), Value::Sequence(items)) if *index < items.len() => {
                items.remove(*index);
                let Some(Step::Key(list)) = steps.first() else { return false };
                let number = self.number(list, *index);
                self.items.entry(list.clone()).or_default().insert(number);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_numbers() {
        let mut problems = Problems::default();
        let text = "routes:\n- {path: 1}\n- {path: /a, upstream: a, auth: none}\n- {pth: /b}\n- {path: /c, upstream: c, auth: none}\n";
        let (file, left_out) = parse(0, text, &mut problems);
        assert_eq!(file.routes.len(), 2);
        assert_eq!(left_out.number("routes", 0), 1);
        assert_eq!(left_out.number("routes", 1), 3);
        assert!(!problems.is_empty());
    }
}
