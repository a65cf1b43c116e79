//! JSON text, passed over once: all of it is checked, and nothing is copied.
//!
//! It takes what serde_json takes, but for what is deeper than asked for; property tests hold it to that. serde_json needs a pass to
//! check a text and one more for each level that is looked at, and costs three times as much on the message of a call.

use super::find::find_in_string;
use crate::config::limits;

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not one JSON value (RFC 8259).
    NotJson,
    /// Objects and arrays stand in each other more than [`limits::MESSAGE_DEPTH`] deep.
    TooDeep,
}

/// A place in a text. Keys and values are given as they were written.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// How deep it may be.
    limit: usize,
    /// For each open bracket whether it is that of an object; the lowest bit is the innermost.
    objects: u64,
    /// The same for brackets further out, 64 at a time.
    outer: Vec<u64>,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, limit: limits::MESSAGE_DEPTH, objects: 0, outer: Vec::new() }
    }

    /// The same for a text that may be of any depth: it costs a bit for each level.
    pub(super) fn of_any_depth(text: &'a str) -> Self {
        Self { limit: usize::MAX, ..Self::new(text) }
    }

    /// What stands behind white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        if self.peek().is_none() { Ok(()) } else { Err(Flaw::NotJson) }
    }

    /// Calls `each` with the key, in its quotes, of each member of the object that comes next; it passes over the value.
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

    /// Calls `each` at each item of the array that comes next; it passes over the item.
    pub(super) fn entries(&mut self, each: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.between(b'[', b']', each)
    }

    /// Calls `each` wherever something begins between the two brackets that come next.
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

    /// What `pass` passes over.
    pub(super) fn passed(&mut self, pass: impl FnOnce(&mut Self) -> Result<(), Flaw>) -> Result<&'a str, Flaw> {
        self.peek();
        let begin = self.at;
        pass(self)?;
        Ok(&self.text[begin..self.at])
    }

    /// Passes over the value that comes next, without recursion.
    pub(super) fn value(&mut self) -> Result<&'a str, Flaw> {
        self.peek();
        let (begin, floor) = (self.at, self.depth);
        loop {
            // A value begins, and behind its opening bracket the next one, unless the closing one stands there.
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
            // It has ended, and with it may end those that it stands in.
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

    /// Passes over a key and its colon.
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

    /// Half a surrogate pair is JSON all the same; it matters to those who want the text.
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

    /// One digit at least.
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

    /// `byte` comes next, and stays.
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

    /// Whether the brackets that are open fill words of bits.
    fn is_word_full(&self) -> bool {
        self.depth.is_multiple_of(u64::BITS as usize) && self.depth > 0
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests;
