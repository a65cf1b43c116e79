//! Reads the JSON objects of a token. Objects that other parsers might read differently are refused.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::auth::error::AuthError;

/// 2^53: from here on, not all parsers can tell an integer from its neighbours.
const INEXACT: f64 = (1_u64 << 53) as f64;

/// The members of a JSON object. The names of claims and header fields must be unique (RFC 7519 section 4, RFC 7515
/// section 4).
#[derive(Debug)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// Reads the header of a token.
    pub(crate) fn of_header(token: &str) -> Result<Self, AuthError> {
        let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
        let members = header.and_then(|header| serde_json::from_slice(&header).ok());
        members.ok_or(AuthError::Denied("the token's header is not a JSON object with unique names"))
    }

    /// The claims of a validated token, if all parsers read them in the same way. `iss` must be a string (RFC 7519
    /// section 4.1.1), but the library also accepts a list that contains the right issuer. Times must be exact numbers.
    pub(crate) fn beyond_doubt(self) -> Result<Map<String, Value>, AuthError> {
        let exact = |date: &Value| date.as_f64().is_some_and(|seconds| (0.0..INEXACT).contains(&seconds));
        if !self.0.get("iss").is_some_and(Value::is_string) {
            return Err(AuthError::Denied("`iss` of the token is not a string"));
        }
        if !["exp", "nbf"].iter().filter_map(|name| self.0.get(*name)).all(exact) {
            return Err(AuthError::Denied("`exp` or `nbf` of the token is not a valid time"));
        }
        Ok(self.0)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueNames)
    }
}

struct UniqueNames;

impl<'de> Visitor<'de> for UniqueNames {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = map.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("the object has the same name twice"));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_however_they_are_written() {
        let read = serde_json::from_str::<Members>;
        assert_eq!(read(r#"{"a":1,"b":{"a":2}}"#).expect("unique").0.len(), 2);
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, "[]", "null", r#"{"a":1}{}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
