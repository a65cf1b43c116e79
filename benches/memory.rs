//! How much memory the edge takes: idle, with 1,000 idle event streams, with 1,000 idle connections that have served a request,
//! with 1,000 that have not sent anything yet, and with 100,000 principals in its token cache.
//! It prints figures, does not measure time, and fails when a stream or connection takes more than it should.

#![allow(clippy::print_stdout, reason = "the bench prints its figures")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

const STREAMS: usize = 1_000;
const CONNECTIONS: usize = 1_000;
const PRINCIPALS: usize = 100_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn main() {
    // `cargo test --benches` runs every bench with `--test`. This one has nothing to test.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let origin = origin();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("edge.yaml");
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0'}}]
admin: {{address: '127.0.0.1:0'}}
auth: {{providers: {{corp: {{jwt: {{issuer: 'https://idp.example', audiences: [mcp-edge], algorithms: [HS256],
        secret: {{file: secret}}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{origin}'}}]}}}}
routes:
  - {{path: /, upstream: a, protocol: mcp, auth: none}}
  - {{path: /known/, upstream: a, auth: {{providers: [corp], scopes: [that-nobody-has]}}}}\n"
    );
    std::fs::write(folder.path().join("secret"), SECRET).expect("the folder is writable");
    std::fs::write(&config, yaml).expect("the folder is writable");
    let mut edge = Edge::start(&config);
    let idle = edge.resident_kib();
    println!("idle: {:.1} MiB resident", idle as f64 / 1024.0);
    // What the first request needs, all have together.
    drop(open_stream(edge.address));
    let idle = edge.resident_kib();
    let streams: Vec<TcpStream> = (0..STREAMS).map(|_| open_stream(edge.address)).collect();
    let busy = edge.resident_kib();
    report(&format!("{STREAMS} idle event streams"), idle, busy, STREAMS, 24.0);
    drop(streams);
    edge.end();
    for (what, request, most) in [("kept after a request", Some(call()), 8.0), ("without a byte yet", None, 4.0)] {
        let mut edge = Edge::start(&config);
        drop(open_connection(edge.address, Some(&call())));
        let idle = edge.resident_kib();
        let open: Vec<TcpStream> =
            (0..CONNECTIONS).map(|_| open_connection(edge.address, request.as_deref())).collect();
        let busy = edge.resident_kib();
        report(&format!("{CONNECTIONS} idle connections {what}"), idle, busy, CONNECTIONS, most);
        drop(open);
        edge.end();
    }
    // A new process, so that memory that is left over from the streams is not counted.
    let mut edge = Edge::start(&config);
    show_principals(edge.address, 1);
    let idle = edge.resident_kib();
    show_principals(edge.address, PRINCIPALS);
    let known = edge.resident_kib();
    println!(
        "{PRINCIPALS} principals in the token cache: {:.1} MiB resident, {:.0} bytes for each",
        known as f64 / 1024.0,
        (known - idle) as f64 * 1024.0 / PRINCIPALS as f64
    );
    edge.end();
}

/// Prints how much memory `count` things take: resident were `before` KiB without them, and are `after` KiB with them. Each may take
/// `most` KiB.
fn report(what: &str, before: u64, after: u64, count: usize, most: f64) {
    let (resident, each) = (after as f64 / 1024.0, (after - before) as f64 / count as f64);
    println!("{what}: {resident:.1} MiB resident, {each:.1} KiB for each");
    assert!(each <= most, "{what}: {each:.1} KiB for each, more than {most} KiB");
}

/// Sends requests with the tokens of `count` principals. The tokens are valid, but do not have the scope of the route,
/// so only the token cache grows.
fn show_principals(edge: SocketAddr, count: usize) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut stream = BufReader::new(TcpStream::connect(edge).expect("the edge listens"));
    for number in 0..count {
        let claims = format!(
            r#"{{"iss":"https://idp.example","aud":"mcp-edge","exp":4102444800,"sub":"user-{number}@corp.example","scope":"fininfo:read fininfo:trade","jti":"{number:032}"}}"#
        );
        let message = [r#"{"alg":"HS256","typ":"at+jwt"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
        let request =
            format!("GET /known/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {message}.{signature}\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).expect("the edge reads");
        let mut length = 0;
        for line in stream.by_ref().lines().map(|line| line.expect("an answer")).take_while(|line| !line.is_empty()) {
            assert!(!line.starts_with("HTTP/") || line.contains(" 403 "), "{line}");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
        }
        stream.read_exact(&mut vec![0; length]).expect("the whole answer");
    }
}

impl Edge {
    fn end(&mut self) {
        self.child.kill().expect("the edge was running");
        self.child.wait().expect("the edge was killed");
    }
}

/// A call with the fields that MCP clients send, of which the origin answers none with JSON: the edge passes its head on.
fn call() -> String {
    let token = "x".repeat(400);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","arguments":{}}}"#;
    let length = body.len();
    format!(
        "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nUser-Agent: bench\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Opens a connection, and reads the answer to `request`.
fn open_connection(edge: SocketAddr, request: Option<&str>) -> TcpStream {
    let mut stream = TcpStream::connect(edge).expect("the edge listens");
    if let Some(request) = request {
        stream.write_all(request.as_bytes()).expect("the edge reads");
        let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
        while !seen.ends_with(b"{}") {
            let read = stream.read(&mut buffer).expect("the connection is open");
            assert!(read > 0, "the connection has ended: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..read]);
        }
    }
    stream
}

/// Opens a stream and reads its first event.
fn open_stream(edge: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(edge).expect("the edge listens");
    stream
        .write_all(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        .expect("the edge reads");
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(5).any(|window| window == b"data:") {
        let read = stream.read(&mut buffer).expect("the stream is open");
        assert!(read > 0, "the stream has ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    stream
}

/// Starts a server that answers a GET with an event stream of one event, and then sends nothing more. It answers anything else
/// with JSON, and closes the connection.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the listener is bound");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut seen = Vec::new();
            let mut buffer = [0; 1024];
            while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
                let read = stream.read(&mut buffer).expect("a request");
                seen.extend_from_slice(&buffer[..read]);
            }
            if !seen.starts_with(b"GET") {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
                write!(stream, "{head}Content-Length: 2\r\n\r\n{{}}").expect("the edge reads");
                continue;
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            write!(stream, "{head}9\r\ndata: x\n\n\r\n").expect("the edge reads");
            open.push(stream);
        }
    });
    address
}

struct Edge {
    child: Child,
    address: SocketAddr,
}

impl Edge {
    fn start(config: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-edge"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the edge starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut address = None;
        for line in &mut lines {
            let line = line.expect("UTF-8");
            if let Some((_, rest)) = line.split_once("\"listening on ") {
                address = rest.split('"').next().and_then(|address| address.parse().ok());
            }
            if line.contains("admin listener on ") {
                break;
            }
        }
        // The rest of the edge's output is read and dropped.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("the edge listens") }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the edge is running");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux reports the resident memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}
