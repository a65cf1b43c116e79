//! Reads the bearer token of a request (RFC 6750 section 2.1). Tokens in a query string or body are ignored.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::config::limits;

/// Why a request has no usable bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerError {
    /// There is no `Authorization` field, or it has another scheme.
    Missing,
    /// There is more than one `Authorization` field. The edge and the upstream could use different ones.
    Ambiguous,
    /// `Bearer` is not followed by a well-formed token.
    Malformed,
    /// The token is longer than [`limits::TOKEN_BYTES`].
    TooLong,
}

/// The token of `Authorization: Bearer TOKEN`; the scheme's name is case-insensitive (RFC 9110 section 11.1).
pub fn bearer(headers: &HeaderMap) -> Result<&str, BearerError> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().ok_or(BearerError::Missing)?;
    if fields.next().is_some() {
        return Err(BearerError::Ambiguous);
    }
    let field = field.as_bytes();
    let scheme = field.split(|&byte| byte == b' ').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(BearerError::Missing);
    }
    let spaces = field[scheme.len()..].iter().take_while(|&&byte| byte == b' ').count();
    token(&field[scheme.len() + spaces..])
}

/// The credential in a field of its own: as it is, or after `Bearer`, which some clients write in any field.
pub(in crate::auth) fn own_field(field: &[u8]) -> Result<&str, BearerError> {
    match field.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => token(rest.trim_ascii_start()),
        _ => token(field),
    }
}

/// Checks the form and the length of a token, in whatever header field it was sent.
pub(super) fn token(token: &[u8]) -> Result<&str, BearerError> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(BearerError::TooLong);
    }
    if !is_token68(token) {
        return Err(BearerError::Malformed);
    }
    std::str::from_utf8(token).map_err(|_| BearerError::Malformed)
}

/// True for a `token68` (RFC 9110 section 11.2). The loop never stops early and compares with few ranges, so that the
/// compiler can check many bytes at once.
fn is_token68(token: &[u8]) -> bool {
    let body = token.len() - token.iter().rev().take_while(|&&byte| byte == b'=').count();
    let legal = |byte: u8| {
        // `-`, `.`, `/` and the digits are neighbours in ASCII.
        (byte | 0x20).is_ascii_lowercase()
            | matches!(byte, b'-'..=b'9')
            | (byte == b'_')
            | (byte == b'~')
            | (byte == b'+')
    };
    body > 0 && token[..body].iter().fold(true, |all, &byte| all & legal(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(fields: &[&str]) -> Result<String, BearerError> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_str(field).expect("a legal value"));
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn tokens_hold_the_bytes_of_token68() {
        for byte in 0..=u8::MAX {
            let legal = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(is_token68(&[byte]), legal, "{byte:x}");
            assert_eq!(is_token68(&[&[b'a'; 40][..], &[byte], b"a="].concat()), legal, "{byte:x}");
        }
    }

    #[test]
    fn forms_of_the_authorization_field() {
        assert_eq!(read(&["Bearer abc.def"]), Ok("abc.def".into()));
        assert_eq!(read(&["bEARER   abc=="]), Ok("abc==".into()));
        assert_eq!(read(&[]), Err(BearerError::Missing));
        assert_eq!(read(&["Basic abc"]), Err(BearerError::Missing));
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(BearerError::Ambiguous));
        for text in
            ["Bearer", "Bearer ", "Bearer a b", "Bearer =", "Bearer a,b", "Bearer \"a\"", "Bearer \ta", "Bearer \t a"]
        {
            assert_eq!(read(&[text]), Err(BearerError::Malformed), "{text}");
        }
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(limits::TOKEN_BYTES + 1))]), Err(BearerError::TooLong));
    }
}
