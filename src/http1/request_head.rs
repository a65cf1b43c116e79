//! Reads the heads of requests.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Uri, Version};
use httparse::{ParserConfig, Status};
use pingora::http::RequestHeader;
use thiserror::Error;

use super::framing::{BodyLength, MAX_DIGITS, keeps_alive, number};
use super::head::{fields, has_bare_line_feed, spans};
use crate::config::limits::{HEAD_FIELDS, METHOD_BYTES};

/// What is at the beginning of a buffer.
#[derive(Debug)]
pub enum RequestParse {
    /// A whole head, which was taken out of the buffer.
    Head(RequestHead),
    /// The beginning of a head.
    Partial,
    /// A head that no server may read in only one way, or that is too large. It stays in the buffer.
    Bad(BadHead),
}

/// Why the head of a request is refused. The connection cannot go on: where the next request begins is not known.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadHead {
    /// The head is not valid (RFC 9112 sections 2 to 5).
    #[error("the request head is malformed: {0}")]
    Malformed(&'static str),
    /// The head has more fields than any configuration allows.
    #[error("the request has too many header fields")]
    TooManyFields,
}

/// The head of a request.
///
/// On one connection, clients send the same head again and again, and only the length of the body differs. Such a head
/// need not be parsed again, which saves most of the cost of reading a request.
pub struct RequestHead {
    /// The parsed head. A target in absolute form gives its URI a scheme and an authority (RFC 9112 section 3.2.2).
    pub header: Box<RequestHeader>,
    /// The bytes of the head.
    pub raw: Bytes,
    /// The length of the body, or why the request must be refused: its framing is ambiguous.
    pub length: Result<BodyLength, &'static str>,
    /// Whether the client keeps the connection open.
    pub keeps_alive: bool,
    /// Where the digits of `Content-Length` are in `raw`.
    digits: Option<Range<usize>>,
}

/// The header fields are left out, because some are secret.
impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { length, keeps_alive, .. } = self;
        f.debug_struct("RequestHead").field("length", length).field("keeps_alive", keeps_alive).finish_non_exhaustive()
    }
}

fn no_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}

impl RequestHead {
    /// Takes the head of a request out of `buffer`, if the head has arrived completely.
    pub fn parse(buffer: &mut BytesMut) -> RequestParse {
        match Self::read(buffer) {
            Ok(Some(head)) => {
                buffer.advance(head.raw.len());
                RequestParse::Head(head)
            }
            Ok(None) => RequestParse::Partial,
            Err(bad) => RequestParse::Bad(bad),
        }
    }

