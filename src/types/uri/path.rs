//! The canonical form of a path. Routes match it, the policy sees it, and the upstream gets it.

use std::borrow::Cow;

use thiserror::Error;

/// The path is malformed, or two servers could read it differently. The client gets a 400.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// The path does not start with `/`.
    #[error("a path must start with `/`")]
    NotAbsolute,
    /// The path contains a byte that RFC 3986 does not allow in a path, such as a backslash.
    #[error("a path may contain only the characters of RFC 3986: encode others as `%XX`")]
    IllegalByte,
    /// The path contains `%` without two hex digits.
    #[error("`%` in a path must be followed by two hex digits")]
    BadEscape,
    /// The path contains an encoded separator, dot, percent sign or control character. Servers disagree on the meaning
    /// of these.
    #[error("encoded separators, dots, percent signs and control characters are not accepted in a path")]
    AmbiguousEscape,
    /// The path contains a character that is encoded in more bytes than it needs, such as `%C0%AE`. Some servers read a dot
    /// there (RFC 3629 section 10).
    #[error("overlong UTF-8 is not accepted in a path: encode each character in its shortest form")]
    Overlong,
    /// The path contains a `.` or `..` segment.
    #[error("`.` and `..` segments are not accepted in a path")]
    DotSegment,
    /// The path contains `//`.
    #[error("empty segments (`//`) are not accepted in a path")]
    EmptySegment,
}

/// Brings `path` (without the query) into the one form that all parts of the edge use: escapes of unreserved characters
/// are decoded, and other escapes get upper-case digits (RFC 3986 section 6.2.2). An ambiguous path is an error.
pub fn canonical_path(path: &[u8]) -> Result<Cow<'_, str>, PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let (mut escaped, mut dots) = (false, false);
    let mut previous = 0;
    for &byte in path {
        match byte {
            b'/' if previous == b'/' => return Err(PathError::EmptySegment),
            // Escaped dots are refused, so only literal dots can make a `.` or `..` segment.
            b'.' => dots |= previous == b'/',
            b'%' => escaped = true,
            _ if IS_PATH_BYTE[usize::from(byte)] => {}
            _ => return Err(PathError::IllegalByte),
        }
        previous = byte;
    }
    let canonical = if escaped {
        Cow::Owned(decode_unreserved(path)?)
    } else {
        Cow::Borrowed(std::str::from_utf8(path).map_err(|_| PathError::IllegalByte)?)
    };
    if dots && canonical.split('/').any(is_dot_segment) {
        return Err(PathError::DotSegment);
    }
    Ok(canonical)
}

