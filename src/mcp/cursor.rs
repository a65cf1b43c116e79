//! Reads JSON text in one pass: checks all of it, and copies nothing.
//!
//! The cursor accepts the same texts as serde_json, except texts that are nested too deep. Property tests check this.
//! serde_json needs one pass to check a text and one more for each level that is read. On the message of a call, that
//! costs three times as much.

use super::find::find_in_string;
use crate::config::limits;

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The text is not one JSON value (RFC 8259).
    NotJson,
    /// Objects and arrays are nested more than [`limits::MESSAGE_DEPTH`] levels deep.
    TooDeep,
}

/// A position in a JSON text. Keys and values are returned as written.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The largest depth that is allowed.
    limit: usize,
    /// One bit for each open bracket: 1 for an object, 0 for an array. The lowest bit is the innermost bracket.
    objects: u64,
    /// The same bits for the brackets further out, 64 in each number.
    outer: Vec<u64>,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `text`, which may be nested [`limits::MESSAGE_DEPTH`] levels deep.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, limit: limits::MESSAGE_DEPTH, objects: 0, outer: Vec::new() }
    }

    /// The same for a text of any depth. Each level takes one bit of memory.
    pub(super) fn of_any_depth(text: &'a str) -> Self {
        Self { limit: usize::MAX, ..Self::new(text) }
    }

    /// Moves past white space, and returns the next byte without moving past that byte.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// The text from here on, without white space before it.
    pub(super) fn rest(&mut self) -> &'a str {
        self.peek();
        &self.text[self.at..]
    }

    /// Checks that nothing but white space follows.
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        if self.peek().is_none() { Ok(()) } else { Err(Flaw::NotJson) }
    }

    /// Reads the object that comes next. Calls `each` with the key of each member, in its quotes; `each` must move past
    /// the value.
    pub(super) fn members(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.between(b'{', b'}', |cursor| {
            let key = cursor.key()?;
            each(cursor, key)
        })
    }

    /// Calls `each` with each item of the array that comes next.
    pub(super) fn items(&mut self, mut each: impl FnMut(&'a str)) -> Result<(), Flaw> {
        self.entries(|cursor| cursor.value().map(&mut each))
    }

    /// Calls `each` at each item of the array that comes next; `each` must move past the item.
    pub(super) fn entries(&mut self, each: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.between(b'[', b']', each)
    }

    /// Calls `each` at the beginning of each member or item between the two brackets that come next.
    #[inline]
    fn between(
        &mut self,
        opening: u8,
        closing: u8,
        mut each: impl FnMut(&mut Self) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        self.expect(opening)?;
        self.open(opening == b'{')?;
        if self.peek() != Some(closing) {
            loop {
                each(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    _ => break,
                }
            }
        }
        self.expect(closing)?;
        self.close();
        Ok(())
    }

    /// The text that `pass` moves past.
    pub(super) fn passed(&mut self, pass: impl FnOnce(&mut Self) -> Result<(), Flaw>) -> Result<&'a str, Flaw> {
        self.peek();
        let begin = self.at;
        pass(self)?;
        Ok(&self.text[begin..self.at])
    }

    /// Moves past the value that comes next, without recursion, and returns the value.
    pub(super) fn value(&mut self) -> Result<&'a str, Flaw> {
        self.peek();
        let (begin, floor) = (self.at, self.depth);
        loop {
            // A value begins here. After an opening bracket, the loop goes on with the first value inside, unless the
            // closing bracket follows at once.
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'{') => {
                    self.open(true)?;
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.open(false)?;
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended. The objects and arrays around it may end here too.
            while self.depth > floor {
                let in_object = self.objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => self.close(),
                    Some(b']') if !in_object => self.close(),
                    _ => return Err(Flaw::NotJson),
                }
            }
            if self.depth == floor {
                return Ok(&self.text[begin..self.at]);
            }
        }
    }

    /// Moves past a key and its colon, and returns the key.
    #[inline]
    fn key(&mut self) -> Result<&'a str, Flaw> {
        self.expect(b'"')?;
        let begin = self.at;
        self.string()?;
        let key = &self.text[begin..self.at];
        self.expect(b':')?;
        self.at += 1;
        Ok(key)
    }

    #[inline]
    fn string(&mut self) -> Result<(), Flaw> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            self.at += find_in_string(&bytes[self.at..]).ok_or(Flaw::NotJson)?;
            match bytes[self.at] {
                b'"' => break self.at += 1,
                b'\\' => self.escape()?,
                _ => return Err(Flaw::NotJson),
            }
        }
        Ok(())
    }

    /// Moves past an escape. Half of a surrogate pair is accepted, because it is valid JSON. Callers that decode the
    /// text must refuse it.
    #[cold]
    fn escape(&mut self) -> Result<(), Flaw> {
        self.at += match self.text.as_bytes()[self.at + 1..] {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(Flaw::NotJson),
        };
        Ok(())
    }

    fn number(&mut self) -> Result<(), Flaw> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Moves past digits, of which there must be at least one.
    fn digits(&mut self) -> Result<(), Flaw> {
        let begin = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { Err(Flaw::NotJson) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Flaw> {
        if !self.text.as_bytes()[self.at..].starts_with(word) {
            return Err(Flaw::NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    /// Checks that `byte` comes next, without moving past it.
    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        if self.peek() == Some(byte) { Ok(()) } else { Err(Flaw::NotJson) }
    }

    fn open(&mut self, object: bool) -> Result<(), Flaw> {
        if self.depth == self.limit {
            return Err(Flaw::TooDeep);
        }
        if self.is_word_full() {
            self.outer.push(self.objects);
        }
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
        self.objects = if self.is_word_full() { self.outer.pop().unwrap_or_default() } else { self.objects >> 1 };
    }

    /// Whether the bits of the open brackets fill complete numbers of 64 bits.
    fn is_word_full(&self) -> bool {
        self.depth.is_multiple_of(u64::BITS as usize) && self.depth > 0
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests;
