//! What must hold for every request, whatever way it comes: on an MCP route and on another one, over HTTP/1, TLS and HTTP/2, with
//! a small, a large and a very large head.

use std::sync::Arc;

use http::{HeaderMap, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::http2::{self, Http2};
use crate::harness::{
    Authority, Origin, PATIENCE, Recorded, Reply, TestEdge, answer, message, read_reply, reads_through_pingora,
};

/// How large the heads of requests and answers are, in bytes. The first is usual, the second is larger than the buffers of most
/// servers, and the third is near the limit.
const HEADS: [usize; 3] = [300, 17 << 10, 60 << 10];
const PATHS: [&str; 2] = ["/mcp", "/opaque/"];
const JSON: &str = "application/json";

fn ping() -> String {
    message("1", "ping", "{}")
}

/// Fields with `size` bytes.
fn padding(size: usize) -> Vec<(String, String)> {
    (0..size.div_ceil(4_000)).map(|number| (format!("x-pad-{number}"), "p".repeat(size.min(4_000)))).collect()
}

/// `origin` behind two routes, and two listeners, of which the second has TLS.
struct Setting {
    edge: TestEdge,
    authority: Authority,
}

impl Setting {
    async fn new(origin: &Origin) -> Self {
        let authority = Authority::new("ca");
        let identity = authority.issue("edge.example");
        let yaml = format!(
            "listeners:
  - {{address: '127.0.0.1:0', hosts: [edge.example]}}
  - {{address: '127.0.0.1:0', hosts: [edge.example], tls: {{certificate: edge.pem, key: edge.key}}}}
limits: {{header_bytes: 100KiB, header_count: 200}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mcp, upstream: a, protocol: mcp, auth: none, host: preserve}}
  - {{path: /opaque/, upstream: a, auth: none}}
",
            origin.address
        );
        let files = [("edge.pem", identity.pem()), ("edge.key", identity.key_pem())];
        let edge = TestEdge::start_with(&yaml, &files.each_ref().map(|(name, text)| (*name, text.as_str()))).await;
        Self { edge, authority }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.edge.address).await.expect("the edge listens")
    }

    async fn tls(&self, protocol: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let builder = ClientConfig::builder().with_root_certificates(self.authority.roots());
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let stream = TcpStream::connect(self.edge.second_address()).await.expect("the edge listens");
        let name = ServerName::try_from("edge.example").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
    }

    /// Sends `text` over HTTP/1 and over TLS. Returns what comes back, and whether the connection ended after it.
    async fn both(&self, text: &str) -> [(Reply, bool); 2] {
        [ask(&mut self.tcp().await, text).await, ask(&mut self.tls("http/1.1").await, text).await]
    }
}

/// Sends `text`, reads an answer and looks whether the connection ends.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> (Reply, bool) {
    // The edge may refuse the request before it has come whole.
    let _ = stream.write_all(text.as_bytes()).await;
    let reply = read_reply(stream).await;
    let is_last = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    if is_last {
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.expect("the connection ends");
        assert!(matches!(end, Ok(0)), "{end:?}: {text:.200}");
    }
    (reply, is_last)
}

/// A request head. `framing`: its last fields, with the line ends.
fn head(line: &str, size: usize, framing: &str) -> String {
    let mut text =
        format!("{line}\r\nHost: edge.example\r\nContent-Type: {JSON}\r\nAccept: {JSON}, text/event-stream\r\n");
    for (name, value) in padding(size) {
        text += &format!("{name}: {value}\r\n");
    }
    text + framing + "\r\n"
}

fn assert_padded(seen: &Recorded, size: usize) {
    for (name, value) in padding(size) {
        assert_eq!(seen.headers(&name), [value.as_str()], "{name} of {size}");
    }
}

