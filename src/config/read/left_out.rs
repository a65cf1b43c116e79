//! Records which parts of a file have errors and are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Place;
use crate::config::text::tree::{Node, Step};

/// The parts of a file that have errors and are therefore left out. Their names still count as defined, so that one
/// error does not cause others. The list items that remain keep the numbers that they have in the file.
#[derive(Default)]
pub(crate) struct LeftOut {
    /// Key paths of the sections, upstreams and providers that were left out.
    keys: BTreeSet<String>,
    /// By top-level list: the numbers of the items that were left out.
    items: BTreeMap<String, BTreeSet<usize>>,
    /// True when a lost part could have defined any name: for example an included file that cannot be read, or an
    /// unknown key.
    pub(crate) anything: bool,
}

impl LeftOut {
    /// True when `name` in `section` was left out, or may have been.
    pub(crate) fn may_define(&self, section: &str, name: &str) -> bool {
        self.touches(section) || self.keys.contains(&format!("{section}.{name}"))
    }

    /// True when `section`, the section that contains it, or one of its items was left out, or may have been.
    pub(crate) fn touches(&self, section: &str) -> bool {
        let top = section.split('.').next().unwrap_or(section);
        self.anything || self.keys.contains(section) || self.keys.contains(top) || self.items.contains_key(section)
    }

    /// The number in the file of the item of the top-level list `list` that has the number `now` after items were left
    /// out.
    pub(crate) fn number(&self, list: &str, now: usize) -> usize {
        let cut = self.items.get(list).into_iter().flatten();
        cut.fold(now, |number, &cut| if cut <= number { number + 1 } else { number })
    }

    /// Cuts the part of `tree` that contains the error at `path`, and records it: an item such as `routes[3]`,
    /// `upstreams.x`, `auth.providers.x` or `auth.cache`, or else the whole section.
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
