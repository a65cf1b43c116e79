//! Reads the values of some keys of a JSON text, and refuses text that two parsers could read differently.

use std::borrow::Cow;

use super::bad_message::BadMessage;
use super::cursor::{Cursor, Flaw};
use super::members::{before_nul, is_same_member};

/// The text of the JSON string `value`. `None` when `value` is not a string, or has escapes that are not valid Unicode.
pub(super) fn text(value: &str) -> Option<Cow<'_, str>> {
    let inside = value.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') { serde_json::from_str(value).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inside)) }
}

/// The items of the JSON array `array`. It is an error when there are more than `most`. That error is returned only
/// after the whole text was read, so that invalid JSON is always reported as such.
pub(super) fn items<'a>(array: &'a str, most: usize, too_many: &'static str) -> Result<Vec<&'a str>, BadMessage> {
    let (mut items, mut more, mut cursor) = (Vec::new(), false, Cursor::new(array));
    cursor.items(|item| if items.len() < most { items.push(item) } else { more = true })?;
    cursor.end()?;
    if more { Err(BadMessage::invalid(too_many)) } else { Ok(items) }
}

/// The values of the keys `wanted` in the JSON object `object`. `not_object` is the error message when `object` is some
/// other value.
pub(super) fn fields<'a, const N: usize>(
    object: &'a str,
    wanted: [&str; N],
    not_object: &'static str,
) -> Result<[Option<&'a str>; N], BadMessage> {
    whole(object, |cursor| Fields::read(cursor, wanted, not_object, |cursor, _| cursor.value()))
}

/// The values that `read` finds in `text`, which must be one JSON value with nothing after it.
pub(super) fn whole<'a, const N: usize>(
    text: &'a str,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<Fields<'a, N>, Flaw>,
) -> Result<[Option<&'a str>; N], BadMessage> {
    let mut cursor = Cursor::new(text);
    let fields = read(&mut cursor)?;
    cursor.end()?;
    fields.found()
}

/// The values of some keys of an object, and the first reason to refuse the object. The object is refused only after
/// the whole text was read, so that invalid JSON is always reported as such.
pub(super) struct Fields<'a, const N: usize> {
    values: [Option<&'a str>; N],
    problem: Option<&'static str>,
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Reads the object that comes next. `value` returns the value of the key `wanted[index]` and moves past it.
    /// `not_object` is the error message when some other value comes next.
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        wanted: [&str; N],
        not_object: &'static str,
        mut value: impl FnMut(&mut Cursor<'a>, usize) -> Result<&'a str, Flaw>,
    ) -> Result<Self, Flaw> {
        let (mut values, mut problem) = ([None; N], None);
        if cursor.peek() != Some(b'{') {
            cursor.value()?;
            return Ok(Self { values, problem: Some(not_object) });
        }
        cursor.members(|cursor, key| {
            let reason = match Key::of(key, &wanted) {
                Key::Wanted(index) if values[index].is_none() => {
                    values[index] = Some(value(cursor, index)?);
                    return Ok(());
                }
                Key::Wanted(_) => Some("a key appears twice in an object"),
                Key::Lookalike => {
                    Some("a key differs from a key of MCP only in case or escapes: write the key as MCP does")
                }
                Key::Unreadable => Some("a key has an escape that is not valid Unicode, such as `\\ud800` alone"),
                Key::Other => None,
            };
            problem = problem.or(reason);
            cursor.value().map(drop)
        })?;
        Ok(Self { values, problem })
    }

    /// The values in the order of the wanted keys, or the reason to refuse the object.
    pub(super) fn found(self) -> Result<[Option<&'a str>; N], BadMessage> {
        self.problem.map_or(Ok(self.values), |problem| Err(BadMessage::invalid(problem)))
    }
}

enum Key {
    Wanted(usize),
    /// Some parsers would take the key for a wanted key.
    Lookalike,
    Other,
    /// The key has escapes that are not valid Unicode.
    Unreadable,
}

impl Key {
    /// Compares `key`, which includes its quotes, with the keys `wanted`.
    fn of(key: &str, wanted: &[&str]) -> Self {
        // The written form is compared, so a key with escapes is never a wanted key.
        let written = key.get(1..key.len() - 1);
        if let Some(index) = wanted.iter().position(|wanted| Some(*wanted) == written) {
            return Self::Wanted(index);
        }
        match text(key) {
            None => Self::Unreadable,
            Some(name) if wanted.iter().any(|wanted| is_same_member(before_nul(&name), wanted)) => Self::Lookalike,
            Some(_) => Self::Other,
        }
    }
}