    /// A head for a request that was refused before its head could be read. It has what can be read of the beginning in
    /// `bytes`: the method (else `-`), the target and the host. That is for the log only.
    pub fn unread(bytes: &[u8]) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).skip_while(|line| line.is_empty());
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let method = words.next().filter(|word| word.len() <= METHOD_BYTES && word.iter().all(u8::is_ascii_uppercase));
        // `-` is a valid method name, and no server has it.
        parts.method = method.and_then(|word| Method::from_bytes(word).ok()).unwrap_or_else(no_method);
        if let Some(uri) = words.next().filter(|word| word.starts_with(b"/")).and_then(|word| Uri::try_from(word).ok())
        {
            parts.uri = uri;
        }
        let host = |line: &[u8]| {
            Some(line.split_at_checked(5)?)
                .filter(|(name, _)| name.eq_ignore_ascii_case(b"host:"))
                .map(|(_, value)| value.trim_ascii().to_vec())
        };
        if let Some(host) =
            lines.take_while(|line| !line.is_empty()).find_map(host).and_then(|host| HeaderValue::try_from(host).ok())
        {
            parts.headers.insert(http::header::HOST, host);
        }
        let header = Box::new(parts.into());
        Self { header, raw: Bytes::new(), length: Ok(BodyLength::Exact(0)), keeps_alive: false, digits: None }
    }

    fn read(buffer: &BytesMut) -> Result<Option<Self>, BadHead> {
        let mut storage = [const { MaybeUninit::uninit() }; HEAD_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let config = ParserConfig::default();
        let end = match config.parse_request_with_uninit_headers(&mut request, buffer, &mut storage) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyFields),
            Err(error) => return Err(BadHead::Malformed(reason(error))),
        };
        let (Some(method), Some(target)) = (request.method, request.path) else { return Ok(None) };
        let method = Method::from_bytes(method.as_bytes());
        let method = method.map_err(|_| BadHead::Malformed("the method is not a token"))?;
        let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        // The head is copied, so that it can be kept without the other bytes of the buffer. Values share the memory of
        // the copy.
        let raw = Bytes::copy_from_slice(&buffer[..end]);
        let begin = target.as_ptr() as usize - buffer.as_ptr() as usize;
        let uri = uri(&raw.slice(begin..begin + target.len()), &method)?;
        let spans = spans(buffer, request.headers);
        let headers = fields(&raw, &spans).ok_or(BadHead::Malformed("a field has an invalid name or value"))?;
        let length = match BodyLength::of_request(version, &headers) {
            _ if has_bare_line_feed(&raw, &spans) => {
                Err("a line of the request head ends with LF but without CR: end each line with CR LF")
            }
            Some(length) => Ok(length),
            None => Err("the length of the body is ambiguous: send one Content-Length or `Transfer-Encoding: chunked`"),
        };
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
        let header: Box<RequestHeader> = Box::new(parts.into());
        let digits = header.headers.get(CONTENT_LENGTH).and_then(|value| position(&raw, value.as_bytes()));
        Ok(Some(Self { keeps_alive: keeps_alive(version, &header.headers), length, digits, header, raw }))
    }

    /// Takes the same head out of `buffer` again. Only the length of the body may differ. `None` when the buffer begins
    /// with anything else; then the buffer does not change.
    pub fn repeated(mut self, buffer: &mut BytesMut) -> Option<Self> {
        let (Ok(BodyLength::Exact(length)), Some(digits)) = (self.length, self.digits.clone()) else {
            let same = self.length.is_ok() && buffer.starts_with(&self.raw);
            return same.then(|| {
                buffer.advance(self.raw.len());
                self
            });
        };
        let rest = buffer.strip_prefix(&self.raw[..digits.start])?;
        let count = rest.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let (written, rest) = rest.split_at(count);
        let other = number(written).filter(|_| rest.starts_with(&self.raw[digits.end..]))?;
        let whole = self.raw.len() - digits.len() + count;
        if other != length || written != &self.raw[digits.clone()] {
            // The other values still share the memory of the first copy.
            self.raw = Bytes::copy_from_slice(&buffer[..whole]);
            let digits = digits.start..digits.start + count;
            let value = HeaderValue::from_maybe_shared(self.raw.slice(digits.clone())).ok()?;
            self.header.insert_header(CONTENT_LENGTH, value).ok()?;
            (self.length, self.digits) = (Ok(BodyLength::Exact(other)), Some(digits));
        }
        buffer.advance(whole);
        Some(self)
    }
}

/// The target of a request: a path (RFC 9112 section 3.2.1), or a URI with the scheme `http` or `https` (section 3.2.2).
fn uri(target: &Bytes, method: &Method) -> Result<Uri, BadHead> {
    const NOT_A_URI: BadHead = BadHead::Malformed("the target is not a valid URI");
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(BadHead::Malformed("the target has characters that a URI cannot have, write them as `%XX`"));
    }
    // `Uri` would drop a fragment.
    if target.contains(&b'#') {
        return Err(BadHead::Malformed("the target has a fragment"));
    }
    let uri = Uri::from_maybe_shared(target.clone()).map_err(|_| NOT_A_URI)?;
    match (uri.scheme_str(), uri.path_and_query()) {
        (None, Some(written)) if written.as_str().len() == target.len() && target.starts_with(b"/") => Ok(uri),
        (Some("http" | "https"), Some(written)) if uri.authority().is_some() => {
            // The path of `http://host?query` is `/`.
            let query = written.query().filter(|_| !written.as_str().starts_with('/'));
            let Some(query) = query else { return Ok(uri) };
            let mut parts = uri.clone().into_parts();
            parts.path_and_query = Some(format!("/?{query}").parse().map_err(|_| NOT_A_URI)?);
            Uri::from_parts(parts).map_err(|_| NOT_A_URI)
        }
        // The authority form (section 3.2.3). Nobody is connected; the refusal can say so.
        (None, None) if *method == Method::CONNECT && uri.authority().is_some() => Ok(uri),
        _ => Err(BadHead::Malformed("the target is neither a path nor a URI of http or https")),
    }
}

/// What `httparse` found wrong.
fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a field is not valid",
        httparse::Error::HeaderValue => "the value of a field is not valid",
        httparse::Error::Version => "the request line does not end with `HTTP/1.1` or `HTTP/1.0`",
        httparse::Error::NewLine => "a line does not end with CR LF",
        httparse::Error::Token | httparse::Error::Status | httparse::Error::TooManyHeaders => {
            "the request line is not valid"
        }
    }
}

