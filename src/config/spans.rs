//! Where in a YAML text each key path stands. `serde_yaml` gives positions for syntax only, so a second, event-based
//! pass over the same text makes this index; it is read only when there is an error to report.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// Line and column, from 1, of every key path of one file.
pub(super) fn index(text: &str) -> HashMap<String, (usize, usize)> {
    let mut index = HashMap::new();
    let mut stack: Vec<Level> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let position = (span.start.line(), span.start.col() + 1);
        match event {
            Event::MappingStart(..) => {
                let path = enter(&mut stack, position, &mut index);
                stack.push(Level { path, kind: Kind::Mapping { key: None } });
            }
            Event::SequenceStart(..) => {
                let path = enter(&mut stack, position, &mut index);
                stack.push(Level { path, kind: Kind::Sequence { next: 0 } });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
            }
            Event::Scalar(text, ..) => match stack.last_mut() {
                // A key: the value that follows is found under it, and errors point at the key.
                Some(Level { path, kind: Kind::Mapping { key: key @ None } }) => {
                    let child = if path.is_empty() { text.to_string() } else { format!("{path}.{text}") };
                    index.insert(child.clone(), position);
                    *key = Some(child);
                }
                _ => {
                    enter(&mut stack, position, &mut index);
                }
            },
            Event::Alias(..) => {
                enter(&mut stack, position, &mut index);
            }
            _ => {}
        }
    }
    index
}

struct Level {
    path: String,
    kind: Kind,
}

enum Kind {
    Mapping { key: Option<String> },
    Sequence { next: usize },
}

/// The path of a value that begins now.
fn enter(stack: &mut [Level], position: (usize, usize), index: &mut HashMap<String, (usize, usize)>) -> String {
    match stack.last_mut() {
        None => String::new(),
        Some(Level { kind: Kind::Mapping { key }, path }) => key.take().unwrap_or_else(|| path.clone()),
        Some(Level { kind: Kind::Sequence { next }, path }) => {
            let item = format!("{path}[{next}]");
            *next += 1;
            index.insert(item.clone(), position);
            item
        }
    }
}

/// The position of `path`, or of the nearest path above it.
pub(super) fn locate(index: &HashMap<String, (usize, usize)>, path: &str) -> Option<(usize, usize)> {
    let mut path = path;
    loop {
        if let Some(&position) = index.get(path) {
            return Some(position);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_positions() {
        let index = index("routes:\n  - path: /a\n    auth: {providers: [x, y]}\n  - &r {path: /b}\n  - *r\n");
        assert_eq!(locate(&index, "routes"), Some((1, 1)));
        assert_eq!(locate(&index, "routes[0].path"), Some((2, 5)));
        assert_eq!(locate(&index, "routes[0].auth.providers[1]"), Some((3, 27)));
        assert_eq!(locate(&index, "routes[1].missing"), Some((4, 5)));
        assert_eq!(locate(&index, "routes[2]"), Some((5, 5)));
        assert_eq!(locate(&index, "nothing"), None);
    }
}
