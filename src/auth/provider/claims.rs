//! What is known of a caller: a token says it itself (RFC 9068), or a server says it of the token (RFC 7662).

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::auth::error::AuthError;
use crate::config::{ClaimNames, RequiredClaim};
use crate::types::UnixSeconds;

/// What a valid credential says.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// `None`: nobody has said.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// Whom it is meant for (`aud`); `None`: nobody has said.
    pub(crate) audiences: Option<Vec<String>>,
    /// What it calls itself (`jti`).
    pub(crate) token_id: Option<String>,
}

impl Claims {
    /// Reads who the caller is from claims that were validated.
    ///
    /// # Errors
    /// The caller has no name.
    pub(crate) fn read(claims: &Map<String, Value>, names: &ClaimNames) -> Result<Self, AuthError> {
        let subject = claims.get(&names.subject).and_then(Value::as_str);
        let subject = subject.ok_or(AuthError::Denied("the token does not name its subject"))?.to_owned();
        let scopes: HashSet<String> = [Some("scope"), Some("scp"), names.scopes.as_deref()]
            .into_iter()
            .flatten()
            .flat_map(|claim| words(claims.get(claim)))
            .collect();
        let groups = match claims.get(&names.groups) {
            Some(Value::String(group)) => vec![group.clone()],
            other => words(other),
        };
        let expires_at = claims.get("exp").and_then(numeric_date);
        let audiences = match claims.get("aud") {
            Some(Value::String(audience)) => Some(vec![audience.clone()]),
            Some(Value::Array(items)) => Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            Some(_) => Some(Vec::new()),
            None => None,
        };
        let token_id = claims.get("jti").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { subject, scopes: scopes.into_iter().collect(), groups, expires_at, audiences, token_id })
    }
}

/// Seconds since 1970. A fraction is legal (RFC 7519 section 2) and rounds down: for `exp`, to the safe side. From 2^53 on
/// parsers differ in what a number is.
pub(crate) fn numeric_date(date: &Value) -> Option<UnixSeconds> {
    let seconds = date.as_u64().or_else(|| date.as_f64().filter(|date| *date >= 0.0).map(|date| date as u64));
    seconds.filter(|seconds| *seconds < 1 << 53)
}

/// True when `claims` hold what is wanted: the value itself, or a list with it.
pub(crate) fn meets(claims: &Map<String, Value>, wanted: &RequiredClaim) -> bool {
    let wants = |value: &Value| wanted.values.contains(value);
    match claims.get(&wanted.name) {
        None | Some(Value::Null) => false,
        Some(_) if wanted.values.is_empty() => true,
        Some(Value::Array(items)) => items.iter().any(wants),
        Some(value) => wants(value),
    }
}

/// A string with spaces, or a list of strings.
fn words(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn required_claims_are_there_and_have_one_of_the_values() {
        let claims = json!({"client_id": "x", "nothing": null, "amr": ["pwd", "mfa"], "level": 3, "ok": true});
        let claims = claims.as_object().expect("an object");
        let meets = |name: &str, values: Value| {
            let values = values.as_array().expect("a list").clone();
            super::meets(claims, &RequiredClaim { name: name.to_owned(), values })
        };
        assert!(meets("client_id", json!([])));
        assert!(meets("client_id", json!(["y", "x"])));
        assert!(meets("amr", json!(["mfa"])) && meets("level", json!([3])) && meets("ok", json!([true])));
        for (name, values) in [
            ("absent", json!([])),
            ("nothing", json!([])),
            ("client_id", json!(["X"])),
            ("amr", json!(["otp"])),
            ("level", json!(["3"])),
            ("ok", json!([false])),
        ] {
            assert!(!meets(name, values.clone()), "{name} {values}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(numeric_date(&json!(10)), Some(10));
        assert_eq!(numeric_date(&json!(10.9)), Some(10));
        for date in [json!("10"), json!(-1), json!(-0.5), json!(null), json!([10])] {
            assert_eq!(numeric_date(&date), None, "{date}");
        }
    }
}
