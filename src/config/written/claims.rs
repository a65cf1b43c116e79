//! `required_claims` of a provider as written: names, or names with values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// The default of `leeway`: how far the issuer's clock may differ from the edge's.
pub(crate) fn default_leeway() -> Span {
    Span(std::time::Duration::from_secs(10))
}

/// The default of `subject_claim`.
pub(crate) fn default_subject_claim() -> String {
    "sub".to_owned()
}

/// The default of `groups_claim`.
pub(crate) fn default_groups_claim() -> String {
    "groups".to_owned()
}

/// The claims that a token must have, by name, with the accepted values. An empty list accepts every value but `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RequiredClaims(pub BTreeMap<String, Vec<ClaimValue>>);

/// One value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ClaimValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
}

impl From<&ClaimValue> for serde_json::Value {
    fn from(value: &ClaimValue) -> Self {
        match value {
            ClaimValue::Bool(value) => Self::from(*value),
            ClaimValue::Number(value) => Self::from(*value),
            ClaimValue::Text(value) => Self::from(value.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for RequiredClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Claims;
        impl<'de> Visitor<'de> for Claims {
            type Value = RequiredClaims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of claims such as `[client_id]`, or a map with their values such as `{tenant: acme}`",
                )
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<RequiredClaims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some(name) = names.next_element::<String>()? {
                    claims.insert(name, Vec::new());
                }
                Ok(RequiredClaims(claims))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RequiredClaims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, values)) = entries.next_entry::<String, ClaimValues>()? {
                    claims.insert(name, values.0);
                }
                Ok(RequiredClaims(claims))
            }
        }
        deserializer.deserialize_any(Claims)
    }
}

/// One value, or a list of accepted values. It is never empty.
struct ClaimValues(Vec<ClaimValue>);

/// Reads one scalar of a type that JSON has, or a list of them.
struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = ClaimValues;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, `true`, `false`, or a list of these")
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![ClaimValue::Bool(value)]))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![ClaimValue::Number(value)]))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<ClaimValues, E> {
        let value = i64::try_from(value)
            .map_err(|_| E::custom("is a number that is too large: write it in quotes if it is text"))?;
        self.visit_i64(value)
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![ClaimValue::Text(value.to_owned())]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ClaimValues, A::Error> {
        let mut values = Vec::new();
        while let Some(ClaimValues(item)) = items.next_element()? {
            values.extend(item);
        }
        if values.is_empty() {
            return Err(de::Error::custom(
                "is empty, so every token would be refused: write a value, or a list of claims without values",
            ));
        }
        Ok(ClaimValues(values))
    }
}

impl<'de> Deserialize<'de> for ClaimValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

impl JsonSchema for RequiredClaims {
    fn schema_name() -> Cow<'static, str> {
        "RequiredClaims".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = serde_json::json!({"type": ["string", "integer", "boolean"]});
        json_schema!({
            "description": "claims such as `[client_id]`, or with their values such as `{tenant: acme}`",
            "anyOf": [
                {"type": "array", "items": {"type": "string"}},
                {"type": "object", "additionalProperties": {"anyOf": [value, {"type": "array", "items": value}]}},
            ],
        })
    }
}
