//! Parses the text of one file into a [`File`]. All errors are reported, and only the items with errors are left out.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::left_out::{LeftOut, path_text};
use super::place::Place;
use super::problems::Problems;
use crate::config::limits;
use crate::config::text::tree::Node;
use crate::config::text::tree::Step;
use crate::config::text::yaml;
use crate::config::written::file::File;

/// Parses one file and reports all errors in it: each value that does not fit is reported and left out, until the rest
/// fits. The result keeps only the sections, upstreams, providers, listeners and routes that have no error.
pub(crate) fn parse(index: usize, text: &str, problems: &mut Problems) -> (Node, File, LeftOut) {
    let mut left_out = LeftOut::default();
    let (tree, flaws) = yaml::parse(text);
    left_out.anything = !flaws.is_empty();
    for flaw in flaws {
        problems.add_at(Place::new(index, flaw.path), flaw.at, flaw.message);
    }
    let mut tree = match tree {
        Ok(tree) => tree,
        Err(flaw) => {
            problems.add_at(Place::new(index, ""), flaw.at, flaw.message);
            left_out.anything = true;
            return (Node::default(), File::default(), left_out);
        }
    };
    // The usual case: nothing is wrong, and nothing needs to be left out.
    if let Ok(file) = File::deserialize(&tree) {
        left_out.anything = left_out.anything || !agrees(index, text, &tree, &file, problems);
        return (tree, file, left_out);
    }
    let mut wrong_paths = Vec::new();
    let mut misspelt_in = BTreeSet::new();
    for _ in 0..2 * limits::CONFIG_ERRORS {
        let Err(wrong) = File::deserialize(&tree) else { break };
        let path = wrong.path();
        if let (true, Some((_, above))) = (wrong.unknown, path.split_last()) {
            misspelt_in.insert(above.to_vec());
        }
        // A missing key is not reported when the key was left out or misspelt, because that has been reported already.
        if !wrong.missing.is_some_and(|key| tree.has_cut(&path, key) || misspelt_in.contains(&path)) {
            let place = Place::new(index, path_text(&path));
            let at = tree.locate(&place.path).unwrap_or(tree.at);
            problems.add_at(place, at, wrong.message);
            // Names may be defined below an unknown key.
            left_out.anything |= wrong.unknown
                && match path.as_slice() {
                    [Step::Key(section), _] => section == "auth",
                    steps => steps.len() == 1,
                };
            wrong_paths.push(path.clone());
        }
        if !tree.cut(&path) {
            break;
        }
        tree.cut_before(&path);
    }
    tree.restore();
    for path in &wrong_paths {
        left_out.cut(&mut tree, path);
    }
    left_out.anything |= left_out.touches("include");
    match File::deserialize(&tree) {
        Ok(file) => (tree, file, left_out),
        Err(_) => {
            left_out.anything = true;
            (tree, File::default(), left_out)
        }
    }
}

/// Checks that `serde_yaml` reads the same values from the text as this parser has read from the tree. A file that the
/// two read differently is refused, because its author may have meant either reading.
fn agrees(index: usize, text: &str, tree: &Node, file: &File, problems: &mut Problems) -> bool {
    if tree.is_null() {
        return true;
    }
    match serde_yaml::from_str::<File>(text) {
        Ok(read) if read == *file => true,
        Ok(_) => {
            let message =
                "a key without a value can be read in two ways: write `{}` or `[]` after the key, or take the key out";
            problems.add_at(Place::new(index, ""), tree.at, message.to_owned());
            false
        }
        Err(error) => {
            let at = error.location().map_or(tree.at, |at| (at.line(), at.column()));
            problems.add_at(Place::new(index, ""), at, format!("this YAML can be read in two ways: {error}"));
            false
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
        let (_, file, left_out) = parse(0, text, &mut problems);
        assert_eq!(file.routes.len(), 2);
        assert_eq!(left_out.number("routes", 0), 1);
        assert_eq!(left_out.number("routes", 1), 3);
        assert!(!problems.is_empty());
    }
}