/// Cases C2 and C3, and rows 43 to 50 of the fault matrix: whatever two parsers could read in two ways is refused. The connection
/// ends, and the request behind it is not served.
#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::saying("{}").await;
    let setting = Setting::new(&origin).await;
    let (ping, mut refused) = (ping(), 0.0);
    let chunk = format!("{:x}\r\n{ping}\r\n", ping.len());
    let chunks = |text: &str| ("Transfer-Encoding: chunked\r\n".to_owned(), text.to_owned());
    let length = ping.len();
    let cases = [
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), format!("{chunk}0\r\n\r\n")),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), format!("{chunk}0\r\n\r\n")),
        (format!("Content-Length: {length}\r\nContent-Length: 3\r\n"), ping.clone()),
        (format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), ping.clone()),
        (format!("Content-Length: {length}, {length}\r\n"), ping.clone()),
        (format!("Content-Length: +{length}\r\n"), ping.clone()),
        (format!("Content-Length: 0x{length:x}\r\n"), ping.clone()),
        (format!("Content-Length : {length}\r\n"), ping.clone()),
        (format!("Content-Length: {length}\r\n\tx: y\r\n"), ping.clone()),
        (format!("X: a\nContent-Length: {length}\r\n"), ping.clone()),
        (format!("X: a\rContent-Length: {length}\r\n"), ping.clone()),
        (format!("X: \0\r\nContent-Length: {length}\r\n"), ping.clone()),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(), format!("{chunk}0\r\n\r\n")),
        ("Transfer-Encoding: gzip, chunked\r\n".to_owned(), format!("{chunk}0\r\n\r\n")),
        ("Transfer-Encoding: xchunked\r\n".to_owned(), format!("{chunk}0\r\n\r\n")),
        ("Transfer-Encoding: identity\r\n".to_owned(), ping.clone()),
        chunks(&format!("{:x};a=\n\r\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!("{:x};a=\0\r\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!("{:x}\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!(" {:x}\r\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!("0x{:x}\r\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!("{:x} x\r\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!("{:x}\x0c;a\r\n{ping}\r\n0\r\n\r\n", ping.len())),
        chunks(&format!("\r\n{ping}\r\n0\r\n\r\n")),
        chunks(&format!("-1\r\n{ping}\r\n0\r\n\r\n")),
        chunks(&format!("fffffffffffffffff\r\n{ping}\r\n0\r\n\r\n")),
        chunks(&format!("{:x}\r\n{ping}xx0\r\n\r\n", ping.len())),
        chunks(&format!("{chunk}0\r\nno colon\r\n\r\n")),
        chunks(&format!("{chunk}0\r\nx: a\r\n folded\r\n\r\n")),
        chunks(&format!("{chunk}0\r\nx: \0\r\n\r\n")),
        chunks(&format!("{chunk}0\r\nx : a\r\n\r\n")),
        chunks(&format!("{chunk}0\r\nx: a\n\r\n")),
    ];
    for path in PATHS {
        for size in HEADS {
            let second = head(&format!("GET {path} HTTP/1.1"), 0, "X-Smuggled: 1\r\n");
            for (fields, body) in &cases {
                let text = head(&format!("POST {path} HTTP/1.1"), size, fields) + body + &second;
                for (reply, is_last) in setting.both(&text).await {
                    assert_eq!((reply.status, is_last), (400, true), "{path} {size} {fields:?} {body:?}: {reply:?}");
                    assert!(reply.json().is_object(), "{reply:?}");
                    refused += 1.0;
                }
            }
        }
    }
    let smuggled = origin.requests().iter().filter(|seen| seen.header("x-smuggled").is_some()).count();
    assert_eq!(smuggled, 0);
    assert_eq!(setting.edge.metric(r#"mcp_edge_rejections_total{reason="bad_request"}"#).await, refused);
}

/// Case C4: a request line that is not one. The client gets an answer, and the connection ends.
#[tokio::test]
async fn a_request_line_that_is_not_one_is_refused() {
    if reads_through_pingora() {
        return;
    }
    let origin = Origin::saying("{}").await;
    let setting = Setting::new(&origin).await;
    for path in PATHS {
        for size in HEADS {
            for (line, status) in [
                (format!("GET {path} x HTTP/1.1"), 400),
                (format!("GET  {path} HTTP/1.1"), 400),
                (format!("GET {path}#frag HTTP/1.1"), 400),
                (format!("GET {path} HTTP/1.1 "), 400),
                (format!("GET {path} http/1.1"), 400),
                (format!("GET {path} HTTP/2.0"), 400),
                (format!("GET {path}"), 400),
                (format!("G@T {path} HTTP/1.1"), 400),
                (format!("GET{} {path} HTTP/1.1", "T".repeat(70 << 10)), 400),
                (format!("{} {path} HTTP/1.1", "M".repeat(33)), 400),
                (format!("{} {path} HTTP/1.1", "M".repeat(3_000)), 400),
                ("CONNECT edge.example:443 HTTP/1.1".to_owned(), 405),
                (format!("TRACE {path} HTTP/1.1"), 405),
                (format!("GET {path}/{} HTTP/1.1", "x".repeat(99_000)), 414),
                (format!("GET ftp://edge.example{path} HTTP/1.1"), 400),
                (format!("GET http://user@edge.example{path} HTTP/1.1"), 400),
            ] {
                for (reply, is_last) in setting.both(&head(&line, size, "")).await {
                    let expected = if reply.status == 431 && line.len() + size > 100 << 10 { 431 } else { status };
                    assert_eq!((reply.status, is_last), (expected, true), "{line:.100} {size}: {reply:?}");
                    assert!(reply.json().is_object(), "{reply:?}");
                }
            }
        }
    }
    for path in PATHS {
        // An absolute target does not stand for the `Host` field (RFC 9112 section 3.2).
        for (reply, is_last) in setting.both(&format!("GET http://edge.example{path} HTTP/1.1\r\n\r\n")).await {
            assert_eq!((reply.status, is_last), (400, true), "{path}: {reply:?}");
        }
        let mut http2 = Http2::connect(setting.edge.address).await;
        for length in [33, 3_000] {
            let method = "M".repeat(length);
            let request = Request::builder().method(&*method).uri(format!("http://edge.example{path}")).body(());
            let (response, _) = http2.send(request.expect("a request"), true).await;
            assert_eq!(http2::head(response).await.status(), 400, "{path} {length}");
        }
    }
    assert_eq!(origin.count(), 0);
}

/// Case C5 (RFC 9112 section 3.2.2), and rows 43 to 50 of the fault matrix the other way round: what only looks odd is served.
/// Extensions of chunks and trailers stay at the edge.
#[tokio::test]
async fn requests_pass_whole_with_heads_of_every_size() {
    let origin =
        Origin::answering(|seen| answer("200 OK", JSON, &format!("{:?}", String::from_utf8_lossy(&seen.body)))).await;
    let setting = Setting::new(&origin).await;
    let ping = ping();
    let (one, two) = ping.split_at(7);
    let plain = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let odd = format!(
        "{:X};a;b=\"c;d\"\r\n{one}\r\n000{:x} ;x=y\r\n{two}\r\n0;z\r\nX-Trailer: 1\r\nHost: other.example\r\n\r\n",
        one.len(),
        two.len()
    );
    for path in PATHS {
        for size in HEADS {
            let chunked = "Transfer-Encoding: chunked\r\n";
            let lines = [format!("POST {path} HTTP/1.1"), format!("POST http://edge.example{path} HTTP/1.1")];
            for (framing, body) in [
                (format!("Content-Length: {}\r\n", ping.len()), &ping),
                (chunked.to_owned(), &plain),
                (chunked.to_owned(), &odd),
            ] {
                for line in &lines {
                    if reads_through_pingora() && (*body == odd || line.contains("//")) {
                        continue;
                    }
                    for (reply, is_last) in setting.both(&(head(line, size, &framing) + body)).await {
                        assert_eq!((reply.status, is_last), (200, false), "{line} {size} {framing}: {reply:?}");
                        let seen = origin.last();
                        assert_padded(&seen, size);
                        assert_eq!(body_of(&seen), ping, "{line} {size} {framing}");
                        assert_eq!((seen.header("x-trailer"), seen.headers("host")), (None, vec!["edge.example"]));
                    }
                }
            }
        }
    }
}

/// The body of a request, without its framing.
fn body_of(seen: &Recorded) -> String {
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    if seen.header("transfer-encoding").is_none() {
        return text;
    }
    let (mut rest, mut body) = (text.as_str(), String::new());
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk without extensions");
        if size == 0 {
            assert_eq!(more, "\r\n", "no trailers");
            break;
        }
        body += &more[..size];
        rest = &more[size + 2..];
    }
    body
}

/// A request over HTTP/2. `more`: further fields.
fn request(path: &str, size: usize, more: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://edge.example{path}"));
    request = request.header("content-type", JSON).header("accept", "application/json, text/event-stream");
    for (name, value) in padding(size) {
        request = request.header(name, value);
    }
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// Case C6 (RFC 9113 section 8.2.3), and bodies and heads of every size over HTTP/2.
#[tokio::test]
async fn requests_over_http_2_pass_whole_with_heads_of_every_size() {
    let origin = Origin::answering(|_| answer("200 OK", JSON, "{}")).await;
    let setting = Setting::new(&origin).await;
    let ping = ping();
    for (way, mut http2) in
        [("cleartext", Http2::connect(setting.edge.address).await), ("TLS", Http2::over(setting.tls("h2").await).await)]
    {
        for path in PATHS {
            for size in HEADS {
                let length = ping.len().to_string();
                for more in [&[][..], &[("content-length", length.as_str())], &[("cookie", "a=1"), ("cookie", "b=2")]] {
                    let (response, mut sending) = http2.send(request(path, size, more), false).await;
                    let (one, two) = ping.split_at(7);
                    sending.send_data(one.to_owned().into(), false).expect("the stream is open");
                    sending.send_data(two.to_owned().into(), false).expect("the stream is open");
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-trailer", "1".parse().expect("a value"));
                    sending.send_trailers(trailers).expect("the stream is open");
                    let response = http2::head(response).await;
                    assert_eq!(response.status(), 200, "{way} {path} {size} {more:?}");
                    assert_eq!(http2::text(response.into_body()).await, "{}");
                    let seen = origin.last();
                    assert_padded(&seen, size);
                    assert_eq!((body_of(&seen), seen.header("x-trailer")), (ping.clone(), None));
                    let cookies: &[&str] = if more.len() == 2 { &["a=1; b=2"] } else { &[] };
                    assert_eq!(seen.headers("cookie"), cookies);
                }
            }
        }
    }
}

/// Case C7 (RFC 9113 section 8.1.1): the length of a body and what comes of it must agree.
#[tokio::test]
async fn a_request_over_http_2_whose_length_is_wrong_is_refused() {
    let origin = Origin::answering(|_| answer("200 OK", JSON, "{}")).await;
    let setting = Setting::new(&origin).await;
    let ping = ping();
    let length = ping.len().to_string();
    let longer = (ping.len() + 1).to_string();
    for path in PATHS {
        for size in HEADS {
            for lengths in [
                &[("content-length", "0")][..],
                &[("content-length", "3")],
                &[("content-length", longer.as_str())],
                &[("content-length", length.as_str()), ("content-length", "3")],
                &[("content-length", length.as_str()), ("content-length", length.as_str())],
                &[("content-length", "x")],
            ] {
                let mut http2 = Http2::connect(setting.edge.address).await;
                let (response, mut sending) = http2.send(request(path, size, lengths), false).await;
                // The edge may have refused the request already.
                let _ = sending.send_data(ping.clone().into(), true);
                let answered = tokio::time::timeout(PATIENCE, response).await.expect("an answer in time");
                let is_refused = answered.map_or(true, |response| response.status().is_client_error());
                assert!(is_refused, "{path} {size} {lengths:?}");
            }
        }
    }
    let whole = origin.requests().iter().filter(|seen| body_of(seen).contains("jsonrpc")).count();
    assert_eq!(whole, 0, "no such request reaches the origin as a whole one");
}

/// Cases B5 and F6, and rows 1 to 10 of the fault matrix: answers pass whole in every framing, with heads of every size. What belongs
/// to the upstream's connection stays there, and the client's connection lasts.
#[tokio::test]
async fn answers_pass_whole_in_every_framing_with_heads_of_every_size() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        while let Some(seen) = recorder.read(&mut stream).await {
            let size = seen.header("x-size").and_then(|size| size.parse().ok()).expect("a size");
            let mut head = String::from("Content-Type: application/json\r\nConnection: keep-alive, X-Private\r\n");
            head += "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Private: 1\r\nUpgrade: h2c\r\n";
            for (name, value) in padding(size) {
                head += &format!("{name}: {value}\r\n");
            }
            let (text, closes) = match seen.header("x-framing").expect("a framing") {
                "length" => (format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 8\r\n\r\n{{\"id\":1}}"), false),
                "chunks" => {
                    let trailer = "Trailer: X-Late\r\nTransfer-Encoding: chunked\r\n";
                    let body = "3;x\r\n{\"i\r\n5\r\nd\":1}\r\n0\r\nX-Late: 1\r\n\r\n";
                    (format!("HTTP/1.1 200 OK\r\n{head}{trailer}\r\n{body}"), false)
                }
                "close" => (format!("HTTP/1.1 200 OK\r\n{head}\r\n{{\"id\":1}}"), true),
                "old" => (format!("HTTP/1.0 200 OK\r\n{head}\r\n{{\"id\":1}}"), true),
                "empty" => (format!("HTTP/1.1 204 No Content\r\n{head}Content-Length: 5\r\n\r\n"), false),
                other => panic!("{other}"),
            };
            if stream.write_all(text.as_bytes()).await.is_err() || closes {
                break;
            }
        }
    })
    .await;
    let setting = Setting::new(&origin).await;
    let ping = ping();
    let (mut tcp, mut tls) = (setting.tcp().await, setting.tls("http/1.1").await);
    let mut http2 = Http2::connect(setting.edge.address).await;
    let mut h2_over_tls = Http2::over(setting.tls("h2").await).await;
    for path in PATHS {
        for size in HEADS {
            for framing in ["length", "chunks", "close", "old", "empty"] {
                let what = format!("{path} {size} {framing}");
                let fields = format!("X-Size: {size}\r\nX-Framing: {framing}\r\nContent-Length: {}\r\n", ping.len());
                let text = head(&format!("POST {path} HTTP/1.1"), 0, &fields) + &ping;
                let (status, body) = if framing == "empty" { (204, "") } else { (200, "{\"id\":1}") };
                for (reply, is_last) in [ask(&mut tcp, &text).await, ask(&mut tls, &text).await] {
                    assert_eq!(
                        (reply.status, reply.body.as_str(), is_last),
                        (status, body, false),
                        "{what}: {reply:?}"
                    );
                    assert!(reply.complete, "{what}");
                    for (name, value) in padding(size) {
                        assert_eq!(reply.header(&name), Some(value.as_str()), "{what}");
                    }
                    for name in ["keep-alive", "proxy-connection", "x-private", "upgrade", "trailer", "x-late"] {
                        assert_eq!(reply.header(name), None, "{what}");
                    }
                    if framing == "empty" {
                        assert_eq!((reply.header("content-length"), reply.header("transfer-encoding")), (None, None));
                    }
                }
                for http2 in [&mut http2, &mut h2_over_tls] {
                    let size_text = size.to_string();
                    let fields = [("x-size", size_text.as_str()), ("x-framing", framing)];
                    let (response, mut sending) = http2.send(request(path, 0, &fields), false).await;
                    sending.send_data(ping.clone().into(), true).expect("the stream is open");
                    let response = http2::head(response).await;
                    assert_eq!(response.status(), status, "{what}");
                    for (name, value) in padding(size) {
                        assert_eq!(response.headers()[&name], value, "{what}");
                    }
                    for name in ["keep-alive", "proxy-connection", "x-private", "upgrade", "trailer", "connection"] {
                        assert!(!response.headers().contains_key(name), "{what}: {name}");
                    }
                    assert_eq!(http2::text(response.into_body()).await, body, "{what}");
                }
            }
        }
    }
}

/// Case C11: encoded forms that some servers read as a separator or as a parent folder.
#[tokio::test]
async fn a_path_that_some_server_reads_as_another_one_is_refused() {
    let origin = Origin::saying("{}").await;
    let setting = Setting::new(&origin).await;
    let mut http2 = Http2::connect(setting.edge.address).await;
    for path in PATHS {
        let path = path.trim_end_matches('/');
        for tail in
            ["/..%3B/x", "/..;/x", "/.%3b/x", "/%c0%ae%c0%ae/x", "/%C0%AFx", "/%e0%80%afx", "/..%23/x", "/..%20/x"]
        {
            let line = format!("GET {path}{tail} HTTP/1.1");
            for (reply, _) in setting.both(&head(&line, 0, "")).await {
                assert_eq!(reply.status, 400, "{line}");
            }
            assert_eq!(http2.get(&format!("{path}{tail}"), &[]).await.status(), 400, "{line}");
        }
    }
    assert_eq!(origin.count(), 0);
}
