//! JSON, one level at a time and without copies: what is in an object or array stays as it was written.
//!
//! serde_json skips values without recursion, so depth costs no stack: a level is read only when it is asked for.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Calls `each` with the key, its escapes resolved, and the value of each member of `object`, in order and with repeated
/// keys, until it fails. What is no object has no members.
pub(super) fn each_member<'a, E: From<serde_json::Error>>(
    object: &'a RawValue,
    each: &mut dyn FnMut(&str, &'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    if object.get().starts_with('{') { each_child(object, each) } else { Ok(()) }
}

/// Calls `each` with each item of `array`, in order, until it fails. What is no array has no items.
pub(super) fn each_item<'a, E: From<serde_json::Error>>(
    array: &'a RawValue,
    each: &mut dyn FnMut(&'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    if array.get().starts_with('[') { each_child(array, &mut |_, item| each(item)) } else { Ok(()) }
}

/// Whether some reader could take `key` for `name`: many do not tell upper from lower case. Both are folded character by
/// character as Go's encoding/json does, so that `ſ` and the Kelvin sign count as `s` and `k`.
pub(super) fn is_same_member(key: &str, name: &str) -> bool {
    if key.is_ascii() && name.is_ascii() {
        return key.eq_ignore_ascii_case(name);
    }
    fold(key).eq(fold(name))
}

fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
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
    /// An error of the reader makes it stop; it is not the one that is reported.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> Result<Vec<String>, serde_json::Error> {
        let (mut all, value) = (Vec::new(), serde_json::from_str(json)?);
        each_member(value, &mut |key, value| {
            all.push(format!("{key}={}", value.get()));
            Ok::<_, serde_json::Error>(())
        })?;
        each_item(value, &mut |item| {
            all.push(item.get().to_owned());
            Ok::<_, serde_json::Error>(())
        })?;
        Ok(all)
    }

    #[test]
    fn values_are_as_written() {
        for (json, expected) in [
            (
                r#" { "a" : 1.50 , "\u0061":[ 1 ],"":{"a" :"\u0061"} } "#,
                vec!["a=1.50", "a=[ 1 ]", r#"={"a" :"\u0061"}"#],
            ),
            ("[ 1e999 ,{ } ]", vec!["1e999", "{ }"]),
            ("{}", vec![]),
            ("7", vec![]),
            ("\"{\"", vec![]),
        ] {
            assert_eq!(members(json).expect("JSON"), expected, "{json}");
        }
        for json in ["{", r#"{"\ud800":1}"#, r#"{1:1}"#, "[1,]", "[1] 2"] {
            assert!(members(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_failure_ends_it() {
        #[derive(Debug)]
        struct Failure(usize);
        impl From<serde_json::Error> for Failure {
            fn from(_: serde_json::Error) -> Self {
                Self(0)
            }
        }
        let value: &RawValue = serde_json::from_str("[1,2,3]").expect("JSON");
        let mut count = 0;
        let failure = each_item(value, &mut |item| {
            count += 1;
            if item.get() == "2" { Err(Failure(count)) } else { Ok(()) }
        });
        assert_eq!((failure.expect_err("a failure").0, count), (2, 2));
    }

    #[test]
    fn names_in_any_case() {
        for key in ["result", "Result", "RESULT", "re\u{17f}ult"] {
            assert!(is_same_member(key, "result"), "{key}");
        }
        for key in ["results", "resul", "", "rèsult", "re\u{17f}ultt"] {
            assert!(!is_same_member(key, "result"), "{key}");
        }
        assert!(is_same_member("URITEMPLATE", "uriTemplate") && is_same_member("ur\u{131}", "uri"));
    }
}
