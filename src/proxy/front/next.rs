//! What comes next on a client's HTTP/1 connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use super::connection::ClientConnection;
use super::last_request::Findings;
use crate::config::{Limits, limits};
use crate::http1::{BadHead, RequestHead, RequestParse};
use crate::metrics::RejectionReason as Reason;
use crate::proxy::client::stream::ClientStream;
use crate::proxy::context::rejection::Rejection;
use crate::proxy::edge::Edge;

/// What comes next on a connection.
pub(super) enum Next {
    /// A request, and what followed from the same head before.
    Request(RequestHead, Option<Box<Findings>>),
    /// Something that is not the head of a request, or a head that is too large.
    Refused(Rejection),
    /// The connection speaks HTTP/2.
    Http2,
    /// The connection has ended, or was silent for too long.
    End,
}

/// Room in a request line beside the target: for the method, the version and two spaces.
const REST_OF_REQUEST_LINE: usize = limits::METHOD_BYTES + 16;

/// Reads the next request.
pub(super) async fn next(edge: &Edge, connection: &mut ClientConnection, mut stopping: Pin<&mut impl Future>) -> Next {
    let ClientConnection { http1, is_new, last, .. } = connection;
    let mut parsed = 0;
    loop {
        if !http1.input.is_empty() {
            if let Some((head, findings)) = last.take().and_then(|last| last.repeated(&mut http1.input)) {
                return Next::Request(head, findings);
            }
            if *is_new && http1.tls.is_none() && ClientStream::may_begin_http2(&http1.input) {
                if ClientStream::begins_http2(&http1.input) {
                    return Next::Http2;
                }
            } else if parsed == 0 || http1.input.len() >= 2 * parsed || has_end(&http1.input[parsed.max(3) - 3..]) {
                parsed = http1.input.len();
                match RequestHead::parse(&mut http1.input) {
                    RequestParse::Head(head) => {
                        *is_new = false;
                        return Next::Request(head, None);
                    }
                    RequestParse::Bad(bad) => return Next::Refused(refusal(bad)),
                    RequestParse::Partial => {}
                }
            }
            if let Some(rejection) = is_too_large(&http1.input, &edge.limits()) {
                return Next::Refused(rejection);
            }
        }
        let is_idle = http1.input.is_empty();
        // A connection that has not sent a request yet is not idle.
        let may_leave = is_idle && !*is_new;
        let room = Arc::clone(http1.stream.room());
        let read = tokio::select! {
            biased;
            read = poll_fn(|cx| http1.poll_next(cx)) => read,
            // A client that has begun to send a request is served.
            _ = stopping.as_mut(), if is_idle => return Next::End,
            () = room.notified(), if may_leave => return Next::End,
        };
        if !matches!(read, Ok(1..)) {
            return Next::End;
        }
    }
}

/// True when `bytes` have an empty line, which ends a head. A head is not parsed again for every byte of a slow client.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// Why the beginning of a head is refused before the rest has come.
fn is_too_large(input: &[u8], limits: &Limits) -> Option<Rejection> {
    let begin = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let input = &input[begin..];
    let longest = usize::try_from(limits.uri_bytes.0).unwrap_or(usize::MAX).saturating_add(REST_OF_REQUEST_LINE);
    if input.len() > limits::METHOD_BYTES && !input[..=limits::METHOD_BYTES].contains(&b' ') {
        return Some(refusal(BadHead::Malformed("the method is too long")));
    }
    match input.iter().take(longest).position(|byte| *byte == b'\n') {
        None if input.len() >= longest => Some(Rejection::uri_too_long(limits)),
        Some(line) if (input.len() - line) as u64 > limits.header_bytes.0 + 4 => {
            Some(Rejection::head_too_large(limits))
        }
        _ if begin > REST_OF_REQUEST_LINE => Some(refusal(BadHead::Malformed("it begins with empty lines"))),
        _ => None,
    }
}

fn refusal(bad: BadHead) -> Rejection {
    let reason = match bad {
        BadHead::Malformed(_) => Reason::BadRequest,
        BadHead::TooManyFields => Reason::HeadersTooLarge,
    };
    Rejection::new(reason, bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_head_may_be_as_large_as_the_limits() {
        let mut limits = Limits::default();
        (limits.uri_bytes.0, limits.header_bytes.0) = (100, 1_000);
        let reason = |text: String| is_too_large(text.as_bytes(), &limits).map(|rejection| rejection.reason);
        assert_eq!(reason(format!("GET /{}", "a".repeat(99))), None);
        assert_eq!(reason(format!("GET /{}", "a".repeat(200))), Some(Reason::UriTooLong));
        assert_eq!(reason(format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(980))), None);
        assert_eq!(reason(format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(1_010))), Some(Reason::HeadersTooLarge));
        assert_eq!(reason(format!("{} / HTTP/1.1", "M".repeat(32))), None);
        assert_eq!(reason(format!("{} / HTTP/1.1", "M".repeat(33))), Some(Reason::BadRequest));
        assert_eq!(reason("\r\n".repeat(10)), None);
        assert_eq!(reason("\r\n".repeat(100)), Some(Reason::BadRequest));
    }

    #[test]
    fn the_end_of_a_head_is_found() {
        assert!(has_end(b"a: b\r\n\r\n") && has_end(b"a\n\n") && has_end(b"\n\r\n") && !has_end(b"a\r\nb\r\n"));
    }
}
