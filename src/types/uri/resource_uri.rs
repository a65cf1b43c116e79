//! URIs of MCP resources: whether a pattern can decide on them.

use crate::types::bounds::RESOURCE_URI_BYTES;
use reqwest::Url;

/// True when `uri` has only one spelling, so that a pattern can decide on it. MCP's SDKs look a resource up by its URI
/// after they have parsed it by the WHATWG URL standard. In that standard, `file:///public/../secret` and
/// `FILE:/secret` both become `file:///secret`, so neither is plain. Servers also differ in which escapes they decode.
/// So a URI is not plain if it escapes a separator, a dot, `%`, a control character, or a character that needs no
/// escape. A name that is not a URI is plain, unless it contains a backslash, such an escape, or a `.` or `..` segment.
pub fn is_plain_uri(uri: &str) -> bool {
    if uri.len() > RESOURCE_URI_BYTES
        || uri.trim() != uri
        || uri.contains(|sign: char| sign == '\\' || sign.is_control())
    {
        return false;
    }
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    if uri[..end].split('/').any(|segment| segment == "." || segment == "..") {
        return false;
    }
    let Some(plain) = decoded(uri) else { return false };
    // A name that is not a URI is compared as it is.
    Url::parse(uri).ok().is_none_or(|url| {
        let read = decoded(url.as_str());
        read.is_some_and(|read| read == plain || read.strip_suffix(b"/") == Some(&plain))
    })
}

/// The bytes that `uri` stands for. `None` when it escapes a byte that may change the meaning of the URI, or that needs
/// no escape.
fn decoded(uri: &str) -> Option<Vec<u8>> {
    let mut rest = uri.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escape = (*byte == b'%').then(|| after.split_first_chunk::<2>()).flatten();
        let value = escape.and_then(|(digits, _)| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match (value, escape) {
            (Some(b'/' | b'\\' | b'%' | b'.' | b'-' | b'_' | b'~' | 0..=0x1F | 0x7F), _) => return None,
            (Some(value), _) if value.is_ascii_alphanumeric() => return None,
            (Some(value), Some((_, after))) => {
                bytes.push(value);
                rest = after;
            }
            _ => bytes.push(*byte),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_with_one_spelling_are_plain() {
        for uri in [
            "file:///public/a",
            "file:///public/a%20b/caf\u{e9}",
            "file:///C:/a b",
            "file:///{+path}",
            "db://{id}/profile{?a,b}",
            "db://a",
            "http://a",
            "http://a:8080/b?c=../d#e/../f",
            "GitHub",
            "urn:isbn:1",
            "a/b.c/...",
            "100%",
            "*",
        ] {
            assert!(is_plain_uri(uri), "{uri}");
        }
    }

    #[test]
    fn other_spellings_are_not_plain() {
        for uri in [
            "file:///public/../secret",
            "file:///public/%2e%2E/secret",
            "file:///public/..%2fsecret",
            "file:///public/.",
            "file:///public\\..\\secret",
            "file:///pub\tlic/secret",
            " file:///secret",
            "file:///secret\u{a0}",
            "FILE:///secret",
            "file:/secret",
            "file:secret",
            "file://localhost/secret",
            "http://A/b",
            "http://a:80/b",
            "http:a/b",
            "db://%61rchive/x",
            "db://archive%2Fx",
            "db://archive%252Fx",
            "DB://archive/x",
            "db://public/../archive/x",
            "../secret",
            "%2e%2e/secret",
            "%+2e/x%5Cy",
        ] {
            assert!(!is_plain_uri(uri), "{uri}");
        }
        assert!(!is_plain_uri(&format!("db://{}", "x".repeat(RESOURCE_URI_BYTES))));
    }
}
