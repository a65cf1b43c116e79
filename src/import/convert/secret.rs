//! Finds header fields whose values may be secrets. Such values are not copied into the result.

use http::HeaderName;

/// If the name of a header contains one of these words, its value may be a secret.
const WORDS: [&str; 10] =
    ["auth", "cookie", "credential", "key", "pass", "secret", "session", "sign", "token", "verify"];

/// The shortest value without spaces and slashes that may be a secret because it mixes letters and digits.
const SHORTEST: usize = 16;

/// True when fields with this name usually carry secrets.
pub(crate) fn is_secret_name(name: &HeaderName) -> bool {
    WORDS.iter().any(|word| name.as_str().contains(word))
}

/// True when `value` may be a secret because of the field's name, or because it looks like a token.
pub(crate) fn may_be_secret(name: &HeaderName, value: &str) -> bool {
    let starts = |scheme: &str| value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let has = |is: fn(&char) -> bool| value.chars().any(|sign| is(&sign));
    let is_token = value.len() >= SHORTEST
        && !value.contains([' ', '/'])
        && has(char::is_ascii_digit)
        && has(char::is_ascii_alphabetic);
    is_secret_name(name) || starts("bearer ") || starts("basic ") || is_token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_of_secrets() {
        for (name, value, expected) in [
            ("x-api-key", "a", true),
            ("x-origin-verify", "a", true),
            ("x-signature", "a", true),
            ("x-team", "Bearer abc", true),
            ("x-team", "basic abc", true),
            ("x-team", "4f2d81c04f2d81c0x", true),
            ("x-team", "blue", false),
            ("accept", "application/json, text/event-stream", false),
            ("x-team", "1234567890123456", false),
            ("x-team", "a4f2d81c04f2d81", false),
        ] {
            let name: HeaderName = name.parse().expect("valid input");
            assert_eq!(may_be_secret(&name, value), expected, "{name}: {value}");
        }
    }
}
