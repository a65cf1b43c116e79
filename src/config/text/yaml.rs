//! Parses YAML into a [`Node`]. The meaning of the keys is not known here, but some errors (such as a duplicate key) do
//! not depend on it.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::tree::{Content, Entry, Node, Position};
use crate::config::limits;

/// An error in the YAML that does not depend on the meaning of the keys.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) at: Position,
    /// The key path. It is empty at the root, and for an error that stops the parser.
    pub(crate) path: String,
    pub(crate) message: String,
}

/// Parses one document. A flaw in `Err` has stopped the parser. The tree stays usable with the other flaws: of a
/// duplicate key it has only the first value.
pub(crate) fn parse(text: &str) -> (Result<Node, Flaw>, Vec<Flaw>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let result = match event {
            Ok((event, span)) => builder.take(event, position(&span)),
            Err(error) => {
                let at = (error.marker().line(), error.marker().col() + 1);
                Err(fatal(at, syntax(text, at, error.info())))
            }
        };
        if let Err(flaw) = result {
            return (Err(flaw), builder.flaws);
        }
    }
    (Ok(builder.root.unwrap_or_default()), builder.flaws)
}

fn position(span: &Span) -> Position {
    (span.start.line(), span.start.col() + 1)
}

fn fatal(at: Position, message: impl Into<String>) -> Flaw {
    Flaw { at, path: String::new(), message: message.into() }
}

/// The message of a syntax error: the parser's own text, or a better explanation of the most common mistakes.
fn syntax(text: &str, at: Position, info: &str) -> String {
    let (line, column) = at;
    let line = text.lines().nth(line - 1).unwrap_or_default();
    let indentation: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    let (why, what) = if indentation.contains('\t') {
        ("lines cannot be indented with tabs", "write spaces")
    } else if line.chars().nth(column.saturating_sub(1)) == Some('*') {
        (
            "a word that begins with `*` refers to an anchor, and no anchor has this name",
            "put the word in quotes if it is text",
        )
    } else {
        (info, "look for a bracket, quote or indentation that does not match, here or above")
    };
    format!("is not valid YAML ({why}): {what}")
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// The values that aliases may repeat, by the number of their anchor.
    anchors: HashMap<usize, Node>,
    /// The size of the values that aliases have repeated so far, in bytes.
    repeated: u64,
    documents: usize,
    root: Option<Node>,
    flaws: Vec<Flaw>,
}

