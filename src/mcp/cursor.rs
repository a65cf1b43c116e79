//! JSON text, passed over once: all of it is checked, and nothing is copied.
//!
//! It takes what serde_json takes, but for what is too deep; property tests hold it to that. serde_json needs a pass to
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
    /// For each open bracket whether it is that of an object; the lowest bit is the innermost.
    objects: u64,
}

// Each open bracket has its bit.
const _: () = assert!(limits::MESSAGE_DEPTH <= u64::BITS as usize);

impl<'a> Cursor<'a> {
    /// At the beginning of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, objects: 0 }
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
        self.expect(b'{')?;
        self.open(true)?;
        if self.peek() != Some(b'}') {
            loop {
                let key = self.key()?;
                each(self, key)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    _ => break,
                }
            }
        }
        self.expect(b'}')?;
        self.close();
        Ok(())
    }

    /// Calls `each` with each item of the array that comes next.
    pub(super) fn items(&mut self, mut each: impl FnMut(&'a str)) -> Result<(), Flaw> {
        self.expect(b'[')?;
        self.open(false)?;
        if self.peek() != Some(b']') {
            loop {
                each(self.value()?);
                match self.peek() {
                    Some(b',') => self.at += 1,
                    _ => break,
                }
            }
        }
        self.expect(b']')?;
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
    fn key(&mut self) -> Result<&'a str, Flaw> {
        self.expect(b'"')?;
        let begin = self.at;
        self.string()?;
        let key = &self.text[begin..self.at];
        self.expect(b':')?;
        self.at += 1;
        Ok(key)
    }

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
        if self.depth == limits::MESSAGE_DEPTH {
            return Err(Flaw::TooDeep);
        }
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    /// The text of the one value in `text`.
    fn whole(text: &str) -> Result<&str, Flaw> {
        let mut cursor = Cursor::new(text);
        let value = cursor.value()?;
        cursor.end().map(|()| value)
    }

    fn members(text: &str) -> Result<Vec<(&str, &str)>, Flaw> {
        let (mut all, mut cursor) = (Vec::new(), Cursor::new(text));
        cursor.members(|cursor, key| {
            all.push((key, cursor.passed(|cursor| cursor.value().map(drop))?));
            Ok(())
        })?;
        cursor.end().map(|()| all)
    }

    fn items(text: &str) -> Result<Vec<&str>, Flaw> {
        let (mut all, mut cursor) = (Vec::new(), Cursor::new(text));
        cursor.items(|item| all.push(item))?;
        cursor.end().map(|()| all)
    }

    /// All ways to read `text` agree with serde_json.
    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let raw = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
        prop_assert_eq!(whole(text).ok(), raw, "{:?}", text);
        let begins = |bracket| raw.is_some_and(|raw| raw.starts_with(bracket));
        prop_assert_eq!(members(text).is_ok(), begins('{'), "{:?}", text);
        prop_assert_eq!(items(text).is_ok(), begins('['), "{:?}", text);
        let all = serde_json::from_str::<Vec<&RawValue>>(text).ok();
        prop_assert_eq!(items(text).ok(), all.map(|all| all.into_iter().map(RawValue::get).collect()), "{:?}", text);
        Ok(())
    }

    #[test]
    fn keys_and_values_are_as_written() {
        let members = members(" {\"a\" : 1.50 ,\"\\u0061\":[ 1 ],\n\"\":{\"a\" :\"\\u0061\"} }\t").expect("an object");
        assert_eq!(members, [("\"a\"", "1.50"), ("\"\\u0061\"", "[ 1 ]"), ("\"\"", "{\"a\" :\"\\u0061\"}")]);
        assert_eq!(items("[ 1e999 ,{ } ,[]]"), Ok(vec!["1e999", "{ }", "[]"]));
        assert_eq!((items("[ ]"), whole(" \"\\ud800\" ")), (Ok(vec![]), Ok("\"\\ud800\"")));
    }

    #[test]
    fn whatever_is_no_json_is_none() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "}",
            "]",
            "{]",
            "[}",
            "{}}",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{1:1}",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "[{]}",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123",
            "\"\n\"",
            "\"\u{0}\"",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "truee",
            "NaN",
            "1\u{a0}",
            "\u{feff}1",
            "1 2",
            "//",
        ] {
            assert_eq!(whole(text), Err(Flaw::NotJson), "{text:?}");
            assert!(serde_json::from_str::<&RawValue>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            [("[", "]"), ("{\"a\":", "}")]
                .map(|(open, close)| format!("{}1{}", open.repeat(depth), close.repeat(depth)))
        };
        for text in nested(limits::MESSAGE_DEPTH) {
            assert_eq!(whole(&text), Ok(&*text));
            assert!(members(&text).is_ok() || items(&text).is_ok());
        }
        for text in nested(limits::MESSAGE_DEPTH + 1) {
            assert_eq!(whole(&text), Err(Flaw::TooDeep));
            assert!(members(&text) == Err(Flaw::TooDeep) || items(&text) == Err(Flaw::TooDeep));
        }
        let side_by_side = format!("[{}1]", "[[]],{\"a\":[]},".repeat(limits::MESSAGE_DEPTH));
        assert!(whole(&side_by_side).is_ok() && items(&side_by_side).is_ok());
    }

    /// Values of all kinds, with white space.
    fn json() -> impl Strategy<Value = String> {
        let text = r#""([a-zé\u{2028}\u{10000} {}\[\],:]|\\["\\/bfnrtu]|\\u[0-9a-fA-F]{4}){0,12}""#;
        let number = "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,2})?([eE][+-]?[0-9]{1,3})?";
        let leaf = prop_oneof![text, number, "true|false|null"];
        leaf.prop_recursive(5, 40, 5, |inner| {
            let member = ("[ \n]?", "\"[a-c]{0,9}\"", "[ \t]?", inner.clone());
            let member =
                member.prop_map(|(before, key, behind, value)| format!("{before}{key}{behind}:{behind}{value}"));
            let joined = |all: Vec<String>| all.join(",");
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(move |all| format!("[{}]", joined(all))),
                proptest::collection::vec(member, 0..5).prop_map(move |all| format!("{{{} }}\r", joined(all))),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(text in json()) {
            agrees(&text)?;
        }

        #[test]
        fn it_refuses_what_serde_json_refuses(
            text in json(), at in any::<prop::sample::Index>(), cut in 0..3_usize, put in "[\\PC\u{0}-\u{1f}]{0,2}",
        ) {
            let mut signs: Vec<char> = text.chars().collect();
            let at = at.index(signs.len() + 1);
            signs.splice(at..(at + cut).min(signs.len()), put.chars());
            agrees(&String::from_iter(signs))?;
        }

        #[test]
        fn no_text_is_read_in_another_way(text in r#"([\[\]{}:,"\\ \n0-9eE.+u-]|true|null|"a"|"a":|\u{0}|é){0,16}"#) {
            agrees(&text)?;
        }
    }
}
