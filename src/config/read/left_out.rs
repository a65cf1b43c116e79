//! What was wrong in a file, and is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Place;
use crate::config::text::tree::{Node, Step};

/// What was wrong in a file and therefore left out. Names in it still count as defined, so that one error does not
/// cause others, and the items that stay keep the numbers that they have in the file.
#[derive(Default)]
pub(crate) struct LeftOut {
    /// Key paths of sections, upstreams and providers.
    keys: BTreeSet<String>,
    /// Numbers of items of the top-level lists.
    items: BTreeMap<String, BTreeSet<usize>>,
    /// A file that cannot be read, or a key that nobody knows: it could have defined any name.
    pub(crate) anything: bool,
}

impl LeftOut {
    /// True when `name` in `section` was left out, or may have been.
    pub(crate) fn may_define(&self, section: &str, name: &str) -> bool {
        self.touches(section) || self.keys.contains(&format!("{section}.{name}"))
    }

    /// True when `section`, what it stands in, or an item of it when it is a list was left out, or may have been.
    pub(crate) fn touches(&self, section: &str) -> bool {
        let top = section.split('.').next().unwrap_or(section);
        self.anything || self.keys.contains(section) || self.keys.contains(top) || self.items.contains_key(section)
    }

    /// The number in the file of an item of the top-level list `list` that now has number `now`.
    pub(crate) fn number(&self, list: &str, now: usize) -> usize {
        let cut = self.items.get(list).into_iter().flatten();
        cut.fold(now, |number, &cut| if cut <= number { number + 1 } else { number })
    }

    /// Cuts what holds the error at `path`: `routes[3]`, `upstreams.x`, `auth.providers.x`, `auth.cache`, or else the
    /// whole section.
    pub(super) fn cut(&mut self, tree: &mut Node, path: &[Step]) {
        let depth = match path {
            [Step::Key(auth), Step::Key(providers), Step::Key(_), ..] if auth == "auth" && providers == "providers" => {
                3
            }
            [Step::Key(section), Step::Key(_), ..] if section == "auth" || section == "upstreams" => 2,
            [Step::Key(_), Step::Item(_), ..] => 2,
            _ => path.len().min(1),
        };
        let path = &path[..depth];
        if tree.cut(path) {
            match path {
                [Step::Key(list), Step::Item(index)] => {
                    self.items.entry(list.clone()).or_default().insert(*index);
                }
                _ => {
                    self.keys.insert(path_text(path));
                }
            }
        }
    }
}

/// A key path as text, such as `routes[3].upstream`.
pub(crate) fn path_text(path: &[Step]) -> String {
    let place = path.iter().fold(Place::new(0, ""), |place, step| match step {
        Step::Key(key) => place.key(key),
        Step::Item(index) => place.item(*index),
    });
    place.path
}
