//! The claims about a caller. A token contains them (RFC 9068), or a server returns them for a token (RFC 7662).

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::auth::error::AuthError;
use crate::config::{ClaimNames, RequiredClaim};
use crate::types::UnixSeconds;

/// The claims of a valid credential.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// When the credential ends. `None` if the provider does not state it.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// The audiences of the credential (`aud`). `None` if the provider does not state them.
    pub(crate) audiences: Option<Vec<String>>,
    /// The id of the token (`jti`).
    pub(crate) token_id: Option<String>,
}

impl Claims {
    /// Reads claims that were validated.
    ///
    /// # Errors
    /// The claims do not name a subject, or there are control characters in the scope (RFC 6749 section 3.3).
    pub(crate) fn read(claims: &Map<String, Value>, names: &ClaimNames) -> Result<Self, AuthError> {
        let subject = claims.get(&names.subject).and_then(Value::as_str);
        let subject = subject.ok_or(AuthError::Denied("the token does not name its subject"))?.to_owned();
        let scope_claims = || [Some("scope"), Some("scp"), names.scopes.as_deref()].into_iter().flatten();
        if scope_claims().any(|claim| claims.get(claim).is_some_and(has_control_characters)) {
            return Err(AuthError::Denied("the scope of the token has control characters"));
        }
        let scopes: HashSet<String> = scope_claims().flat_map(|claim| words(claims.get(claim))).collect();
        let groups = match claims.get(&names.groups) {
            Some(Value::String(group)) => vec![group.clone()],
            other => words(other),
        };
        let expires_at = claims.get("exp").and_then(numeric_date);
        let audiences = audiences(claims.get("aud"));
        let token_id = claims.get("jti").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { subject, scopes: scopes.into_iter().collect(), groups, expires_at, audiences, token_id })
    }
}

/// The audiences in a claim. `None` if there is no such claim.
pub(crate) fn audiences(claim: Option<&Value>) -> Option<Vec<String>> {
    Some(match claim? {
        Value::String(audience) => vec![audience.clone()],
        // A list with anything but text in it names nobody (RFC 7519 section 4.1.3).
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
    })
}

fn has_control_characters(claim: &Value) -> bool {
    match claim {
        Value::String(text) => text.chars().any(char::is_control),
        Value::Array(items) => items.iter().any(has_control_characters),
        _ => false,
    }
}

/// Reads seconds since 1970. A fraction is legal (RFC 7519 section 2) and is rounded down, which for `exp` is the safe
/// side. `None` if `date` is not a number, or is negative, or is 2^53 or more: not all parsers read such large numbers
/// in the same way.
pub(crate) fn numeric_date(date: &Value) -> Option<UnixSeconds> {
    let seconds = date.as_u64().or_else(|| date.as_f64().filter(|date| *date >= 0.0).map(|date| date as u64));
    seconds.filter(|seconds| *seconds < 1 << 53)
}

/// True if `claims` contain the required claim with one of the required values, or with a list that contains one of
/// them. If no values are required, any value except `null` is accepted.
pub(crate) fn meets(claims: &Map<String, Value>, required: &RequiredClaim) -> bool {
    let is_accepted = |value: &Value| required.values.contains(value);
    match claims.get(&required.name) {
        None | Some(Value::Null) => false,
        Some(_) if required.values.is_empty() => true,
        Some(Value::Array(items)) => items.iter().any(is_accepted),
        Some(value) => is_accepted(value),
    }
}

/// The words of a string, or the strings in a list.
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
    fn required_claims_are_present_and_have_one_of_the_values() {
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