/// The bytes of `pchar` in RFC 3986 without `%`, and `/`.
static IS_PATH_BYTE: [bool; 256] = {
    let (mut table, others) = ([false; 256], b"/-._~!$&'()*+,;=:@");
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// True for `.` and `..`, also with something behind them that servers take away: path parameters (`..;x`), a query or a
/// fragment that was encoded, a space.
fn is_dot_segment(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('.') else { return false };
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    rest.is_empty() || [";", "%3B", "%3F", "%23", "%20"].iter().any(|end| rest.starts_with(end))
}

/// True when no valid UTF-8 has these two bytes one after the other, but a lenient decoder reads a character there that has a
/// shorter form.
fn is_overlong(first: u8, second: u8) -> bool {
    match first {
        0xC0 | 0xC1 | 0xF8..=0xFD => (0x80..0xC0).contains(&second),
        0xE0 => (0x80..0xA0).contains(&second),
        0xF0 => (0x80..0x90).contains(&second),
        _ => false,
    }
}

fn decode_unreserved(path: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.iter();
    // The byte that was encoded directly before.
    let mut before = 0;
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            before = 0;
            out.push(char::from(byte));
            continue;
        }
        let mut digit = || bytes.next().and_then(|&digit| char::from(digit).to_digit(16)).ok_or(PathError::BadEscape);
        let value = (digit()? * 16 + digit()?) as u8;
        if is_overlong(before, value) {
            return Err(PathError::Overlong);
        }
        before = value;
        match value {
            b'/' | b'\\' | b'.' | b'%' | 0..=0x1F | 0x7F => return Err(PathError::AmbiguousEscape),
            b'-' | b'_' | b'~' => out.push(char::from(value)),
            _ if value.is_ascii_alphanumeric() => out.push(char::from(value)),
            _ => {
                out.push('%');
                for nibble in [value >> 4, value & 0xF] {
                    out.push(
                        char::from_digit(nibble.into(), 16).expect("a nibble is a hex digit").to_ascii_uppercase(),
                    );
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_have_one_canonical_form() {
        for (given, canonical) in [
            ("/fininfo/mcp", "/fininfo/mcp"),
            ("/%66ininfo/m%63p", "/fininfo/mcp"),
            ("/a%20b/%c3%a4", "/a%20b/%C3%A4"),
            ("/message:send", "/message:send"),
            ("/a;b=c/...", "/a;b=c/..."),
            ("/...%3B/.well%3Bknown/.%C3%A4/..%C3%A4", "/...%3B/.well%3Bknown/.%C3%A4/..%C3%A4"),
            ("/%c0/%c0a/%e0%a0%80/%f0%90%80%80/%ed%a0%80", "/%C0/%C0a/%E0%A0%80/%F0%90%80%80/%ED%A0%80"),
            ("/", "/"),
        ] {
            assert_eq!(canonical_path(given.as_bytes()).as_deref(), Ok(canonical), "{given}");
        }
    }

    #[test]
    fn ambiguity_is_an_error() {
        use PathError::*;
        for (given, error) in [
            ("", NotAbsolute),
            ("fininfo", NotAbsolute),
            ("/fininfo/../mcpgw/", DotSegment),
            ("/fininfo/..", DotSegment),
            ("/./a", DotSegment),
            ("/fininfo/..;x/mcpgw", DotSegment),
            ("/fininfo/..%3B/mcpgw", DotSegment),
            ("/fininfo/..%3bx/mcpgw", DotSegment),
            ("/fininfo/.%3B", DotSegment),
            ("/fininfo/..%3F/mcpgw", DotSegment),
            ("/fininfo/..%23/mcpgw", DotSegment),
            ("/fininfo/..%20/mcpgw", DotSegment),
            ("/fininfo/%c0%ae%c0%ae/mcpgw", Overlong),
            ("/fininfo%C0%AFmcpgw", Overlong),
            ("/fininfo%e0%80%afmcpgw", Overlong),
            ("/fininfo%f0%80%80%afmcpgw", Overlong),
            ("/fininfo%f8%80%80%80%afmcpgw", Overlong),
            ("/fininfo/%2e%2e/mcpgw/", AmbiguousEscape),
            ("/fininfo%2fmcpgw", AmbiguousEscape),
            ("/fininfo%5Cmcpgw", AmbiguousEscape),
            ("/fininfo/%252e%252e/", AmbiguousEscape),
            ("/a%00", AmbiguousEscape),
            ("//mcpgw", EmptySegment),
            ("/a//", EmptySegment),
            ("/a\\b", IllegalByte),
            ("/a b", IllegalByte),
            ("/a#b", IllegalByte),
            ("/ä", IllegalByte),
            ("/%", BadEscape),
            ("/%4", BadEscape),
            ("/%zz", BadEscape),
        ] {
            assert_eq!(canonical_path(given.as_bytes()).err(), Some(error), "{given:?}");
        }
    }

    #[test]
    fn the_table_has_the_characters_of_rfc_3986() {
        for byte in 0..=u8::MAX {
            let legal = byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
            assert_eq!(IS_PATH_BYTE[usize::from(byte)], legal, "{byte:x}");
        }
    }

    proptest! {
        #[test]
        fn dot_segments_are_found_everywhere(path in "(/[.;a]{1,4}){1,4}") {
            let expected = path.split('/').any(is_dot_segment);
            prop_assert_eq!(canonical_path(path.as_bytes()).err() == Some(PathError::DotSegment), expected, "{}", path);
        }

        #[test]
        fn never_panics_and_is_idempotent(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(once) = canonical_path(&path) {
                let twice = canonical_path(once.as_bytes()).map(Cow::into_owned);
                prop_assert_eq!(twice, Ok(once.into_owned()));
            }
        }

        #[test]
        fn a_canonical_path_has_no_way_up(path in "(/|\\.|%2e|%2f|%5c|%25|;|a|[A-F0-9%]){1,24}") {
            if let Ok(canonical) = canonical_path(format!("/{path}").as_bytes()) {
                let lower = canonical.to_ascii_lowercase();
                prop_assert!(!lower.contains("%2e") && !lower.contains("%2f") && !lower.contains("%5c") && !lower.contains("%25"));
                prop_assert!(canonical.split('/').all(|segment| segment != ".." && segment != "."));
                prop_assert!(!canonical.contains("//"));
            }
        }
    }
}
