//! A configuration file as a tree in which every value knows where it stands. Scalars stay text: what they mean is up to
//! the key that wants them, so that `1.10` as a header's value is `1.10` and not a number.

/// Line and column, from 1.
pub(crate) type Position = (usize, usize);

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) content: Content,
    /// Left out when the tree is read, as if it did not stand there.
    pub(crate) cut: bool,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// `plain`: without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, where it stands, and its value.
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
    /// The empty document.
    fn default() -> Self {
        Self::scalar((1, 1), String::new(), true)
    }
}

impl Node {
    pub(crate) fn scalar(at: Position, text: String, plain: bool) -> Self {
        Self { at, content: Content::Scalar { text, plain }, cut: false }
    }

    /// True when nothing is written: an empty value, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Roughly its bytes in memory.
    pub(crate) fn weight(&self) -> u64 {
        size_of::<Self>() as u64
            + match &self.content {
                Content::Scalar { text, .. } => text.len() as u64,
                Content::List(items) => items.iter().map(Self::weight).sum(),
                Content::Map(entries) => entries.iter().map(|entry| entry.key.len() as u64 + entry.node.weight()).sum(),
            }
    }

    /// Leaves out what stands at `path`. False when there is nothing, or when it is the root.
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

    /// Leaves out the sections and items before the one at `path`: they have been read without an error.
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

    /// True when the key `key` below `path` was left out.
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

    /// Nothing is left out any more.
    pub(crate) fn restore(&mut self) {
        self.cut = false;
        match &mut self.content {
            Content::Scalar { .. } => {}
            Content::List(items) => items.iter_mut().for_each(Self::restore),
            Content::Map(entries) => entries.iter_mut().for_each(|entry| entry.node.restore()),
        }
    }

    /// Where the key path `path` stands, or else the nearest one above it.
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
