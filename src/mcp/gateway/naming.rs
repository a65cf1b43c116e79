//! The names under which a gateway shows tools and prompts.
//!
//! A shown name is the server's mark (its prefix and the separator) and the server's own name. APIs of models take names of at most
//! 64 letters, digits, `_` and `-`, and MCP allows `.` too (2025-11-25, "Tool Names"). A name that does not fit gets a short form: as
//! much of it as fits, and eight hexadecimal digits of the SHA-256 digest of the whole. So it is the same at every edge and after
//! every restart.

use std::borrow::Cow;

use ring::digest::{SHA256, digest};

use crate::config::limits;
use crate::types::hex;

/// The length of `_` and eight digits.
const SUFFIX: usize = 9;

/// The name under which a gateway shows what a server with the mark `mark` calls `given`.
pub fn shown_name<'a>(mark: &str, given: &'a str) -> Cow<'a, str> {
    let fits =
        mark.len() + given.len() <= limits::GATEWAY_NAME_BYTES && !given.is_empty() && given.bytes().all(is_plain);
    if fits {
        return if mark.is_empty() { Cow::Borrowed(given) } else { Cow::Owned(format!("{mark}{given}")) };
    }
    let whole = format!("{mark}{given}");
    let room = limits::GATEWAY_NAME_BYTES - SUFFIX;
    let mut short: String =
        whole.chars().map(|char| if u8::try_from(char).is_ok_and(is_plain) { char } else { '_' }).take(room).collect();
    short.push('_');
    short.push_str(&hex(&digest(&SHA256, whole.as_bytes()).as_ref()[..4]));
    Cow::Owned(short)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// True when `shown` may be a short form, so that only a list can tell what it stands for.
pub fn is_short_form(shown: &str) -> bool {
    let digits = shown.len().checked_sub(SUFFIX).and_then(|at| shown.get(at..)).and_then(|end| end.strip_prefix('_'));
    digits.is_some_and(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 88.
    #[test]
    fn names_that_do_not_fit_get_a_short_form() {
        assert_eq!(shown_name("fin_", "get_stock"), "fin_get_stock");
        assert_eq!(shown_name("", "get_stock"), "get_stock");
        let exact = "x".repeat(limits::GATEWAY_NAME_BYTES - 4);
        assert_eq!(shown_name("fin_", &exact), format!("fin_{exact}"));
        let mut seen = std::collections::HashSet::new();
        for name in [
            format!("{exact}a"),
            format!("{exact}b"),
            "x".repeat(200),
            "a b".into(),
            "a/b".into(),
            "über".into(),
            "".into(),
        ] {
            let shown = shown_name("fin_", &name);
            assert!(shown.len() <= limits::GATEWAY_NAME_BYTES && shown.bytes().all(is_plain), "{shown}");
            assert!(is_short_form(&shown) && seen.insert(shown.to_string()), "{shown}");
            assert_eq!(shown, shown_name("fin_", &name), "it is stable");
        }
        assert!(!is_short_form("fin_get_stock") && !is_short_form("") && !is_short_form("_1234567"));
    }
}
