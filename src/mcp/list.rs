//! Removes items that the client may not use from lists of tools, prompts and resources.

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;

use super::cursor::{Cursor, Flaw};
use super::fields::text;
use super::members::{Named, named};
use crate::config::limits;
use crate::types::Target;

/// What a list contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListKind {
    Tools,
    Prompts,
    Resources,
    ResourceTemplates,
}

/// Why a message that may hold a list cannot be filtered. Such a message must not be passed on, because its items were
/// not checked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ListError {
    #[error("the message is not JSON")]
    NotJson,
    /// Parsers differ in which of two equal keys they use, and some parsers ignore case.
    #[error("the message has `{0}` more than once, or in another spelling")]
    Ambiguous(&'static str),
}

impl From<Flaw> for ListError {
    fn from(_: Flaw) -> Self {
        Self::NotJson
    }
}

/// The member of a result that says who may cache the result (MCP 2026-07-28).
const CACHE_SCOPE: &str = "cacheScope";
/// The value of `cacheScope` with which only the client that sent the request may cache the result.
const PRIVATE: &str = r#""private""#;

impl ListKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// What the policy decides on for the item `name` of a list of this kind.
    pub fn target(self, name: &str) -> Target<'_> {
        match self {
            Self::Tools => Target::Tool(name),
            Self::Prompts => Target::Prompt(name),
            // A rule for resources matches the text of a template.
            Self::Resources | Self::ResourceTemplates => Target::Resource(name),
        }
    }

    /// Whether `name`, from a list of this kind, may be a label of metrics.
    pub fn is_label(self, name: &str) -> bool {
        self == Self::Tools && name.len() <= limits::LABEL_BYTES
    }

    /// The kind of list that the response to `method` has. `None` when `method` is not one of the four list methods.
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The method that asks for a list of this kind.
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::ResourceTemplates => "resources/templates/list",
        }
    }

    /// The capability of servers that have such lists.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::ResourceTemplates => "resources",
        }
    }

    /// The member of `result` that holds the list.
    pub fn list_key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }

    /// The member of an item that holds the name or URI by which requests refer to the item.
    pub fn name_key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
        }
    }
}

/// Removes the items that `is_allowed` denies from the lists in `message`, which is a response or a batch of responses.
/// A list is recognized by its place, whatever the method of the request was: it is an array in `result` under one of
/// the keys of [`ListKind`]. An item whose name is missing, is not a string, or appears twice is removed too, because
/// parsers may differ about the name.
///
/// `mark_private` says that the result depends on who sent the request. Then `cacheScope: private` (MCP 2026-07-28) is
/// added to a result with a list, so that no cache serves the result to other clients. A `cacheScope` that a result
/// with a list has already is set to `private` even without `mark_private`, and in any spelling of the key.
///
/// The rest of the message stays unchanged, byte for byte. `None` means that nothing has to change. `is_allowed` is
/// called for each item that has a name, in order, and before it is known whether the whole message is valid.
///
/// # Errors
/// The message is not JSON, or parsers may differ about where its lists are. Keys are compared with their escapes
/// resolved, as parsers see them.
pub fn filter_list(
    message: &[u8],
    is_allowed: &mut dyn FnMut(ListKind, &str) -> bool,
    mark_private: bool,
) -> Result<Option<Vec<u8>>, ListError> {
    Ok(Filter::read(message, is_allowed, mark_private)?.edited())
}

/// The tools in the lists of `message`, a response or a batch of responses, whose names may be labels of metrics. Empty
/// when `message` lists no tools or cannot be read.
pub fn listed_tools(message: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut listed = |kind: ListKind, name: &str| {
        if names.len() < limits::LISTED_LABELS && kind.is_label(name) {
            names.push(name.to_owned());
        }
        true
    };
    let is_understood = Filter::read(message, &mut listed, false).is_ok();
    if is_understood { names } else { Vec::new() }
}

/// The parts of a message that are removed or replaced.
struct Filter<'a, 'f> {
    text: &'a str,
    is_allowed: &'f mut dyn FnMut(ListKind, &str) -> bool,
    mark_private: bool,
    /// Ranges of `text`, and the text that replaces each range.
    edits: Vec<(Range<usize>, &'static str)>,
    /// The error if the message is JSON, which is known only at its end.
    error: Option<ListError>,
}

impl<'a, 'f> Filter<'a, 'f> {
    fn read(
        message: &'a [u8],
        is_allowed: &'f mut dyn FnMut(ListKind, &str) -> bool,
        mark_private: bool,
    ) -> Result<Self, ListError> {
        let text = str::from_utf8(message).map_err(|_| ListError::NotJson)?;
        let mut filter = Self { text, is_allowed, mark_private, edits: Vec::new(), error: None };
        let mut cursor = Cursor::of_any_depth(text);
        match cursor.peek() {
            Some(b'[') => cursor.entries(|cursor| filter.response(cursor))?,
            _ => filter.response(&mut cursor)?,
        }
        cursor.end()?;
        filter.error.map_or(Ok(filter), Err)
    }

