//! `POST /auth/purge`: reads what an operator revokes.

use std::time::Duration;

use serde::Deserialize;

use crate::auth::Revocation;
use crate::config::limits;

/// The body of the request. Exactly one of the first four fields must be set.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    all: bool,
    subject: Option<String>,
    token_id: Option<String>,
    token_sha256: Option<String>,
    /// With `subject`: purges only the credentials of this provider.
    provider: Option<String>,
    /// For this time, the purged credentials are refused, even if their provider would allow them.
    refuse_for: Option<String>,
}

/// Reads the body of a request.
///
/// # Errors
/// The message says what is wrong and what to write instead.
pub(super) fn read(body: &[u8]) -> Result<(Revocation, Option<Duration>), String> {
    let example = r#"write {"subject": "NAME"}, {"token_id": "JTI"}, {"token_sha256": "HEX"} or {"all": true}"#;
    // The parser's own message is not used, because it may repeat a secret that was sent by mistake.
    let written: Written = serde_json::from_slice(body)
        .map_err(|error| format!("the body is wrong at line {}, column {}: {example}", error.line(), error.column()))?;
    let revocation = match (written.all, written.subject, written.token_id, written.token_sha256) {
        (true, None, None, None) => Revocation::All,
        (false, Some(subject), None, None) if !subject.is_empty() => {
            Revocation::Subject { subject, provider: written.provider.clone() }
        }
        (false, None, Some(id), None) if !id.is_empty() => Revocation::TokenId(id),
        (false, None, None, Some(hex)) => {
            let digest = digest(&hex).ok_or("`token_sha256` is not a SHA-256 digest: write 64 hexadecimal digits")?;
            Revocation::Token(digest)
        }
        _ => return Err(format!("the body must name exactly one thing to purge: {example}")),
    };
    if written.provider.is_some() && !matches!(revocation, Revocation::Subject { .. }) {
        return Err("`provider` is allowed only with `subject`: remove it".to_owned());
    }
    let refuse_for = written.refuse_for.map(|text| text.parse::<crate::config::Span>()).transpose();
    let refuse_for = refuse_for.map_err(|error| format!("`refuse_for`: {error}"))?.map(|span| span.0);
    if refuse_for.is_some() && revocation == Revocation::All {
        return Err("`refuse_for` with `all` would lock everybody out: remove one of them".to_owned());
    }
    if refuse_for.is_some_and(|time| time.is_zero() || time > limits::REFUSAL_TIME) {
        return Err("`refuse_for` must be more than 0s and at most `30d`: write a time such as `1h`".to_owned());
    }
    Ok((revocation, refuse_for))
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_purged() {
        let subject = |provider: Option<&str>| Revocation::Subject {
            subject: "alice".into(),
            provider: provider.map(str::to_owned),
        };
        let hour = Some(Duration::from_secs(3600));
        for (body, expected) in [
            (r#"{"all": true}"#.to_owned(), (Revocation::All, None)),
            (r#"{"subject": "alice"}"#.to_owned(), (subject(None), None)),
            (
                r#"{"subject": "alice", "provider": "corp", "refuse_for": "1h"}"#.to_owned(),
                (subject(Some("corp")), hour),
            ),
            (r#"{"token_id": "t1"}"#.to_owned(), (Revocation::TokenId("t1".into()), None)),
            (format!(r#"{{"token_sha256": "{}"}}"#, "aB".repeat(32)), (Revocation::Token([0xab; 32]), None)),
        ] {
            assert_eq!(read(body.as_bytes()), Ok(expected), "{body}");
        }
        for body in [
            "",
            "{}",
            "[]",
            r#"{"all": false}"#,
            r#"{"all": true, "subject": "alice"}"#,
            r#"{"subject": ""}"#,
            r#"{"subject": "alice", "token_id": "t1"}"#,
            r#"{"token_id": "t1", "provider": "corp"}"#,
            r#"{"token_sha256": "abc"}"#,
            r#"{"token": "secret"}"#,
            r#"{"all": true, "refuse_for": "1h"}"#,
            r#"{"subject": "alice", "refuse_for": "0s"}"#,
            r#"{"subject": "alice", "refuse_for": "31d"}"#,
            r#"{"subject": "alice", "refuse_for": "soon"}"#,
        ] {
            let error = read(body.as_bytes()).expect_err(body);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
