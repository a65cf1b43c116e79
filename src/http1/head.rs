//! Reads and writes the heads of responses, and has the functions that request heads use too.

use std::mem::MaybeUninit;

use crate::config::limits::HEAD_FIELDS;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};
use pingora::http::ResponseHeader;
use thiserror::Error;

/// Why the head of a response cannot be used.
#[derive(Debug, Error)]
#[error("the head of the answer is malformed: {0}")]
pub struct HeadError(&'static str);

/// Where the name and the value of a field are in the head: the first byte, and the byte after the last.
pub(super) struct Span {
    name: (u32, u32),
    value: (u32, u32),
}

/// The spans of `fields`, which were parsed from `head`.
pub(super) fn spans(head: &[u8], fields: &[Header<'_>]) -> Vec<Span> {
    // Heads are far shorter than 4 GiB.
    let range = |part: &[u8]| {
        let begin = (part.as_ptr() as usize - head.as_ptr() as usize) as u32;
        (begin, begin + part.len() as u32)
    };
    fields.iter().map(|field| Span { name: range(field.name.as_bytes()), value: range(field.value) }).collect()
}

/// The fields of `head`, whose values are not copied. `None` when a field is not valid.
pub(super) fn fields(head: &Bytes, spans: &[Span]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(spans.len() + 2);
    for span in spans {
        let [name, value] = [span.name, span.value].map(|(begin, end)| begin as usize..end as usize);
        let name = HeaderName::from_bytes(&head[name]).ok()?;
        let value = HeaderValue::from_maybe_shared(head.slice(value)).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

/// Whether a line of `head` ends with LF but without CR. `httparse` accepts this as the end of a line. Other parsers
/// take the LF for a part of the line, so they may find the end of the head at a different place (RFC 9112 section 2.2
/// allows to refuse such a head). Only line feeds before the first line, before names, and at the end of the head are
/// checked: `httparse` accepts no others.
pub(super) fn has_bare_line_feed(head: &[u8], spans: &[Span]) -> bool {
    let begin = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let ends = |end: usize| head[..end].ends_with(b"\r\n");
    let lines = spans.iter().all(|span| ends(span.name.0 as usize)) && head.ends_with(b"\r\n\r\n");
    !(lines && head[..begin].chunks(2).all(|line| line == b"\r\n"))
}

/// Takes the head of a response out of `buffer`. `None` when the head has not arrived completely.
///
/// # Errors
/// The head is malformed, or has more than [`HEAD_FIELDS`] fields.
pub fn parse_response(buffer: &mut BytesMut) -> Result<Option<Box<ResponseHeader>>, HeadError> {
    let mut storage = [const { MaybeUninit::uninit() }; HEAD_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, buffer, &mut storage) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError("it has too many fields")),
        Err(_) => return Err(HeadError("it is not valid HTTP/1")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError("it has no valid status"))?;
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let spans = spans(buffer, response.headers);
    let head = buffer.split_to(length).freeze();
    if has_bare_line_feed(&head, &spans) {
        return Err(HeadError("a line ends with LF but without CR"));
    }
    let headers = fields(&head, &spans).ok_or(HeadError("a field has an invalid name or value"))?;
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    Ok(Some(Box::new(parts.into())))
}

/// Writes the head of a response, without the empty line at its end.
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

    #[test]
    fn a_line_without_cr_is_refused_wherever_it_is() {
        let good = "HTTP/1.1 200 OK\r\na: b\r\nc: d\r\n\r\n";
        assert!(parse_response(&mut BytesMut::from(good)).is_ok_and(|head| head.is_some()));
        for (at, _) in good.match_indices("\r\n") {
            let bare = format!("{}{}", &good[..at], &good[at + 1..]);
            assert!(parse_response(&mut BytesMut::from(bare.as_str())).is_err(), "{bare:?}");
        }
        assert!(parse_response(&mut BytesMut::from("\nHTTP/1.1 200 OK\r\n\r\n")).is_err());
    }

    #[test]
    fn a_response_head_is_written_as_it_was_read() {
        let wire = b"HTTP/1.1 202 Accepted\r\ncontent-type: a/b\r\nset-cookie: 1\r\nset-cookie: 2\r\n\r\nrest";
        let mut buffer = BytesMut::from(&wire[..]);
        let head = parse_response(&mut buffer).expect("the head is well-formed").expect("the head is complete");
        assert_eq!(buffer, b"rest"[..]);
        let mut out = BytesMut::new();
        encode_head(&head, &mut out);
        assert_eq!(out, wire[..wire.len() - 6]);
    }

    #[test]
    fn a_malformed_response_head_is_an_error() {
        for bad in [&b"HTTP/1.1 20 OK\r\n\r\n"[..], b"ICY 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\na\r\n\r\n"] {
            assert!(parse_response(&mut BytesMut::from(bad)).is_err(), "{bad:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEAD_FIELDS + 1));
        assert!(parse_response(&mut BytesMut::from(many.as_bytes())).is_err());
        assert!(
            parse_response(&mut BytesMut::from(&b"HTTP/1.1 200 OK\r\na: b\r\n"[..])).is_ok_and(|head| head.is_none())
        );
    }
}