/// A list or map whose end has not been read yet.
struct Open {
    at: Position,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    /// `seen` has the line of each key. `key` is the key whose value is read next.
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, usize>,
        key: Option<(String, Position)>,
    },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Flaw> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(fatal(
                        at,
                        "a second document begins here: put it into a file of its own and `include` that",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !tag.as_deref().is_some_and(is_text);
                self.tag(tag.as_deref(), at);
                self.put(Node::scalar(at, text.into_owned(), plain), anchor)?;
            }
            Event::SequenceStart(anchor, tag) => self.begin(at, anchor, tag.as_deref(), Kind::List(Vec::new()))?,
            Event::MappingStart(anchor, tag) => {
                let kind = Kind::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.begin(at, anchor, tag.as_deref(), kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { at, anchor, kind }) = self.open.pop() else { return Ok(()) };
                let content = match kind {
                    Kind::List(items) => Content::List(items),
                    Kind::Map { entries, .. } => Content::Map(entries),
                };
                self.put(Node { at, content, cut: false }, anchor)?;
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(fatal(at, "an alias is inside the value that it repeats: write the value out"));
                };
                self.repeated += node.weight();
                if self.repeated > limits::CONFIG_FILE_BYTES {
                    let most = limits::CONFIG_FILE_BYTES >> 20;
                    return Err(fatal(at, format!("aliases make this file larger than {most} MiB: use fewer aliases")));
                }
                let node = Node { at, ..node.clone() };
                self.put(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, at: Position, anchor: usize, tag: Option<&Tag>, kind: Kind) -> Result<(), Flaw> {
        if let Some(Open { kind: Kind::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(fatal(at, "a list or map cannot be a key: write text and a colon"));
        }
        if self.open.len() >= limits::CONFIG_DEPTH {
            return Err(fatal(
                at,
                format!(
                    "is nested deeper than {} levels, which no section needs: look for a bracket that is not closed",
                    limits::CONFIG_DEPTH
                ),
            ));
        }
        self.tag(tag, at);
        self.open.push(Open { at, anchor, kind });
        Ok(())
    }

    /// Adds a finished value to the list or map that contains it, or makes it the root.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map { entries, seen, key }) => match key.take() {
                Some((key, at)) => match seen.get(&key) {
                    None => {
                        seen.insert(key.clone(), at.0);
                        entries.push(Entry { key, at, node });
                    }
                    Some(first) => {
                        let message =
                            format!("is written twice, first in line {first}: put the two together, or take one out");
                        self.flaw(at, Some(&key), message);
                    }
                },
                None => match node.content {
                    Content::Scalar { text, .. } => *key = Some((text, node.at)),
                    _ => {
                        return Err(fatal(node.at, "a list or map cannot be a key: write text and a colon"));
                    }
                },
            },
        }
        Ok(())
    }

    fn tag(&mut self, tag: Option<&Tag>, at: Position) {
        if let Some(tag) = tag.filter(|tag| !is_text(tag)) {
            self.flaw(at, None, format!("the tag `{tag}` means nothing here: take it out"));
        }
    }

    /// Adds a flaw of `key` in the innermost open map, or of the value that begins now when `key` is `None`.
    fn flaw(&mut self, at: Position, key: Option<&str>, message: String) {
        // `Problems` shows at most this many errors. One flaw more is enough for it to report that there are more
        // errors.
        if self.flaws.len() <= limits::CONFIG_ERRORS {
            let path = match (self.path(), key) {
                (path, None) => path,
                (path, Some(key)) if path.is_empty() => key.to_owned(),
                (path, Some(key)) => format!("{path}.{key}"),
            };
            self.flaws.push(Flaw { at, path, message });
        }
    }

    /// The key path of the value that begins now.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.kind {
                Kind::List(items) => path.push_str(&format!("[{}]", items.len())),
                Kind::Map { key: Some((key, _)), .. } if path.is_empty() => path.push_str(key),
                Kind::Map { key: Some((key, _)), .. } => path.push_str(&format!(".{key}")),
                Kind::Map { key: None, .. } => {}
            }
        }
        path
    }
}

/// True for the tags `!!str` and `!`. A scalar with one of these tags is always text.
fn is_text(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str" || tag.handle.is_empty() && tag.suffix == "!"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_cannot_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..20 {
            let items = format!("*a{}, ", n - 1).repeat(10);
            text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        let (tree, _) = parse(&text);
        assert!(tree.is_err_and(|flaw| flaw.message.contains("aliases")));
    }

    #[test]
    fn a_duplicate_key_is_reported_and_its_first_value_is_kept() {
        let (tree, flaws) = parse("a:\n  b: 1\n  c: 2\n  b: 3\n");
        assert_eq!(flaws.iter().map(|flaw| (flaw.at, flaw.path.as_str())).collect::<Vec<_>>(), [((4, 3), "a.b")]);
        assert_eq!(tree.expect("this is YAML").locate("a.b"), Some((2, 3)));
    }

    #[test]
    fn quotes_and_the_tag_of_text_make_text() {
        for (text, null) in
            [("~", true), ("null", true), ("", true), ("\"\"", false), ("!!str null", false), ("x", false)]
        {
            let (tree, flaws) = parse(text);
            assert!(flaws.is_empty(), "{text}");
            assert_eq!(tree.expect("this is YAML").is_null(), null, "{text}");
        }
    }
}
