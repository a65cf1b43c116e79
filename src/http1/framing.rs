//! How long a body is (RFC 9112 section 6.3), and whether the connection stays open after it (section 9.3).

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// After this many bytes.
    Exact(u64),
    /// At the chunk of size zero.
    Chunked,
    /// At the end of the connection.
    UntilClose,
}

impl BodyLength {
    /// The length of a request's body. `None` when two servers could find different ends of the body. That is so when
    /// there are both `Transfer-Encoding` and `Content-Length`, when the coding is not exactly `chunked`, when
    /// `chunked` is used with HTTP/1.0, and when the length is not a plain number that is written once.
    pub fn of_request(version: Version, headers: &HeaderMap) -> Option<Self> {
        match coding_and_length(headers) {
            (Coding::None, Length::None) => Some(Self::Exact(0)),
            (Coding::None, Length::Of(length, 1)) => Some(Self::Exact(length)),
            (Coding::Chunked, Length::None) if version == Version::HTTP_11 => Some(Self::Chunked),
            _ => None,
        }
    }

    /// The length of the body of a response to a request with `method`. `None` as for requests, but two forms that
    /// servers do send are accepted: a length that is repeated (RFC 9110 section 8.6), and a `Content-Length` beside
    /// `chunked`, which is then ignored.
    pub fn of_response(method: &Method, status: StatusCode, version: Version, headers: &HeaderMap) -> Option<Self> {
        if *method == Method::HEAD || has_no_body(status) {
            return Some(Self::Exact(0));
        }
        match coding_and_length(headers) {
            (Coding::Chunked, _) if version == Version::HTTP_11 => Some(Self::Chunked),
            (Coding::None, Length::Of(length, _)) => Some(Self::Exact(length)),
            (Coding::None, Length::None) => Some(Self::UntilClose),
            _ => None,
        }
    }
}

/// Whether a response with `status` never has a body, whatever its fields say.
fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

enum Coding {
    None,
    Chunked,
    Other,
}

/// A number with this many digits is always below 2^64.
pub(super) const MAX_DIGITS: usize = 19;

enum Length {
    None,
    /// The length, and how often it is written.
    Of(u64, usize),
    Bad,
}

/// The transfer coding and the length in `headers`. One pass over all fields costs less than two look-ups.
fn coding_and_length(headers: &HeaderMap) -> (Coding, Length) {
    let (mut coding, mut length) = (Coding::None, Length::None);
    for (name, value) in headers {
        if *name == TRANSFER_ENCODING {
            coding = match coding {
                Coding::None if value.as_bytes().eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
                _ => Coding::Other,
            };
        } else if *name == CONTENT_LENGTH {
            length = value.as_bytes().split(|byte| *byte == b',').fold(length, Length::combine);
        }
    }
    (coding, length)
}

impl Length {
    /// Combines the lengths so far with one more.
    fn combine(self, item: &[u8]) -> Self {
        match (self, number(item.trim_ascii())) {
            (Self::None, Some(length)) => Self::Of(length, 1),
            (Self::Of(other, times), Some(length)) if other == length => Self::Of(length, times + 1),
            _ => Self::Bad,
        }
    }
}

/// The number in `digits`. `None` unless `digits` consists of 1 to [`MAX_DIGITS`] digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_one = (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_one.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Whether the sender of this head keeps the connection open after its message.
pub fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let has = |option: &str| {
        let fields = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
        let mut options = fields.flat_map(|field| field.split(|byte| *byte == b','));
        options.any(|item| item.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    match version {
        Version::HTTP_11 => !has("close"),
        _ => has("keep-alive") && !has("close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_request_with_an_ambiguous_length_has_none() {
        let length = |fields: &[_]| BodyLength::of_request(Version::HTTP_11, &headers(fields));
        assert_eq!(length(&[]), Some(BodyLength::Exact(0)));
        assert_eq!(length(&[("content-length", "17")]), Some(BodyLength::Exact(17)));
        assert_eq!(length(&[("transfer-encoding", "Chunked")]), Some(BodyLength::Chunked));
        for ambiguous in [
            &[("content-length", "17"), ("content-length", "18")][..],
            &[("content-length", "17"), ("content-length", "17")],
            &[("content-length", "17, 17")],
            &[("content-length", "17,")],
            &[("content-length", "+17")],
            &[("content-length", "0x11")],
            &[("content-length", "")],
            &[("content-length", "1 7")],
            &[("content-length", "99999999999999999999")],
            &[("content-length", "17"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "")],
            &[("transfer-encoding", "\u{b}chunked")],
        ] {
            if ambiguous.iter().all(|(_, value)| HeaderValue::from_str(value).is_ok()) {
                assert_eq!(length(ambiguous), None, "{ambiguous:?}");
            }
        }
        let old = BodyLength::of_request(Version::HTTP_10, &headers(&[("transfer-encoding", "chunked")]));
        assert_eq!(old, None, "HTTP/1.0 has no chunks");
    }

    #[test]
    fn a_response_may_end_with_its_connection() {
        let length = |method: Method, status: u16, fields: &[_]| {
            let status = StatusCode::from_u16(status).expect("a status");
            BodyLength::of_response(&method, status, Version::HTTP_11, &headers(fields))
        };
        assert_eq!(length(Method::POST, 200, &[]), Some(BodyLength::UntilClose));
        assert_eq!(length(Method::POST, 200, &[("content-length", "5")]), Some(BodyLength::Exact(5)));
        let repeated = &[("content-length", "5, 5"), ("content-length", "5")];
        assert_eq!(length(Method::POST, 200, repeated), Some(BodyLength::Exact(5)));
        assert_eq!(length(Method::HEAD, 200, &[("content-length", "5")]), Some(BodyLength::Exact(0)));
        assert_eq!(length(Method::POST, 204, &[("content-length", "5")]), Some(BodyLength::Exact(0)));
        let both = &[("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(length(Method::POST, 200, both), Some(BodyLength::Chunked));
        assert_eq!(length(Method::POST, 200, &[("transfer-encoding", "gzip")]), None);
        assert_eq!(length(Method::POST, 200, &[("content-length", "5"), ("content-length", "6")]), None);
    }

    #[test]
    fn keep_alive_depends_on_the_version() {
        let keeps = |version, fields: &[_]| keeps_alive(version, &headers(fields));
        assert!(keeps(Version::HTTP_11, &[]) && !keeps(Version::HTTP_10, &[]));
        assert!(!keeps(Version::HTTP_11, &[("connection", "upgrade, Close")]));
        assert!(keeps(Version::HTTP_10, &[("connection", "Keep-Alive")]));
        assert!(!keeps(Version::HTTP_10, &[("connection", "keep-alive"), ("connection", "close")]));
    }
}