    fn response(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Flaw> {
        if cursor.peek() != Some(b'{') {
            return cursor.value().map(drop);
        }
        let mut seen = false;
        cursor.members(|cursor, key| {
            if self.is_first(key, "result", &mut seen) { self.result(cursor) } else { cursor.value().map(drop) }
        })
    }

    fn result(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Flaw> {
        if cursor.peek() != Some(b'{') {
            return cursor.value().map(drop);
        }
        let (mut seen, mut has_list) = ([false; ListKind::ALL.len()], false);
        let (mut scopes, mut end) = (Vec::new(), 0);
        cursor.members(|cursor, key| {
            let kinds = ListKind::ALL.into_iter().zip(&mut seen);
            let kind =
                kinds.filter_map(|(kind, seen)| self.is_first(key, kind.list_key(), seen).then_some(kind)).last();
            match kind {
                Some(kind) if cursor.peek() == Some(b'[') => {
                    has_list = true;
                    let list = cursor.passed(|cursor| self.list(kind, cursor))?;
                    end = self.place(list).end;
                }
                _ => {
                    let place = self.place(cursor.value()?);
                    end = place.end;
                    if let Named::This | Named::Lookalike = named(key, CACHE_SCOPE) {
                        scopes.push(place);
                    }
                }
            }
            Ok(())
        })?;
        if !has_list {
            return Ok(());
        }
        if scopes.is_empty() && self.mark_private {
            self.edits.push((end..end, r#","cacheScope":"private""#));
        }
        for scope in scopes.into_iter().filter(|scope| &self.text[scope.clone()] != PRIVATE) {
            self.edits.push((scope, PRIVATE));
        }
        Ok(())
    }

    /// Each removed item takes one comma with it: the one before the item or, when no item before it stays, the one after.
    fn list(&mut self, kind: ListKind, cursor: &mut Cursor<'a>) -> Result<(), Flaw> {
        let mut kept_end = None;
        let mut gone: Option<Range<usize>> = None;
        cursor.entries(|cursor| {
            let mut name = None;
            let place = self.place(cursor.passed(|cursor| name_of(cursor, kind).map(|found| name = found))?);
            if name.is_some_and(|name| (self.is_allowed)(kind, &name)) {
                let end = if kept_end.is_none() { place.start } else { gone.as_ref().map_or(0, |gone| gone.end) };
                self.edits.extend(gone.take().map(|gone| (gone.start..end, "")));
                kept_end = Some(place.end);
            } else {
                let start = gone.as_ref().map(|gone| gone.start).or(kept_end).unwrap_or(place.start);
                gone = Some(start..place.end);
            }
            Ok(())
        })?;
        self.edits.extend(gone.map(|gone| (gone, "")));
        Ok(())
    }

    /// Whether `key` is `name` for the first time in its object. A repeated `name`, and a `key` that some parsers would
    /// take for `name`, are errors.
    fn is_first(&mut self, key: &str, name: &'static str, seen: &mut bool) -> bool {
        let error = match named(key, name) {
            Named::Other => return false,
            Named::This if !std::mem::replace(seen, true) => return true,
            Named::This | Named::Lookalike => ListError::Ambiguous(name),
            Named::Unreadable => ListError::NotJson,
        };
        // `Ambiguous` comes first: callers may pass on a message that is not JSON, but never one that is ambiguous.
        if let None | Some(ListError::NotJson) = self.error {
            self.error = Some(error);
        }
        false
    }

    /// The range of `value`, which is a part of the message, in the message.
    fn place(&self, value: &'a str) -> Range<usize> {
        let start = value.as_ptr().addr() - self.text.as_ptr().addr();
        start..start + value.len()
    }

    fn edited(mut self) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_unstable_by_key(|(place, _)| place.start);
        let mut edited = Vec::with_capacity(self.text.len() + PRIVATE.len() + CACHE_SCOPE.len() + 4);
        let mut done = 0;
        for (place, text) in self.edits {
            edited.extend_from_slice(&self.text.as_bytes()[done..place.start]);
            edited.extend_from_slice(text.as_bytes());
            done = place.end;
        }
        edited.extend_from_slice(&self.text.as_bytes()[done..]);
        Some(edited)
    }
}

/// The name of the item that comes next, past which the cursor moves. `None` when the item has no name, or when parsers
/// may differ about the name.
fn name_of<'a>(cursor: &mut Cursor<'a>, kind: ListKind) -> Result<Option<Cow<'a, str>>, Flaw> {
    if cursor.peek() != Some(b'{') {
        return cursor.value().map(|_| None);
    }
    let (mut name, mut is_ambiguous) = (None, false);
    cursor.members(|cursor, key| {
        let value = cursor.value()?;
        is_ambiguous |= match named(key, kind.name_key()) {
            Named::Other => false,
            Named::This => name.replace(value).is_some(),
            Named::Lookalike | Named::Unreadable => true,
        };
        Ok(())
    })?;
    Ok(name.filter(|_| !is_ambiguous).and_then(text))
}

#[cfg(test)]
mod tests;
