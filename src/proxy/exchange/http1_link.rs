//! One HTTP/1 request to a replica and its answer, on a connection that the edge writes and reads itself.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, OrErr};
use tokio::io::AsyncWriteExt;

use crate::config::limits;
use crate::http1::{BodyLength, BodyReader, Step, keeps_alive, parse_response};
use crate::proxy::fill::fill;
use crate::proxy::within::within;
use crate::upstream::Wire;

/// An exchange with a replica.
pub(crate) struct Http1Link {
    stream: Wire,
    input: BytesMut,
    method: Method,
    /// The body of the answer, once its head was read.
    body: Option<BodyReader>,
    /// True when the replica keeps the connection open.
    keepalive: bool,
}

impl Http1Link {
    /// For a request with `method`, on a connection that is not in use.
    pub(crate) fn new(stream: Wire, method: Method) -> Self {
        Self { stream, input: BytesMut::new(), method, body: None, keepalive: false }
    }

    /// Sends a whole request.
    pub(crate) async fn send(&mut self, head: &[u8], body: &[u8], limit: Duration) -> pingora::Result<()> {
        let stream = &mut self.stream;
        let writing = async {
            stream.write_all(head).await?;
            stream.write_all(body).await?;
            stream.flush().await
        };
        match within(limit, writing).await {
            Ok(written) => written.or_err(ErrorType::WriteError, "writing a request"),
            Err(_) => Err(Error::explain(ErrorType::WriteTimedout, "the upstream does not read")),
        }
    }

    /// Reads the head of the answer. A 1xx is not the answer yet, and MCP has no upgrades.
    pub(crate) async fn read_head(&mut self) -> pingora::Result<Box<ResponseHeader>> {
        loop {
            let parsed = parse_response(&mut self.input);
            match parsed.or_err(ErrorType::InvalidHTTPHeader, "reading an answer")? {
                Some(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    return Error::e_explain(ErrorType::InvalidHTTPHeader, "the answer switches protocols");
                }
                Some(head) if head.status.is_informational() => {}
                Some(head) => return self.begin_body(head),
                None if self.input.len() > limits::ANSWER_HEAD_BYTES => {
                    return Error::e_explain(ErrorType::InvalidHTTPHeader, "the head of the answer is too large");
                }
                None => {
                    if self.fill(limits::READ_BYTES).await? == 0 {
                        return Error::e_explain(ErrorType::ConnectionClosed, "the connection ended before the answer");
                    }
                }
            }
        }
    }

    fn begin_body(&mut self, mut head: Box<ResponseHeader>) -> pingora::Result<Box<ResponseHeader>> {
        let length = BodyLength::of_response(&self.method, head.status, head.version, &head.headers);
        let Some(length) = length else {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "the length of the answer is ambiguous");
        };
        self.keepalive = keeps_alive(head.version, &head.headers);
        if head.headers.contains_key(TRANSFER_ENCODING) && head.remove_header(&CONTENT_LENGTH).is_some() {
            // A message with both may be an attempt at smuggling (RFC 9112 section 6.1).
            self.keepalive = false;
        }
        match length {
            // A 204 never has a body, so its length could only be misread.
            _ if head.status == StatusCode::NO_CONTENT => drop(head.remove_header(&CONTENT_LENGTH)),
            BodyLength::Exact(length) if head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() => {
                head.insert_header(CONTENT_LENGTH, length)?;
            }
            _ => {}
        }
        self.body = Some(BodyReader::new(length));
        Ok(head)
    }

    /// The next piece of the answer's body. The future may be dropped while it waits: no byte is lost.
    pub(crate) async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        loop {
            let Some(body) = &mut self.body else { return Ok(None) };
            match body.next(&mut self.input).or_err(ErrorType::InvalidHTTPHeader, "reading an answer")? {
                Step::Piece(piece) => return Ok(Some(piece)),
                Step::End => return Ok(None),
                Step::Wait => {}
            }
            let room = usize::try_from(body.expected())
                .unwrap_or(usize::MAX)
                .clamp(limits::READ_BYTES, limits::READ_MORE_BYTES);
            if self.fill(room).await? == 0
                && let Some(body) = &mut self.body
            {
                self.keepalive = false;
                body.closed().or_err(ErrorType::ConnectionClosed, "reading an answer")?;
            }
        }
    }

    async fn fill(&mut self, room: usize) -> pingora::Result<usize> {
        fill(&mut self.stream, &mut self.input, room).await.or_err(ErrorType::ReadError, "reading an answer")
    }

    /// The connection, if another request can be sent on it.
    pub(crate) fn into_idle(self) -> Option<Wire> {
        let whole = self.body.is_some_and(|body| body.is_done()) && self.input.is_empty();
        (self.keepalive && whole).then_some(self.stream)
    }

    /// Closes the connection in the middle of an exchange.
    pub(crate) async fn shutdown(&mut self) {
        // TLS sends a closing message. A peer that does not read could hold that up.
        let _ = tokio::time::timeout(limits::GOODBYE, self.stream.shutdown()).await;
    }
}
