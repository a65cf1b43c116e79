//! Compares keys of JSON objects with member names, in the ways in which JSON parsers compare them.

use super::find::find_either;

/// How a key, as written, compares with a member name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    This,
    /// Some parsers would take the key for the name.
    Lookalike,
    Other,
    /// The key has escapes that are not valid Unicode, such as `\ud800` alone.
    Unreadable,
}

/// Compares `key`, which includes its quotes, with `name`, which is ASCII and not empty.
pub(super) fn named(key: &str, name: &str) -> Named {
    let plain = &key[1..key.len() - 1];
    let [first, ..] = plain.as_bytes() else { return Named::Other };
    if find_either(plain.as_bytes(), b'\\', b'\\').is_none() {
        return match plain == name {
            true => Named::This,
            // Nearly all other keys differ in the first letter.
            _ if first.is_ascii() && !first.eq_ignore_ascii_case(&name.as_bytes()[0]) => Named::Other,
            _ if is_same_member(plain, name) => Named::Lookalike,
            _ => Named::Other,
        };
    }
    match serde_json::from_str::<String>(key) {
        Ok(key) if key == name => Named::This,
        Ok(key) if is_same_member(before_nul(&key), name) => Named::Lookalike,
        Ok(_) => Named::Other,
        Err(_) => Named::Unreadable,
    }
}

/// What parsers in C may read of a key: for them, text ends at NUL. Only a key with escapes can have one.
pub(super) fn before_nul(key: &str) -> &str {
    key.split('\0').next().unwrap_or_default()
}

/// Whether some parser could take `key` for `name`: many parsers ignore case. Case is folded character by character, as
/// in Go's encoding/json, so that `ſ` and the Kelvin sign count as `s` and `k`.
pub(super) fn is_same_member(key: &str, name: &str) -> bool {
    if key.is_ascii() && name.is_ascii() {
        return key.eq_ignore_ascii_case(name);
    }
    fold(key).eq(fold(name))
}

fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn keys_as_written() {
        for (key, expected) in [
            (r#""scope""#, Named::This),
            (r#""\u0073cop\u0065""#, Named::This),
            (r#""Scope""#, Named::Lookalike),
            ("\"\u{17f}cope\"", Named::Lookalike),
            (r#""\u017fcope""#, Named::Lookalike),
            (r#""scope\u0000""#, Named::Lookalike),
            (r#""Scope\u0000x""#, Named::Lookalike),
            (r#""x\u0000scope""#, Named::Other),
            (r#""scop\ud800""#, Named::Unreadable),
            (r#""x\ud800""#, Named::Unreadable),
            (r#""scopes""#, Named::Other),
            (r#""scop""#, Named::Other),
            (r#""a""#, Named::Other),
            (r#""""#, Named::Other),
            ("\"\u{e9}\"", Named::Other),
            (r#""x\u0073""#, Named::Other),
        ] {
            assert_eq!(named(key, "scope"), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_is_same_member(
            key in "[aAkK\u{212a}sS\u{17f}iI\u{130}\u{131}é]{0,3}",
            name in "[aks]{1,3}",
        ) {
            let quoted = serde_json::to_string(&key).expect("a string");
            let expected = match is_same_member(&key, &name) {
                true if key == name => Named::This,
                true => Named::Lookalike,
                false => Named::Other,
            };
            prop_assert_eq!(named(&quoted, &name), expected);
        }
    }
}
