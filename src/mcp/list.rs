//! Lists of tools, prompts and resources, without what their reader may not use.

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;

use super::cursor::{Cursor, Flaw};
use super::members::{Named, named};
use crate::config::limits;

/// What a list lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    Tools,
    Prompts,
    Resources,
    ResourceTemplates,
}

/// Why a message that may hold a list cannot be filtered. It must not go on: what it lists was not judged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ListError {
    #[error("the message is not JSON")]
    NotJson,
    /// Readers differ in which of two members they take, and some do not tell upper from lower case.
    #[error("the message has `{0}` more than once, or in another spelling")]
    Ambiguous(&'static str),
}

impl From<Flaw> for ListError {
    fn from(_: Flaw) -> Self {
        Self::NotJson
    }
}

/// Who may keep a result, and the value for the one who asked (MCP 2026-07-28).
const CACHE_SCOPE: &str = "cacheScope";
const PRIVATE: &str = r#""private""#;

impl ListKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// Whether metrics may have `name`, which a list of this kind has, as a label.
    pub fn is_label(self, name: &str) -> bool {
        self == Self::Tools && name.len() <= limits::LABEL_BYTES
    }

    /// What the answer to `method` lists; `None` for all methods but the four that list.
    pub fn of_method(method: &str) -> Option<Self> {
        match method {
            "tools/list" => Some(Self::Tools),
            "prompts/list" => Some(Self::Prompts),
            "resources/list" => Some(Self::Resources),
            "resources/templates/list" => Some(Self::ResourceTemplates),
            _ => None,
        }
    }

    /// The member of `result` that is the list.
    pub fn list_key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }

    /// The member of an item that names it, and that requests name it by.
    pub fn name_key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
        }
    }
}

/// Takes out of the lists in `message`, a response or a batch of them, what `is_allowed` denies. A list is told by its
/// place, whatever was asked: an array in `result` under one of the keys of [`ListKind`]. An item whose name is
/// missing, no string, or there twice is taken out too, since readers may differ about it.
///
/// `mark_private` says that the answer depends on who asks: the `cacheScope` of a result with a list (MCP 2026-07-28) is
/// set to `private`, so that no cache gives it to others. One that is there already is set in any case, and in any
/// spelling.
///
/// Everything that stays, stays byte for byte. `None`: nothing has to change. `is_allowed` is asked about all items that
/// have a name, in their order, and before it is known whether the message is good.
///
/// # Errors
/// When the message is not JSON, or when readers may differ about where its lists are. Keys are compared as readers
/// see them, that is, with their escapes resolved.
pub fn filter_list(
    message: &[u8],
    is_allowed: &mut dyn FnMut(ListKind, &str) -> bool,
    mark_private: bool,
) -> Result<Option<Vec<u8>>, ListError> {
    Ok(Filter::read(message, is_allowed, mark_private)?.edited())
}

/// The tools that `message`, a response or a batch of them, lists, as far as they are labels for metrics. Empty when it
/// lists none or is not to be understood.
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

/// What is to be cut out of a message, and put in.
struct Filter<'a, 'f> {
    text: &'a str,
    is_allowed: &'f mut dyn FnMut(ListKind, &str) -> bool,
    mark_private: bool,
    edits: Vec<(Range<usize>, &'static str)>,
    /// Why the message is refused if it is JSON, which is known at its end.
    doubt: Option<ListError>,
}

impl<'a, 'f> Filter<'a, 'f> {
    fn read(
        message: &'a [u8],
        is_allowed: &'f mut dyn FnMut(ListKind, &str) -> bool,
        mark_private: bool,
    ) -> Result<Self, ListError> {
        let text = str::from_utf8(message).map_err(|_| ListError::NotJson)?;
        let mut filter = Self { text, is_allowed, mark_private, edits: Vec::new(), doubt: None };
        let mut cursor = Cursor::of_any_depth(text);
        match cursor.peek() {
            Some(b'[') => cursor.entries(|cursor| filter.response(cursor))?,
            _ => filter.response(&mut cursor)?,
        }
        cursor.end()?;
        filter.doubt.map_or(Ok(filter), Err)
    }

    fn response(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Flaw> {
        if cursor.peek() != Some(b'{') {
            return cursor.value().map(drop);
        }
        let mut seen = false;
        cursor.members(|cursor, key| {
            if self.is_it(key, "result", &mut seen) { self.result(cursor) } else { cursor.value().map(drop) }
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
            let kind = kinds.filter_map(|(kind, seen)| self.is_it(key, kind.list_key(), seen).then_some(kind)).last();
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

    /// Each item that goes takes a comma with it: the one before it, or when nothing before it stays, the one behind.
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

    /// Whether `key` is `name`, which nothing before it was. It is in doubt when it was, or when `key` may be taken for it.
    fn is_it(&mut self, key: &str, name: &'static str, seen: &mut bool) -> bool {
        let doubt = match named(key, name) {
            Named::Other => return false,
            Named::This if !std::mem::replace(seen, true) => return true,
            Named::This | Named::Lookalike => ListError::Ambiguous(name),
            Named::Unreadable => ListError::NotJson,
        };
        // Servers may call what is no JSON so, but never what is ambiguous.
        if let None | Some(ListError::NotJson) = self.doubt {
            self.doubt = Some(doubt);
        }
        false
    }

    /// Where `value`, a part of the message, stands in it.
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

/// The name of the item that comes next, if it names itself in one way only; it passes over the item.
fn name_of<'a>(cursor: &mut Cursor<'a>, kind: ListKind) -> Result<Option<Cow<'a, str>>, Flaw> {
    if cursor.peek() != Some(b'{') {
        return cursor.value().map(|_| None);
    }
    let (mut name, mut in_doubt) = (None, false);
    cursor.members(|cursor, key| {
        let value = cursor.value()?;
        in_doubt |= match named(key, kind.name_key()) {
            Named::Other => false,
            Named::This => name.replace(value).is_some(),
            Named::Lookalike | Named::Unreadable => true,
        };
        Ok(())
    })?;
    Ok(name.filter(|_| !in_doubt).and_then(text_of))
}

/// What the string `value` says; `None` when it is no string, or says what is no text.
fn text_of(value: &str) -> Option<Cow<'_, str>> {
    let plain = value.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') { serde_json::from_str(value).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(plain)) }
}

#[cfg(test)]
mod tests;
