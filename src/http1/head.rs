//! Heads of requests and answers, from the wire and to it.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use httparse::{Header, ParserConfig, Status};
use pingora::http::{RequestHeader, ResponseHeader};
use thiserror::Error;

/// How many fields a head may have that is read here.
pub const MAX_FIELDS: usize = 128;

/// What a buffer begins with.
#[derive(Debug)]
pub enum RequestParse {
    /// A whole head, which was taken out of the buffer, and its bytes.
    Head(Box<RequestHeader>, Bytes),
    /// The beginning of one.
    Partial,
    /// Something that is no plain request: malformed, with too many fields, or with a target that is no path.
    Other,
}

/// Why the head of an answer cannot be used.
#[derive(Debug, Error)]
#[error("the head of the answer is malformed: {0}")]
pub struct HeadError(&'static str);

/// Where a field stands in its head.
#[derive(Clone, Copy, Default)]
struct Span {
    name: (u32, u32),
    value: (u32, u32),
}

/// The spans of `fields` in `head`, which they were parsed from.
fn spans(head: &[u8], fields: &[Header<'_>]) -> [Span; MAX_FIELDS] {
    // Heads are far shorter than 4 GiB.
    let range = |part: &[u8]| {
        let begin = (part.as_ptr() as usize - head.as_ptr() as usize) as u32;
        (begin, begin + part.len() as u32)
    };
    let mut spans = [Span::default(); MAX_FIELDS];
    for (span, field) in spans.iter_mut().zip(fields) {
        *span = Span { name: range(field.name.as_bytes()), value: range(field.value) };
    }
    spans
}

/// The fields of `head`, without copying their values.
fn fields(head: &Bytes, spans: &[Span]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(spans.len() + 2);
    for span in spans {
        let [name, value] = [span.name, span.value].map(|(begin, end)| begin as usize..end as usize);
        let name = HeaderName::from_bytes(&head[name]).ok()?;
        let value = HeaderValue::from_maybe_shared(head.slice(value)).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

/// Takes the head of a request out of `buffer`, if it is there whole.
pub fn parse_request(buffer: &mut BytesMut) -> RequestParse {
    let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let config = ParserConfig::default();
    let length = match config.parse_request_with_uninit_headers(&mut request, buffer, &mut storage) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return RequestParse::Partial,
        Err(_) => return RequestParse::Other,
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return RequestParse::Other };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return RequestParse::Other };
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let begin = target.as_ptr() as usize - buffer.as_ptr() as usize;
    let target = (begin, begin + target.len());
    let (count, spans) = (request.headers.len(), spans(buffer, request.headers));
    if buffer[target.0] != b'/' || !buffer[target.0..target.1].iter().all(u8::is_ascii_graphic) {
        return RequestParse::Other;
    }
    // A shared slice of the buffer is what makes values cheap; the rest of it stays for what follows.
    let head = buffer.split_to(length).freeze();
    let (uri, headers) = (Uri::from_maybe_shared(head.slice(target.0..target.1)), fields(&head, &spans[..count]));
    let (Ok(uri), Some(headers)) = (uri, headers) else { return put_back(buffer, head) };
    // `Uri` drops a fragment, which no request has.
    if uri.path_and_query().is_none_or(|written| written.as_str().len() != target.1 - target.0) {
        return put_back(buffer, head);
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    RequestParse::Head(Box::new(parts.into()), head)
}

/// True when a line of `head` ends without CR. `httparse` takes that for a line's end, others for a part of it: a head that
/// both read differently ends at different places (RFC 9112 section 2.2 allows to refuse it).
pub fn has_bare_line_feed(head: &[u8]) -> bool {
    // Without a way out of the loop the compiler checks many bytes at once.
    let bare = head.windows(2).fold(false, |bare, pair| bare | ((pair[1] == b'\n') & (pair[0] != b'\r')));
    bare || head.first() == Some(&b'\n')
}

fn put_back(buffer: &mut BytesMut, head: Bytes) -> RequestParse {
    let rest = buffer.split();
    buffer.reserve(head.len() + rest.len());
    buffer.put_slice(&head);
    buffer.put_slice(&rest);
    RequestParse::Other
}

/// Takes the head of an answer out of `buffer`; `None` when it is not there whole.
///
/// # Errors
/// It is malformed, or has more than [`MAX_FIELDS`] fields.
pub fn parse_response(buffer: &mut BytesMut) -> Result<Option<Box<ResponseHeader>>, HeadError> {
    let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, buffer, &mut storage) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError("it has too many fields")),
        Err(_) => return Err(HeadError("it is not as HTTP/1 has it")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError("it has no status"))?;
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let (count, spans) = (response.headers.len(), spans(buffer, response.headers));
    let head = buffer.split_to(length).freeze();
    if has_bare_line_feed(&head) {
        return Err(HeadError("a line ends without CR"));
    }
    let headers = fields(&head, &spans[..count]).ok_or(HeadError("a field is not as HTTP has it"))?;
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    Ok(Some(Box::new(parts.into())))
}

/// Writes the head of an answer, but for the empty line at its end.
pub fn encode_head(head: &ResponseHeader, wire: &mut BytesMut) {
    wire.put_slice(b"HTTP/1.1 ");
    wire.put_slice(head.status.as_str().as_bytes());
    wire.put_u8(b' ');
    wire.put_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
    wire.put_slice(b"\r\n");
    for (name, value) in &head.headers {
        encode_field(name, value.as_bytes(), wire);
    }
}

/// Writes one field.
pub fn encode_field(name: &HeaderName, value: &[u8], wire: &mut BytesMut) {
    wire.put_slice(name.as_str().as_bytes());
    wire.put_slice(b": ");
    wire.put_slice(value);
    wire.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &[u8]) -> (RequestParse, BytesMut) {
        let mut buffer = BytesMut::from(text);
        (parse_request(&mut buffer), buffer)
    }

    #[test]
    fn a_whole_head_is_taken_and_what_follows_stays() {
        let (parsed, rest) = request(b"POST /a/mcp?x=1 HTTP/1.1\r\nHost: h\r\nX-Two:  b \r\nx-two: c\r\n\r\n{}GET");
        let RequestParse::Head(head, raw) = parsed else { panic!("{parsed:?}") };
        assert_eq!((head.method.as_str(), head.raw_path()), ("POST", &b"/a/mcp?x=1"[..]));
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(head.headers["host"], "h");
        let two: Vec<_> = head.headers.get_all("x-two").iter().collect();
        assert_eq!(two, ["b", "c"]);
        assert!(raw.starts_with(b"POST /a/mcp") && raw.ends_with(b"x-two: c\r\n\r\n"));
        assert_eq!(rest, b"{}GET"[..]);
    }

    #[test]
    fn what_is_not_whole_stays_and_every_prefix_is_only_partial() {
        let whole = b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n";
        for length in 0..whole.len() {
            let (parsed, rest) = request(&whole[..length]);
            assert!(matches!(parsed, RequestParse::Partial), "{length}");
            assert_eq!(rest, whole[..length]);
        }
        assert!(matches!(request(whole).0, RequestParse::Head(head, _) if head.version == Version::HTTP_10));
    }

    #[test]
    fn what_is_no_plain_request_is_left_untouched() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        for odd in [
            "GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
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
            assert!(matches!(parsed, RequestParse::Other), "{odd}: {parsed:?}");
            assert_eq!(rest, odd.as_bytes());
        }
    }

    #[test]
    fn a_line_that_ends_without_cr_is_seen() {
        for bare in
            ["GET /a HTTP/1.1\nHost: h\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\n\n", "\nGET /a HTTP/1.1\r\n\r\n"]
        {
            assert!(has_bare_line_feed(bare.as_bytes()), "{bare:?}");
        }
        let (parsed, _) = request(b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(matches!(parsed, RequestParse::Head(_, raw) if !has_bare_line_feed(&raw)));
        assert!(parse_response(&mut BytesMut::from(&b"HTTP/1.1 200 OK\r\na: b\n\r\n"[..])).is_err());
    }

    #[test]
    fn an_answer_goes_through_as_it_was() {
        let wire = b"HTTP/1.1 202 Accepted\r\ncontent-type: a/b\r\nset-cookie: 1\r\nset-cookie: 2\r\n\r\nrest";
        let mut buffer = BytesMut::from(&wire[..]);
        let head = parse_response(&mut buffer).expect("it is well-formed").expect("it is whole");
        assert_eq!(buffer, b"rest"[..]);
        let mut out = BytesMut::new();
        encode_head(&head, &mut out);
        assert_eq!(out, wire[..wire.len() - 6]);
    }

    #[test]
    fn a_malformed_answer_is_an_error() {
        for bad in [&b"HTTP/1.1 20 OK\r\n\r\n"[..], b"ICY 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\na\r\n\r\n"] {
            assert!(parse_response(&mut BytesMut::from(bad)).is_err(), "{bad:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert!(parse_response(&mut BytesMut::from(many.as_bytes())).is_err());
        assert!(
            parse_response(&mut BytesMut::from(&b"HTTP/1.1 200 OK\r\na: b\r\n"[..])).is_ok_and(|head| head.is_none())
        );
    }
}