/// Where `part`, a slice of `whole`, is in `whole`. `None` unless `part` consists of digits only.
fn position(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let begin = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let found = begin..begin + part.len();
    (!part.is_empty() && part.iter().all(u8::is_ascii_digit) && whole.get(found.clone())? == part).then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_read_of_a_bad_head_is_kept_for_the_log() {
        let seen = |text: &str| {
            let header = RequestHead::unread(text.as_bytes()).header;
            let host = header.headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
            format!("{} {} {}", header.method, header.uri, host.unwrap_or_default())
        };
        for (text, expected) in [
            ("GET /a?b HTTP/1.1\r\nX: \0\r\nHost: edge.example\r\n\r\n", "GET /a?b edge.example"),
            ("\r\nPOST /a x HTTP/1.1\r\nhost:h\r\n", "POST /a h"),
            ("GET /a HTTP/1.1\r\n\r\nHost: body", "GET /a "),
            ("\x16\x03\x01", "- / "),
            ("GET", "GET / "),
            ("", "- / "),
        ] {
            assert_eq!(seen(text), expected, "{text:?}");
        }
    }

    fn request(text: &[u8]) -> (RequestParse, BytesMut) {
        let mut buffer = BytesMut::from(text);
        (RequestHead::parse(&mut buffer), buffer)
    }

    fn head(text: &[u8]) -> RequestHead {
        match request(text).0 {
            RequestParse::Head(head) => head,
            other => panic!("{other:?}"),
        }
    }

    /// All values of a head.
    fn known(head: &RequestHead) -> impl PartialEq + std::fmt::Debug + use<> {
        let header = &head.header;
        let headers = header.headers.clone();
        let line = (header.method.clone(), header.uri.clone(), header.version);
        (line, headers, head.raw.clone(), head.length, head.keeps_alive, head.digits.clone())
    }

    #[test]
    fn a_whole_head_is_taken_and_the_bytes_after_it_stay() {
        let (parsed, rest) = request(b"POST /a/mcp?x=1 HTTP/1.1\r\nHost: h\r\nX-Two:  b \r\nx-two: c\r\n\r\n{}GET");
        let RequestParse::Head(RequestHead { header, raw, .. }) = parsed else { panic!("{parsed:?}") };
        assert_eq!((header.method.as_str(), header.raw_path()), ("POST", &b"/a/mcp?x=1"[..]));
        assert_eq!(header.version, Version::HTTP_11);
        assert_eq!(header.headers["host"], "h");
        let two: Vec<_> = header.headers.get_all("x-two").iter().collect();
        assert_eq!(two, ["b", "c"]);
        assert!(raw.starts_with(b"POST /a/mcp") && raw.ends_with(b"x-two: c\r\n\r\n"));
        assert_eq!(rest, b"{}GET"[..]);
    }

    #[test]
    fn an_incomplete_head_stays_in_the_buffer() {
        let whole = b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n";
        for length in 0..whole.len() {
            let (parsed, rest) = request(&whole[..length]);
            assert!(matches!(parsed, RequestParse::Partial), "{length}");
            assert_eq!(rest, whole[..length]);
        }
        assert_eq!(head(whole).header.version, Version::HTTP_10);
    }

    #[test]
    fn a_target_may_be_a_whole_uri() {
        for (target, path) in
            [("http://h/a?x=1", "/a?x=1"), ("HTTPS://h:81/", "/"), ("http://h", "/"), ("http://h?x", "/?x")]
        {
            let head = head(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            assert_eq!(head.header.raw_path(), path.as_bytes(), "{target}");
            assert!(head.header.uri.authority().is_some_and(|authority| authority.host() == "h"), "{target}");
        }
    }

    #[test]
    fn a_malformed_head_is_refused_and_stays_in_the_buffer() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEAD_FIELDS + 1));
        for odd in [
            "GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET  /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\n: h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
            "CONNECT * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a HTTP/2.0\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            "GET /a HTTP/1.1\r\nX: a\0b\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            many.as_str(),
        ] {
            let (parsed, rest) = request(odd.as_bytes());
            assert!(matches!(parsed, RequestParse::Bad(_)), "{odd}: {parsed:?}");
            assert_eq!(rest, odd.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn a_line_without_cr_makes_the_length_an_error(
            lines in proptest::collection::vec(("|GET /a HTTP/1.1|Host: h|X:|X: a b", "\r?\n"), 0..7),
        ) {
            let text: String = lines.into_iter().map(|(line, end)| line + &end).collect();
            if let RequestParse::Head(head) = request(text.as_bytes()).0 {
                let bare = text[..head.raw.len()].replace("\r\n", "").contains('\n');
                prop_assert_eq!(head.length.is_err(), bare, "{:?}", text);
            }
        }
    }

    #[test]
    fn a_line_without_cr_is_found_wherever_it_is() {
        let good = "\r\nGET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n";
        assert!(head(good.as_bytes()).length.is_ok());
        for (at, _) in good.match_indices("\r\n") {
            let bare = format!("{}{}", &good[..at], &good[at + 1..]);
            assert!(head(bare.as_bytes()).length.is_err(), "{bare:?}");
        }
    }

    #[test]
    fn a_head_repeats_with_another_length() {
        let first = b"POST /a HTTP/1.1\r\nA: 1\r\nContent-Length: 12 \r\nB: 2\r\n\r\n";
        for (number, length) in [("12", 12), ("7", 7), ("012", 12), ("9999999999999999999", 9_999_999_999_999_999_999)]
        {
            let second = std::str::from_utf8(first).expect("ASCII").replace("12", number);
            let mut buffer = BytesMut::from(format!("{second}99{{}}").as_bytes());
            let again = head(first).repeated(&mut buffer).expect("the head is the same");
            assert_eq!(again.length, Ok(BodyLength::Exact(length)), "{number}");
            assert_eq!(known(&again), known(&head(second.as_bytes())));
            assert_eq!(buffer, b"99{}"[..]);
            // The second head can be repeated too.
            let mut buffer = BytesMut::from(&first[..]);
            let back = again.repeated(&mut buffer).expect("the head is the same");
            assert_eq!(known(&back), known(&head(first)));
        }
    }

    #[test]
    fn a_different_head_is_not_taken_and_stays() {
        let first = "POST /a HTTP/1.1\r\nA: 1\r\nContent-Length: 12\r\nB: 2\r\n\r\n";
        for (old, new) in [
            ("A: 1", "A: 2"),
            ("A: 1", "a: 1"),
            ("/a", "/ab"),
            ("12", ""),
            ("12", "+12"),
            ("12", "1 2"),
            ("12", "12, 12"),
            ("12", "0x1"),
            ("12", "12\r\nContent-Length: 12"),
            ("12", "12\r\nTransfer-Encoding: chunked"),
            ("12", "99999999999999999999"),
            ("Content-Length: 12\r\n", ""),
            ("\r\n", "\n"),
            ("B: 2\r\n\r\n", "B: 2\r\n"),
            ("B: 2\r\n\r\n", "B: 2"),
            (first, "POST /a HTTP/1.1\r\nA: 1\r\nContent-Length: 1"),
            (first, ""),
        ] {
            let second = first.replace(old, new);
            let mut buffer = BytesMut::from(second.as_bytes());
            assert!(head(first.as_bytes()).repeated(&mut buffer).is_none(), "{second:?}");
            assert_eq!(buffer, second.as_bytes());
        }
    }

    #[test]
    fn without_a_length_every_byte_must_be_the_same() {
        for first in
            ["GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: 5\r\n\r\n"]
        {
            let mut buffer = BytesMut::from(format!("{first}5\r\n").as_bytes());
            let again = head(first.as_bytes()).repeated(&mut buffer).expect("the head is the same");
            assert_eq!(known(&again), known(&head(first.as_bytes())));
            assert_eq!(buffer, b"5\r\n"[..]);
            for second in [first.replace('h', "g"), first.replace('5', "6"), first.replace("a HTTP", "ab HTTP")] {
                let mut buffer = BytesMut::from(second.as_bytes());
                assert_eq!(head(first.as_bytes()).repeated(&mut buffer).is_some(), second == first, "{second:?}");
            }
        }
        // A head that is refused is never repeated: it is parsed and refused again.
        let ambiguous = b"POST /a HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n";
        assert!(head(ambiguous).repeated(&mut BytesMut::from(&ambiguous[..])).is_none());
    }

    proptest! {
        /// Whatever comes next: a repeated head equals the parsed head, and any other head stays in the buffer.
        #[test]
        fn a_repeated_head_equals_the_parsed_head(
            lines in proptest::collection::vec("(Content-Length: [0-9]{1,3}|X: [0-9a]{0,2}|Transfer-Encoding: chunked) {0,1}\r\n", 0..4),
            at in 0_usize..80,
            change in proptest::option::of("[0-9a \r\n:]{0,2}"),
            removed in 0_usize..3,
        ) {
            let first = format!("POST /a HTTP/1.1\r\n{}\r\n", lines.concat());
            let RequestParse::Head(before) = request(first.as_bytes()).0 else { return Ok(()) };
            let mut second = first.clone().into_bytes();
            if let Some(change) = change {
                let at = at.min(second.len());
                let end = (at + removed).min(second.len());
                second.splice(at..end, change.bytes());
            }
            second.extend_from_slice(b"12");
            let mut buffer = BytesMut::from(&second[..]);
            match before.repeated(&mut buffer) {
                Some(again) => {
                    let (parsed, rest) = request(&second);
                    let RequestParse::Head(parsed) = parsed else { panic!("{parsed:?}") };
                    prop_assert_eq!(known(&again), known(&parsed));
                    prop_assert_eq!(buffer, rest);
                }
                None => prop_assert_eq!(buffer, &second[..]),
            }
        }
    }
}
