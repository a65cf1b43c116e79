//! The state and the checks that the checks of all sections share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;
use http::header::CONTENT_LENGTH;

use super::material::Materials;
use crate::config::checked::credential::Assertions;
use crate::config::checked::outbound::Outbound;
use crate::config::limits::{self, Limits};
use crate::config::read::place::Place;
use crate::config::read::problems::Problems;
use crate::config::read::source::Source;
use crate::config::units::Span;
use crate::config::written::auth::Provider;
use crate::config::written::server::Identity;
use crate::config::written::upstream::Upstream;
use crate::types::is_connection_field;

/// The files that were read, the files that they name, and the errors found so far.
pub(crate) struct Resolver<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) materials: Materials,
    pub(crate) problems: Problems,
    pub(crate) outbound: Outbound,
}

/// The checked sections that the checks of routes need.
#[derive(Clone, Copy)]
pub(crate) struct Sections<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) identity: &'a Identity,
    /// `None` when section `assertions` is missing or has no valid key.
    pub(crate) assertions: Option<&'a Assertions>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(sources: &'a [Source], problems: Problems) -> Self {
        Self { sources, materials: Materials::default(), problems, outbound: Outbound::default() }
    }
}

impl Resolver<'_> {
    /// The folder at which the relative paths in a file start.
    pub(super) fn folder(&self, file: usize) -> PathBuf {
        self.sources[file].path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Returns a section that may be written in only one file. Reports every further file that has the section.
    pub(super) fn only<T>(&mut self, path: &str, section: impl Fn(&Source) -> Option<T>) -> Option<T> {
        let mut found: Option<(usize, T)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(value) = section(source) else { continue };
            match &found {
                None => found = Some((index, value)),
                Some((first, _)) => {
                    let first = self.sources[*first].path.display();
                    self.problems.add(
                        &Place::new(index, path),
                        format!("this section is also in `{first}`: keep one of the two"),
                    );
                }
            }
        }
        found.map(|(_, value)| value)
    }

    /// The number of the first file that has a section of [`Self::only`]; 0 when no file has it.
    pub(super) fn file_of(&self, has: impl Fn(&Source) -> bool) -> usize {
        self.sources.iter().position(has).unwrap_or_default()
    }

    pub(super) fn not_zero(&mut self, place: &Place, span: &Span) {
        if span.0.is_zero() {
            self.problems.add(place, "is zero: write a duration such as `2s`");
        }
    }

    /// Checks the names of all items of a section in all files, and calls `resolve` for each name once. A name that is
    /// not valid or is used twice is reported.
    pub(super) fn named<T>(
        &mut self,
        section: &str,
        items: impl Fn(&Source) -> Option<&BTreeMap<String, T>>,
        mut resolve: impl FnMut(&mut Self, Arc<str>, &T, Place) -> Option<()>,
    ) {
        let mut first: HashMap<String, usize> = HashMap::new();
        for (file, source) in self.sources.iter().enumerate() {
            for (name, item) in items(source).into_iter().flatten() {
                let place = Place::new(file, section).key(name);
                if !is_name(name) {
                    self.problems.add(
                        &place,
                        format!(
                            "`{}` is not a valid name: use letters, digits, `-`, `_` and `.`, at most {} characters",
                            name.escape_debug(),
                            limits::NAME_OF_PART_BYTES
                        ),
                    );
                }
                if let Some(&other) = first.get(name) {
                    let other = self.sources[other].path.display();
                    self.problems
                        .add(&place, format!("the name `{name}` is also used in `{other}`: rename one of the two"));
                    continue;
                }
                first.insert(name.clone(), file);
                resolve(self, name.as_str().into(), item, place);
            }
        }
    }

    /// True when `name` is defined in `section`, or may be defined in a part that was left out because of an error.
    pub(super) fn is_defined<T>(
        &self,
        section: &str,
        items: impl Fn(&Source) -> Option<&BTreeMap<String, T>>,
        name: &str,
    ) -> bool {
        self.sources.iter().any(|source| {
            items(source).is_some_and(|items| items.contains_key(name)) || source.left_out.may_define(section, name)
        })
    }
}

/// The providers of a file, by name; `None` when the file has no section `auth`.
pub(crate) fn providers_of(source: &Source) -> Option<&BTreeMap<String, Provider>> {
    source.file.auth.as_ref().map(|auth| &auth.providers)
}

/// The upstreams of a file, by name.
pub(crate) fn upstreams_of(source: &Source) -> Option<&BTreeMap<String, Upstream>> {
    Some(&source.file.upstreams)
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= limits::NAME_OF_PART_BYTES && name.bytes().all(legal)
}

/// True for fields that a configuration cannot set: fields that belong to a connection (RFC 9110 section 7.6.1), and
/// `Content-Length`.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    is_connection_field(name) || *name == CONTENT_LENGTH
}
