//! What is imported: an nginx configuration, a scope file, or both.

use std::path::Path;
use std::sync::Arc;

use crate::config::written::Route;
use crate::import::draft::Item;
use crate::import::nginx::Directive;
use crate::import::note::Note;
use crate::import::scopes::ScopeFile;
use crate::import::scopes::rules::rules;
use crate::types::excerpt;

/// A configuration of nginx.
#[derive(Clone, Copy)]
pub(crate) struct Nginx<'a> {
    pub(crate) file: &'a Arc<str>,
    pub(crate) folder: &'a Path,
    pub(crate) root: &'a [Directive],
}

/// A scope file.
#[derive(Clone, Copy)]
pub(crate) struct Scopes<'a> {
    pub(crate) file: &'a Arc<str>,
    pub(crate) read: &'a ScopeFile,
}

/// Sets the rules for `server` on `item`.
pub(crate) fn add_rules(server: &str, scopes: Scopes<'_>, with_notes: bool, item: &mut Item<Route>) {
    let rules = rules(scopes.file, scopes.read, server);
    if !rules.opens {
        let text = format!("no scope allows anything on server `{}`: the route denies all operations", excerpt(server));
        item.notes.push(Note::of_output(text));
    }
    if with_notes {
        item.notes.extend(rules.notes);
    }
    (item.value.methods, item.value.tools) = (Some(rules.methods), Some(rules.tools));
}
