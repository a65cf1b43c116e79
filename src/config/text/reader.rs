//! Reads the structs of a section from a [`Node`] with serde. Errors use an operator's terms: they say what is written,
//! and what to write instead. An error repeats text of the file only where a word or a number is expected, so that it
//! does not show a misplaced secret.

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};

use super::suggest::{listing, nearest};
use super::tree::{Content, Entry, Node, Step};
use crate::types::excerpt;

/// Why a tree cannot be read as the wanted struct, and at which place.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    /// The path to the place, innermost step first.
    steps: Vec<Step>,
    /// The missing key, when the error is that a key is missing at this place.
    pub(crate) missing: Option<&'static str>,
    /// True when the error is an unknown key at this place. Nothing is known about what the key was meant to define.
    pub(crate) unknown: bool,
}

impl Wrong {
    fn new(message: String) -> Self {
        Self { message, steps: Vec::new(), missing: None, unknown: false }
    }

    fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The path from the root to the place.
    pub(crate) fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = in_words(&expected.to_string());
        Self::new(match found {
            Unexpected::Unit => format!("has no value: write {expected}"),
            Unexpected::Seq => format!("a list does not fit here: write {expected}"),
            Unexpected::Map => format!("a map does not fit here: write {expected}"),
            Unexpected::Str(_) => format!("text does not fit here: write {expected}"),
            Unexpected::Bool(word) => format!("`{word}` does not fit here: write {expected}"),
            Unexpected::Unsigned(number) => format!("`{number}` does not fit here: write {expected}"),
            Unexpected::Signed(number) => format!("`{number}` does not fit here: write {expected}"),
            Unexpected::Float(number) => format!("`{number}` does not fit here: write {expected}"),
            other => format!("{other} does not fit here: write {expected}"),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        let word = excerpt(word);
        Self::new(match nearest(&word, expected.iter().copied()) {
            Some(near) => format!("`{word}` is not known here: did you mean `{near}`?"),
            None => format!("`{word}` is not known here: write {}", listing(expected, "or")),
        })
    }

    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Self {
        let key = excerpt(key);
        let message = match nearest(&key, expected.iter().copied()) {
            _ if key == "<<" => "`<<` does not merge maps here (YAML 1.2): write the keys out".to_owned(),
            Some(near) => format!("`{key}` is not a known key here: did you mean `{near}`?"),
            None if expected.is_empty() => {
                format!("`{key}` is not a known key here: no keys are allowed, write `{{}}`")
            }
            None => format!("`{key}` is not a known key here: write {}", listing(expected, "or")),
        };
        Self { unknown: true, ..Self::new(message) }
    }

    fn missing_field(key: &'static str) -> Self {
        let message = match key {
            "auth" => {
                "`auth` is missing: write `auth: {providers: [NAME]}`, or `auth: none` for an open route".to_owned()
            }
            _ => format!("`{key}` is missing: add it"),
        };
        Self { missing: Some(key), ..Self::new(message) }
    }
}

/// Translates what serde's own visitors expect from Rust's terms into an operator's terms.
fn in_words(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a string" => "text".to_owned(),
        "path string" => "the path of a file".to_owned(),
        other => other.to_owned(),
    }
}

impl Node {
    /// An error that says what to write instead of this node. It does not repeat the node's text.
    fn instead(&self, expected: &str) -> Wrong {
        Wrong::new(match &self.content {
            _ if self.is_null() && expected == "text" => "has no value: write one".to_owned(),
            _ if self.is_null() => format!("has no value: write {expected}"),
            Content::Scalar { .. } => format!("text does not fit here: write {expected}"),
            Content::List(_) => format!("a list does not fit here: write {expected}"),
            Content::Map(_) => format!("a map does not fit here: write {expected}"),
        })
    }

    /// As [`Self::instead`], but the error repeats the text of this node if it is a scalar with a value.
    fn instead_of_word(&self, expected: &str) -> Wrong {
        match &self.content {
            Content::Scalar { text, plain: true } if !self.is_null() => {
                Wrong::new(format!("`{}` does not fit here: write {expected}", excerpt(text)))
            }
            Content::Scalar { text, plain: false } => {
                Wrong::new(format!("`{}` in quotes is text: write {expected}, without quotes", excerpt(text)))
            }
            _ => self.instead(expected),
        }
    }

    /// The text of a scalar without quotes; `None` for any other node.
    fn word(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    fn number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Wrong> {
        match self.word().map(|word| (word.parse(), word.parse())) {
            Some((Ok(number), _)) => visitor.visit_u64(number),
            Some((_, Ok(number))) => visitor.visit_i64(number),
            _ => Err(self.instead_of_word("a whole number")),
        }
    }

    fn text<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => visitor.visit_str(text),
            _ => Err(self.instead(&in_words(&(&visitor as &dyn Expected).to_string()))),
        }
    }
}

/// An empty value is never read as `None`: a key without a value is an empty list or map, or an error. So a
/// half-written `tls:` or `client_ca:` does not silently turn a feature off.
impl<'de> Deserializer<'de> for &Node {
    type Error = Wrong;

    /// Used only for types that accept several of text, numbers, lists and maps. Scalars without quotes are resolved by
    /// the core schema of YAML 1.2.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Content::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None }),
            Content::Scalar { .. } if self.is_null() => visitor.visit_unit(),
            Content::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                word => match (word.parse(), word.parse(), word.parse::<f64>()) {
                    (Ok(number), _, _) => visitor.visit_u64(number),
                    (_, Ok(number), _) => visitor.visit_i64(number),
                    (_, _, Ok(number)) if number.is_finite() => visitor.visit_f64(number),
                    _ => visitor.visit_str(word),
                },
            },
            Content::Scalar { text, plain: false } => visitor.visit_str(text),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.word() {
            Some("true" | "True" | "TRUE") => visitor.visit_bool(true),
            Some("false" | "False" | "FALSE") => visitor.visit_bool(false),
            _ => Err(self.instead_of_word("`true` or `false`")),
        }
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            _ if self.is_null() => visitor.visit_seq(Items([].iter().enumerate())),
            _ => Err(self.instead("a list: `[A, B]`, or each item on its own line after `- `")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None }),
            _ if self.is_null() => visitor.visit_map(Entries { rest: [].iter(), current: None }),
            _ => Err(self.instead("a map: each item on its own line after `NAME: `")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Map(_) => self.deserialize_map(visitor),
            _ if self.is_null() => Err(self.instead("its keys below it, or `{}`")),
            _ if name == "SecretSource" => {
                Err(self.instead("`{env: NAME}` or `{file: PATH}`; secrets are never written in this file"))
            }
            Content::Scalar { text, .. } if keys.iter().any(|key| text.starts_with(&format!("{key}:"))) => {
                Err(self.instead("a space after the colon"))
            }
            _ if keys.is_empty() => Err(self.instead("`{}`")),
            _ => Err(self.instead(&format!("a map with keys such as {}", listing(&keys[..keys.len().min(6)], "and")))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(self.instead(&listing(words, "or"))),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Node>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some((index, node)) = self.0.find(|(_, node)| !node.cut) else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|wrong| wrong.below(Step::Item(index)))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.current = self.rest.find(|entry| !entry.node.cut);
        let Some(entry) = self.current else { return Ok(None) };
        let key = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|wrong: Wrong| wrong.below(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let Some(entry) = self.current else { return Err(Wrong::new("a key without a value".to_owned())) };
        seed.deserialize(&entry.node).map_err(|wrong| wrong.below(Step::Key(entry.key.clone())))
    }
}
