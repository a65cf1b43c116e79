//! Requests on a connection, read by the edge and by others. Where the edge accepts a request, everybody must find the same one,
//! with the same end. Otherwise the rest of one request could be taken for the next.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;
use mcp_edge::http1::{BodyReader, RequestHead, RequestParse, Step};

/// A request, as one reader understands it.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    method: Method,
    /// The authority, if the target has one, and the path with its query.
    target: String,
    fields: HeaderMap,
    body: Vec<u8>,
}

/// What the edge has made of a connection.
#[derive(Debug, PartialEq)]
struct Connection {
    requests: Vec<Read>,
    /// The number of bytes that these requests take.
    taken: usize,
    /// The last request is the last of the connection.
    closes: bool,
}

/// The requests that the edge, `httparse` with the framing of RFC 9112 section 6, and hyper find.
pub fn request(data: &[u8]) {
    let whole = edge(data, data.len().max(1));
    for step in [1, 1 + data.len() % 7] {
        assert_eq!(edge(data, step), whole, "in pieces of {step}");
    }
    let mut rest = data;
    for read in &whole.requests {
        let (theirs, length) = reference(rest).unwrap_or_else(|| panic!("only the edge accepts {read:?}"));
        assert_eq!(read, &theirs);
        rest = &rest[length..];
    }
    assert_eq!(data.len() - rest.len(), whole.taken);
    let theirs = hyper_requests(data);
    for (index, read) in whole.requests.iter().enumerate() {
        // hyper may refuse what the edge accepts, but must not find another request in it.
        match theirs.get(index) {
            Some(Some(theirs)) => assert_eq!(read, theirs),
            Some(None) | None => break,
        }
        // Behind these, hyper speaks another protocol.
        if read.method == Method::CONNECT || read.fields.contains_key("upgrade") {
            break;
        }
    }
}

/// Reads `data` as the edge does, when it arrives in pieces of `step` bytes.
fn edge(data: &[u8], step: usize) -> Connection {
    let mut connection = Connection { requests: Vec::new(), taken: 0, closes: false };
    let (mut buffer, mut pieces) = (BytesMut::new(), data.chunks(step));
    let mut current: Option<(RequestHead, BodyReader, Vec<u8>)> = None;
    let mut arrived = 0;
    loop {
        let goes_on = match &mut current {
            None => match RequestHead::parse(&mut buffer) {
                RequestParse::Bad(_) => return connection,
                RequestParse::Partial => false,
                RequestParse::Head(head) => {
                    let Ok(length) = head.length else { return connection };
                    current = Some((head, BodyReader::new(length), Vec::new()));
                    true
                }
            },
            Some((_, reader, body)) => match reader.next(&mut buffer) {
                Err(_) => return connection,
                Ok(Step::Wait) => false,
                Ok(Step::Piece(piece)) => {
                    body.extend_from_slice(&piece);
                    true
                }
                Ok(Step::End) => {
                    let (head, _, body) = current.take().expect("it is being read");
                    let header = &head.header;
                    connection.requests.push(Read {
                        method: header.method.clone(),
                        target: target(&header.uri),
                        fields: header.headers.clone(),
                        body,
                    });
                    connection.taken = arrived - buffer.len();
                    connection.closes = !head.keeps_alive;
                    if connection.closes {
                        return connection;
                    }
                    true
                }
            },
        };
        if !goes_on {
            let Some(piece) = pieces.next() else { return connection };
            buffer.extend_from_slice(piece);
            arrived += piece.len();
        }
    }
}

fn target(uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    // The path of `http://host?query` is `/` (RFC 9110 section 4.2.3).
    let slash = if uri.authority().is_some() && !path.starts_with('/') { "/" } else { "" };
    format!("{} {slash}{path}", uri.authority().map_or("", |authority| authority.as_str()))
}

/// Reads one request as strictly as RFC 9112 allows. Returns its length as well. `None`: it is not valid, or not whole.
fn reference(data: &[u8]) -> Option<(Read, usize)> {
    let mut storage = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut storage);
    let httparse::Status::Complete(end) = parsed.parse(data).ok()? else { return None };
    // Empty lines before the request line may be skipped (section 2.2).
    let begin = data.iter().position(|byte| !b"\r\n".contains(byte))?;
    let is_line = |at: usize| data[at] != b'\n' || data[at - 1] == b'\r';
    if !(begin + 1..end).all(is_line) {
        return None;
    }
    let mut fields = HeaderMap::new();
    for field in parsed.headers.iter() {
        fields.append(http::HeaderName::from_bytes(field.name.as_bytes()).ok()?, field.value.try_into().ok()?);
    }
    let values = |name: &str| fields.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
    let (body, length) = match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => (Vec::new(), 0),
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok()?.parse::<usize>().ok()?;
            (data.get(end..end.checked_add(length)?)?.to_vec(), length)
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && parsed.version == Some(1) => chunks(&data[end..])?,
        _ => return None,
    };
    let method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    let uri = parsed.path?.parse().ok()?;
    Some((Read { method, target: target(&uri), fields, body }, end + length))
}

/// The bytes of a chunked body, and its length with the framing (section 7.1).
fn chunks(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| {
        let length = data[at..].windows(2).position(|two| two == b"\r\n")?;
        let text = &data[at..at + length];
        text.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F)).then_some((text, at + length + 2))
    };
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (text, next) = line(at)?;
        let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let behind = text[digits..].trim_ascii_start();
        if digits == 0 || !(behind.is_empty() && digits == text.len() || behind.starts_with(b";")) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(&text[..digits]).ok()?, 16).ok()?;
        at = next;
        if size == 0 {
            break;
        }
        body.extend_from_slice(data.get(at..at.checked_add(size)?)?);
        at += size;
        if data.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let (text, next) = line(at)?;
        at = next;
        if text.is_empty() {
            return Some((body, at));
        }
        let colon = text.iter().position(|&byte| byte == b':')?;
        http::HeaderName::from_bytes(&text[..colon]).ok()?;
    }
}

/// The requests that hyper finds. `None` stands for one whose body is not valid, or not whole.
fn hyper_requests(data: &[u8]) -> Vec<Option<Read>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&found);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await;
            let read = body.ok().map(|body| Read {
                method: head.method,
                target: target(&head.uri),
                fields: head.headers,
                body: body.to_bytes().to_vec(),
            });
            seen.lock().expect("nothing panics while it holds the lock").push(read);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(Wire(data.to_vec()), service);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("an event loop");
    // An error says that hyper refuses the rest.
    let _ = runtime.block_on(connection);
    let found = found.lock().expect("nothing panics while it holds the lock");
    found.clone()
}

/// A connection that brings these bytes, and takes everything.
struct Wire(Vec<u8>);

impl hyper::rt::Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let length = self.0.len().min(into.remaining());
        into.put_slice(&self.0[..length]);
        self.0.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
