//! A configuration file as a tree in which every value has its position. Scalars stay text until the type of their key
//! is known, so that the header value `1.10` stays `1.10` and does not become a number.

/// Line and column, counted from 1.
pub(crate) type Position = (usize, usize);

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) content: Content,
    /// True when the value is skipped while the tree is read, as if it were not written.
    pub(crate) cut: bool,
}

/// The content of a value.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// `plain` is true when the text is not in quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map, its position and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// One step of a key path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Item(usize),
}

impl Default for Node {
    /// An empty document.
    fn default() -> Self {
        Self::scalar((1, 1), String::new(), true)
    }
}

impl Node {
    pub(crate) fn scalar(at: Position, text: String, plain: bool) -> Self {
        Self { at, content: Content::Scalar { text, plain }, cut: false }
    }

    /// True when there is no value: nothing is written, or `~` or `null` without quotes.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        size_of::<Self>() as u64
            + match &self.content {
                Content::Scalar { text, .. } => text.len() as u64,
                Content::List(items) => items.iter().map(Self::weight).sum(),
                Content::Map(entries) => entries.iter().map(|entry| entry.key.len() as u64 + entry.node.weight()).sum(),
            }
    }

    /// Marks the value at `path` as cut. Returns false when `path` is the root, when there is no value at `path`, or
    /// when the value was cut before.
    pub(crate) fn cut(&mut self, path: &[Step]) -> bool {
        if path.is_empty() {
            return false;
        }
        let node = path.iter().try_fold(self, |node, step| match (step, &mut node.content) {
            (Step::Item(index), Content::List(items)) => items.get_mut(*index),
            (Step::Key(key), Content::Map(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            _ => None,
        });
        node.is_some_and(|node| !std::mem::replace(&mut node.cut, true))
    }

    /// Cuts the sections and items before the one at `path`. They have been read without an error, so they need not be
    /// read again.
    pub(crate) fn cut_before(&mut self, path: &[Step]) {
        let [section, item, ..] = path else { return };
        self.cut_until(section);
        if let Content::Map(entries) = &mut self.content
            && let Some(entry) = entries.iter_mut().find(|entry| matches!(section, Step::Key(key) if entry.key == *key))
        {
            entry.node.cut_until(item);
        }
    }

    fn cut_until(&mut self, step: &Step) {
        match (&mut self.content, step) {
            (Content::List(items), Step::Item(index)) => items.iter_mut().take(*index).for_each(|item| item.cut = true),
            (Content::Map(entries), Step::Key(key)) => {
                entries.iter_mut().take_while(|entry| entry.key != *key).for_each(|entry| entry.node.cut = true);
            }
            _ => {}
        }
    }

    /// True when the key `key` of the map at `path` was cut.
    pub(crate) fn has_cut(&self, path: &[Step], key: &str) -> bool {
        let node = path.iter().try_fold(self, |node, step| match (step, &node.content) {
            (Step::Item(index), Content::List(items)) => items.get(*index),
            (Step::Key(key), Content::Map(entries)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.node)
            }
            _ => None,
        });
        match node.map(|node| &node.content) {
            Some(Content::Map(entries)) => entries.iter().any(|entry| entry.key == key && entry.node.cut),
            _ => false,
        }
    }

    /// Removes all marks of [`Self::cut`] and [`Self::cut_before`].
    pub(crate) fn restore(&mut self) {
        self.cut = false;
        match &mut self.content {
            Content::Scalar { .. } => {}
            Content::List(items) => items.iter_mut().for_each(Self::restore),
            Content::Map(entries) => entries.iter_mut().for_each(|entry| entry.node.restore()),
        }
    }

    /// The position of the key path `path`, or of the nearest existing path above it; `None` when not even the first
    /// step of `path` exists.
    pub(crate) fn locate(&self, path: &str) -> Option<Position> {
        let (mut node, mut rest, mut found) = (self, path, None);
        loop {
            let (at, next, end) = match &node.content {
                Content::Map(entries) => {
                    let text = rest.strip_prefix('.').unwrap_or(rest);
                    let ends = |key: &str| matches!(text[key.len()..].chars().next(), None | Some('.' | '['));
                    let fits = |entry: &&Entry| text.starts_with(&entry.key) && ends(&entry.key);
                    let Some(entry) = entries.iter().filter(fits).max_by_key(|entry| entry.key.len()) else {
                        return found;
                    };
                    (entry.at, &entry.node, rest.len() - text.len() + entry.key.len())
                }
                Content::List(items) => {
                    let Some(end) = rest.find(']').filter(|_| rest.starts_with('[')) else { return found };
                    let Some(item) = rest[1..end].parse().ok().and_then(|index: usize| items.get(index)) else {
                        return found;
                    };
                    (item.at, item, end + 1)
                }
                Content::Scalar { .. } => return found,
            };
            (node, rest, found) = (next, &rest[end..], Some(at));
            if rest.is_empty() {
                return found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::text::yaml;

    #[test]
    fn paths_have_positions() {
        let text = "routes:\n  - path: /a\n    auth: {providers: [x, y]}\n  - &r {path: /b, \"a.b\": {c: 1}}\n  - *r\n";
        let (tree, flaws) = yaml::parse(text);
        let tree = tree.expect("this is YAML");
        assert!(flaws.is_empty());
        for (path, position) in [
            ("routes", (1, 1)),
            ("routes[0].path", (2, 5)),
            ("routes[0].auth.providers[1]", (3, 27)),
            ("routes[1].missing", (4, 5)),
            ("routes[1].a.b.c", (4, 27)),
            ("routes[2]", (5, 5)),
            ("routes[2].path", (4, 9)),
        ] {
            assert_eq!(tree.locate(path), Some(position), "{path}");
        }
        assert_eq!(tree.locate("nothing"), None);
        assert_eq!(tree.locate(""), None);
    }
}
