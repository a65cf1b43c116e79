//! Reads some values of a JSON text, and refuses what two parsers could read differently.

use std::borrow::Cow;

use super::bad_message::BadMessage;
use super::cursor::{Cursor, Flaw};
use super::find::find_in_string;
use super::members::is_same_member;

/// The string that `value` is.
pub(super) fn text(value: &str) -> Option<Cow<'_, str>> {
    let inside = value.strip_prefix('"')?.strip_suffix('"')?;
    // In what was read nothing else has a meaning there but escapes.
    match find_in_string(inside.as_bytes()) {
        None => Some(Cow::Borrowed(inside)),
        Some(_) => serde_json::from_str(value).ok().map(Cow::Owned),
    }
}

/// The items of the array that `array` is, all of which is read before it is said that there are more than `most`.
pub(super) fn items<'a>(array: &'a str, most: usize, too_many: &'static str) -> Result<Vec<&'a str>, BadMessage> {
    let (mut items, mut more, mut cursor) = (Vec::new(), false, Cursor::new(array));
    cursor.items(|item| if items.len() < most { items.push(item) } else { more = true })?;
    cursor.end()?;
    if more { Err(BadMessage::invalid(too_many)) } else { Ok(items) }
}

/// The values of the keys `wanted` in the object that `object` is.
pub(super) fn fields<'a, const N: usize>(
    object: &'a str,
    wanted: [&str; N],
) -> Result<[Option<&'a str>; N], BadMessage> {
    whole(object, |cursor| Fields::read(cursor, wanted, |cursor, _| cursor.value()))
}

/// What `read` finds in the object that all of `text` is.
pub(super) fn whole<'a, const N: usize>(
    text: &'a str,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<Fields<'a, N>, Flaw>,
) -> Result<[Option<&'a str>; N], BadMessage> {
    let mut cursor = Cursor::new(text);
    let fields = read(&mut cursor)?;
    cursor.end()?;
    fields.found()
}

/// The values of some keys of an object, all of which is read before it is said that keys clash.
pub(super) struct Fields<'a, const N: usize> {
    values: [Option<&'a str>; N],
    clash: Option<&'static str>,
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Reads the object that comes next. `value` passes over the value of the key `wanted[index]`.
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        wanted: [&str; N],
        mut value: impl FnMut(&mut Cursor<'a>, usize) -> Result<&'a str, Flaw>,
    ) -> Result<Self, Flaw> {
        let (mut values, mut clash) = ([None; N], None);
        if cursor.peek() != Some(b'{') {
            cursor.value()?;
            return Ok(Self { values, clash: Some("there is something else where an object belongs") });
        }
        cursor.members(|cursor, key| {
            let reason = match Key::of(key, &wanted) {
                Key::Wanted(index) if values[index].is_none() => {
                    values[index] = Some(value(cursor, index)?);
                    return Ok(());
                }
                Key::Wanted(_) => Some("a key is there twice"),
                Key::Lookalike => Some("a key differs from one of MCP's in case or escapes only"),
                Key::NoText => Some("an object cannot be read"),
                Key::Other => None,
            };
            clash = clash.or(reason);
            cursor.value().map(drop)
        })?;
        Ok(Self { values, clash })
    }

    pub(super) fn found(self) -> Result<[Option<&'a str>; N], BadMessage> {
        self.clash.map_or(Ok(self.values), |clash| Err(BadMessage::invalid(clash)))
    }
}

enum Key {
    Wanted(usize),
    /// Some parsers would take it for a wanted one.
    Lookalike,
    Other,
    /// It has escapes that stand for no text.
    NoText,
}

impl Key {
    /// Looks up `key`, which stands in its quotes.
    fn of(key: &str, wanted: &[&str]) -> Self {
        // As it is written: with escapes in it, it is never a wanted one.
        let written = key.get(1..key.len() - 1);
        if let Some(index) = wanted.iter().position(|wanted| Some(*wanted) == written) {
            return Self::Wanted(index);
        }
        match text(key) {
            None => Self::NoText,
            Some(name) if wanted.iter().any(|wanted| is_same_member(&name, wanted)) => Self::Lookalike,
            Some(_) => Self::Other,
        }
    }
}
