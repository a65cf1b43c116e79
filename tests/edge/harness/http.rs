//! HTTP/1.1 by hand, for requests that no client library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// False when the connection ended before the body was complete.
    pub complete: bool,
}

impl Reply {
    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// The values of all fields with this name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("the body is not JSON ({error}): {self:?}"))
    }
}

/// True for what a client gets when no scope would open what its message asks for: the JSON-RPC error of a server that does not have
/// it; for a notification, nothing.
pub fn is_refused_by_error(reply: &Reply) -> bool {
    let code = || reply.json()["error"]["code"].as_i64();
    match reply.status {
        202 => reply.body.is_empty(),
        200 => reply.body.starts_with(r#"{"jsonrpc":"2.0","id":"#) && matches!(code(), Some(-32602 | -32601)),
        404 => reply.body.starts_with(r#"{"jsonrpc":"2.0","id":"#) && code() == Some(-32601),
        _ => false,
    }
}

/// A request with a `Host` field, and with a `Content-Length` field unless `body` is empty.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str("Host: edge.example\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}

/// Sends `bytes` on a new connection and reads one response.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("the edge listens");
    stream.write_all(bytes.as_ref()).await.expect("the edge reads");
    read_reply(&mut stream).await
}

/// Reads one response. Returns an empty one with status 0 when the connection closes before the head is complete.
pub async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    tokio::time::timeout(PATIENCE, read(stream)).await.expect("a response in time")
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        if read_some(stream, &mut bytes).await == 0 {
            return Reply {
                status: 0,
                head: String::from_utf8_lossy(&bytes).into_owned(),
                body: String::new(),
                complete: false,
            };
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let mut reply = Reply { status, head, body: String::new(), complete: true };
    let mut body = bytes[end + 4..].to_vec();
    if reply.header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
        let mut whole = 0;
        while !all_chunks(&body, &mut whole) {
            if read_some(stream, &mut body).await == 0 {
                reply.complete = false;
                break;
            }
        }
        body = dechunk(&body);
    } else if let Some(length) = reply.header("content-length").map(|length| length.parse::<usize>().expect("a number"))
    {
        while body.len() < length {
            if read_some(stream, &mut body).await == 0 {
                reply.complete = false;
                break;
            }
        }
    } else if status >= 200 && status != 204 && status != 304 {
        while read_some(stream, &mut body).await > 0 {}
    }
    reply.body = String::from_utf8_lossy(&body).into_owned();
    reply
}

/// Reads some bytes. A reset counts as the end of the connection.
async fn read_some(stream: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> usize {
    stream.read_buf(into).await.unwrap_or(0)
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// True when the last chunk has arrived. `whole` is the number of bytes that are known to be complete chunks.
fn all_chunks(bytes: &[u8], whole: &mut usize) -> bool {
    while let Some(end) = find(&bytes[*whole..], b"\r\n") {
        let size = std::str::from_utf8(&bytes[*whole..*whole + end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok()).expect("the size of a chunk");
        let next = *whole + end + 2 + size + 2;
        if bytes.len() < next {
            return false;
        }
        if size == 0 {
            return true;
        }
        *whole = next;
    }
    false
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let data = &bytes[end + 2..];
        body.extend_from_slice(&data[..size.min(data.len())]);
        bytes = data.get(size + 2..).unwrap_or_default();
    }
    body
}
