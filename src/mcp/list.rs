//! Lists of tools, prompts and resources, without what their reader may not use.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;
use thiserror::Error;

use super::members::{each_item, each_member, is_same_member};

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

impl From<serde_json::Error> for ListError {
    fn from(_: serde_json::Error) -> Self {
        Self::NotJson
    }
}

/// The longest list whose names are taken for metrics, and the longest such name, in bytes.
const LISTED: usize = 1_000;
const LISTED_BYTES: usize = 128;

/// Who may keep a result, and the value for the one who asked (MCP 2026-07-28).
const CACHE_SCOPE: &str = "cacheScope";
const PRIVATE: &str = r#""private""#;

impl ListKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

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
/// Everything that stays, stays byte for byte. `None`: nothing has to change.
///
/// # Errors
/// When the message is not JSON, or when readers may differ about where its lists are. Keys are compared as readers
/// see them, that is, with their escapes resolved.
pub fn filter_list(
    message: &[u8],
    is_allowed: &mut dyn FnMut(ListKind, &str) -> bool,
    mark_private: bool,
) -> Result<Option<Vec<u8>>, ListError> {
    let text = str::from_utf8(message).map_err(|_| ListError::NotJson)?;
    let message = serde_json::from_str(text)?;
    let mut filter = Filter { text, is_allowed, mark_private, edits: Vec::new() };
    each_response(message, &mut |response| filter.response(response))?;
    Ok(filter.edited())
}

/// The tools that `message`, a response or a batch of them, lists: at most 1,000 of at most 128 bytes, as labels for
/// metrics. Empty when it lists none or is not to be understood.
pub fn listed_tools(message: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(message) = serde_json::from_slice(message) else { return names };
    let listed = each_response(message, &mut |response| {
        let Some(result) = member(response, "result")? else { return Ok(()) };
        let Some(list) = member(result, ListKind::Tools.list_key())? else { return Ok(()) };
        each_item(list, &mut |item| {
            let name = if names.len() < LISTED { name_of(item, ListKind::Tools) } else { None };
            names.extend(name.filter(|name| name.len() <= LISTED_BYTES).map(Cow::into_owned));
            Ok(())
        })
    });
    if listed.is_err() { Vec::new() } else { names }
}

/// Calls `each` with the message, or with each of a batch; what is no object or array is passed over.
fn each_response<'a>(
    message: &'a RawValue,
    each: &mut dyn FnMut(&'a RawValue) -> Result<(), ListError>,
) -> Result<(), ListError> {
    if message.get().starts_with('[') { each_item(message, each) } else { each(message) }
}

/// The only member of that name; an error when another could be taken for it.
fn member<'a>(object: &'a RawValue, name: &'static str) -> Result<Option<&'a RawValue>, ListError> {
    let mut found = None;
    each_member(object, &mut |key, value| match is_same_member(key, name) {
        true if key != name || found.replace(value).is_some() => Err(ListError::Ambiguous(name)),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// The name of an item that names itself in one way only.
fn name_of(item: &RawValue, kind: ListKind) -> Option<Cow<'_, str>> {
    let name = member(item, kind.name_key()).ok()??.get();
    let plain = name.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') { serde_json::from_str(name).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(plain)) }
}

/// What is to be cut out of a message, and put in.
struct Filter<'a, 'f> {
    text: &'a str,
    is_allowed: &'f mut dyn FnMut(ListKind, &str) -> bool,
    mark_private: bool,
    edits: Vec<(Range<usize>, &'static str)>,
}

impl<'a> Filter<'a, '_> {
    fn response(&mut self, response: &'a RawValue) -> Result<(), ListError> {
        match member(response, "result")? {
            Some(result) => self.result(result),
            None => Ok(()),
        }
    }

    fn result(&mut self, result: &'a RawValue) -> Result<(), ListError> {
        let mut lists = [None; ListKind::ALL.len()];
        let mut scopes = Vec::new();
        let mut end = 0;
        each_member(result, &mut |key, value| {
            end = self.place(value).end;
            for (kind, list) in ListKind::ALL.into_iter().zip(&mut lists) {
                let name = kind.list_key();
                if is_same_member(key, name) && (key != name || list.replace(value).is_some()) {
                    return Err(ListError::Ambiguous(name));
                }
            }
            if is_same_member(key, CACHE_SCOPE) {
                scopes.push(value);
            }
            Ok(())
        })?;
        let mut has_list = false;
        for (kind, list) in ListKind::ALL.into_iter().zip(lists) {
            if let Some(list) = list.filter(|list| list.get().starts_with('[')) {
                has_list = true;
                self.list(kind, list)?;
            }
        }
        if !has_list {
            return Ok(());
        }
        if scopes.is_empty() && self.mark_private {
            self.edits.push((end..end, r#","cacheScope":"private""#));
        }
        for scope in scopes.into_iter().filter(|scope| scope.get() != PRIVATE) {
            self.edits.push((self.place(scope), PRIVATE));
        }
        Ok(())
    }

    /// Each item that goes takes a comma with it: the one before it, or when nothing before it stays, the one behind.
    fn list(&mut self, kind: ListKind, list: &'a RawValue) -> Result<(), ListError> {
        let mut kept_end = None;
        let mut gone: Option<Range<usize>> = None;
        each_item::<ListError>(list, &mut |item| {
            let place = self.place(item);
            if name_of(item, kind).is_some_and(|name| (self.is_allowed)(kind, &name)) {
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

    /// Where `value`, a part of the message, stands in it.
    fn place(&self, value: &'a RawValue) -> Range<usize> {
        let start = value.get().as_ptr().addr() - self.text.as_ptr().addr();
        start..start + value.get().len()
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

#[cfg(test)]
mod tests;
