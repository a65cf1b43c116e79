//! The same filter, which reads one level after the other with serde_json. The filter in one pass is compared with it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::{CACHE_SCOPE, ListError, ListKind, PRIVATE};
use crate::mcp::members::is_same_member;

impl From<serde_json::Error> for ListError {
    fn from(_: serde_json::Error) -> Self {
        Self::NotJson
    }
}

/// Does the same as `filter_list`.
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

/// Calls `each` with the message, or with each message of a batch.
fn each_response<'a>(
    message: &'a RawValue,
    each: &mut dyn FnMut(&'a RawValue) -> Result<(), ListError>,
) -> Result<(), ListError> {
    if message.get().starts_with('[') { each_item(message, each) } else { each(message) }
}

/// The member `name`. It is an error when there are two, or when another key could be taken for `name`.
fn member<'a>(object: &'a RawValue, name: &'static str) -> Result<Option<&'a RawValue>, ListError> {
    let mut found = None;
    each_member(object, &mut |key, value| match is_same_member(key, name) {
        true if key != name || found.replace(value).is_some() => Err(ListError::Ambiguous(name)),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// The name of an item. `None` when the item has no name, or when parsers may differ about the name.
fn name_of(item: &RawValue, kind: ListKind) -> Option<Cow<'_, str>> {
    let name = member(item, kind.name_key()).ok()??.get();
    let plain = name.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') { serde_json::from_str(name).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(plain)) }
}

/// The parts of a message that are removed or replaced.
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

    /// Each removed item takes one comma with it: the one before the item or, when no item before it stays, the one after.
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

    /// The range of `value`, which is a part of the message, in the message.
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

/// Calls `each` with the key, its escapes resolved, and the value of each member of `object`, in order and with
/// repeated keys, until `each` fails. Another value than an object has no members.
fn each_member<'a, E: From<serde_json::Error>>(
    object: &'a RawValue,
    each: &mut dyn FnMut(&str, &'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    if object.get().starts_with('{') { each_child(object, each) } else { Ok(()) }
}

/// Calls `each` with each item of `array`, in order, until `each` fails. Another value than an array has no items.
fn each_item<'a, E: From<serde_json::Error>>(
    array: &'a RawValue,
    each: &mut dyn FnMut(&'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    if array.get().starts_with('[') { each_child(array, &mut |_, item| each(item)) } else { Ok(()) }
}

fn each_child<'a, E: From<serde_json::Error>>(value: &'a RawValue, each: Each<'_, 'a, E>) -> Result<(), E> {
    let mut children = Children { each, failure: None };
    let read = serde_json::Deserializer::from_str(value.get()).deserialize_any(&mut children);
    match children.failure {
        Some(failure) => Err(failure),
        None => Ok(read?),
    }
}

type Each<'e, 'a, E> = &'e mut dyn FnMut(&str, &'a RawValue) -> Result<(), E>;

struct Children<'e, 'a, E> {
    each: Each<'e, 'a, E>,
    failure: Option<E>,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a, E> Children<'_, 'a, E> {
    /// Calls `each`. When `each` fails, its error is kept in `failure`, and the returned error only stops the parser.
    fn child<R: Error>(&mut self, key: &str, value: &'a RawValue) -> Result<(), R> {
        (self.each)(key, value).map_err(|failure| {
            self.failure = Some(failure);
            R::custom("stopped")
        })
    }
}

impl<'a, E> Visitor<'a> for &mut Children<'_, 'a, E> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((Key(key), value)) = map.next_entry()? {
            self.child(&key, value)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            self.child("", item)?;
        }
        Ok(())
    }
}
