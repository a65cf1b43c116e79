//! Start, drain and log lines of the real process.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{EdgeProcess, Origin, TestEdge, eventually, exchange, ok, read_reply, request};

fn yaml(origin: &Origin, more: &str) -> String {
    format!(
        "listeners: [{{address: '127.0.0.1:0'}}]\nadmin: {{address: '127.0.0.1:0'}}\n{more}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes: [{{path: /a/, upstream: a, auth: none}}]\n",
        origin.address
    )
}

fn write(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("edge.yaml");
    std::fs::write(&path, text).expect("the folder is writable");
    path
}

#[test]
fn a_broken_configuration_exits_2_and_binds_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = write(
        folder.path(),
        "listeners: [{address: '127.0.0.1:0'}]\nroutes: [{path: /, upstream: gone, auth: none}]\n",
    );
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-edge"))
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("edge.yaml:2:") && said.contains("there is no upstream `gone`"), "{said}");
    assert!(output.stdout.is_empty(), "the process ends before it listens");
}

#[tokio::test]
async fn a_port_in_use_exits_1_and_is_named() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = yaml(&origin, "").replacen("127.0.0.1:0", &origin.address.to_string(), 1);
    let path = write(folder.path(), &text);
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-edge"))
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("{} cannot be bound", origin.address)));
}

#[tokio::test]
async fn threads_that_cannot_be_started_are_a_clear_error() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = write(folder.path(), &yaml(&origin, "server: {threads: 100}"));
    let limited = format!("ulimit -n 64; exec {} run --config {}", env!("CARGO_BIN_EXE_mcp-edge"), path.display());
    let output = Command::new("sh").args(["-c", &limited]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("100 threads cannot be started: ") && said.contains("lower `server.threads`"), "{said}");
}

/// Row 36: an idle edge ends at once.
#[tokio::test]
async fn sigterm_ends_an_idle_process_at_once() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let edge = EdgeProcess::start(&write(folder.path(), &yaml(&origin, ""))).await;
    let mut idle = TcpStream::connect(edge.address).await.expect("the edge listens");
    idle.write_all(request("GET", "/a/", &[], "").as_bytes()).await.expect("the edge reads");
    assert_eq!(read_reply(&mut idle).await.status, 200);
    let _silent = TcpStream::connect(edge.address).await.expect("the edge listens");
    let begun = Instant::now();
    edge.signal("TERM");
    assert_eq!(edge.wait().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "the grace period is 30 s: {:?}", begun.elapsed());
}

/// Row 36: readiness fails, no connection is accepted, requests in flight complete, and then the edge ends.
#[tokio::test]
async fn draining_completes_requests_in_flight() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            tokio::time::sleep(Duration::from_millis(700)).await;
            stream.write_all(&ok("done")).await.expect("the edge is there");
        }
    })
    .await;
    let edge = TestEdge::start(&yaml(&origin, "")).await;
    let (address, admin) = (edge.address, edge.admin);
    let mut stream = TcpStream::connect(address).await.expect("the edge listens");
    stream.write_all(request("POST", "/a/", &[], "x").as_bytes()).await.expect("the edge reads");
    eventually("the request is in flight", async || origin.count() == 1).await;
    let drained = edge.drain_in_background(Duration::from_secs(10));
    eventually("readiness fails", async || {
        exchange(admin, request("GET", "/readyz", &[("Host", "localhost")], "")).await.status == 503
    })
    .await;
    eventually("no connection is accepted", async || TcpStream::connect(address).await.is_err()).await;
    let reply = read_reply(&mut stream).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.complete), (200, "done", true));
    tokio::time::timeout(Duration::from_secs(5), drained)
        .await
        .expect("the edge ends when it is idle")
        .expect("without a panic");
}

/// Row 36: a stream ends at the end of the grace period at the latest.
#[tokio::test]
async fn a_stream_ends_with_the_grace_period() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        drop(recorder.read(&mut stream).await);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: x\n\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("the edge is there");
        drop(recorder.read(&mut stream).await);
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let edge = EdgeProcess::start(&write(folder.path(), &yaml(&origin, "server: {grace_period: 1s}"))).await;
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    stream.write_all(request("GET", "/a/", &[], "").as_bytes()).await.expect("the edge reads");
    let mut buffer = [0; 1024];
    assert!(stream.read(&mut buffer).await.expect("a head") > 0);
    let begun = Instant::now();
    edge.signal("TERM");
    assert_eq!(edge.wait().await.code(), Some(0));
    assert!((Duration::from_millis(900)..Duration::from_secs(6)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    eventually("the origin sees the connection close", async || origin.closed() == 1).await;
}

/// Rows 68 and 70: each request leaves one log line. No line contains the query or a credential.
#[tokio::test]
async fn every_request_leaves_one_line_without_secrets() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    for format in ["json", "text"] {
        let mut edge =
            EdgeProcess::start(&write(folder.path(), &yaml(&origin, &format!("log: {{format: {format}}}")))).await;
        let reply = exchange(edge.address, request("POST", "/a/x%0ay?token=sesame", &[], "hello")).await;
        assert_eq!(reply.status, 400, "an encoded line break is not accepted in a path");
        let headers = [("Authorization", "Bearer open-sesame")];
        let reply = exchange(edge.address, request("POST", "/a/x?token=sesame", &headers, "hello")).await;
        let id = reply.header("x-request-id").expect("an id").to_owned();
        let line = loop {
            let line = edge.line().await.expect("the request has a log line");
            assert!(!line.contains("sesame"), "{line}");
            if line.contains(&id) {
                break line;
            }
        };
        if format == "json" {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((line["status"].as_u64(), line["path"].as_str()), (Some(200), Some("/a/x")));
            assert_eq!((line["route"].as_str(), line["method"].as_str()), (Some("/a/"), Some("POST")));
            assert_eq!(line["endpoint"].as_str(), Some(origin.address.to_string().as_str()));
            assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(5), Some(2)));
            assert!(line["duration_ms"].as_f64().is_some_and(|duration| duration > 0.0));
        } else {
            assert!(
                line.contains("status=200") && line.contains("path=/a/x ") && line.contains("route=/a/ "),
                "{line}"
            );
        }
    }
}

/// Row 72: requests are served although nobody reads standard output.
#[tokio::test]
async fn a_blocked_log_never_blocks_a_request() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The output of the edge is a pipe that stays open. From here on, the test does not read it.
    let edge = EdgeProcess::start(&write(folder.path(), &yaml(&origin, ""))).await;
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    let text = request("GET", "/a/", &[], "");
    // More lines than the pipe and the queue hold.
    for _ in 0..12_000 {
        stream.write_all(text.as_bytes()).await.expect("the connection is open");
        assert_eq!(read_reply(&mut stream).await.status, 200);
    }
    let metrics = exchange(edge.admin, request("GET", "/metrics", &[("Host", "localhost")], "")).await.body;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("mcp_edge_log_lines_dropped_total "));
    assert!(
        dropped.expect("the metric exists").parse::<f64>().expect("a number") > 0.0,
        "the edge counts the lines that it dropped"
    );
}

/// Row 36 for HTTP/2: the edge sends GOAWAY, and streams in flight complete.
#[tokio::test]
async fn draining_an_http_2_connection_completes_its_streams() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        while recorder.read(&mut stream).await.is_some() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.write_all(&ok("done")).await.expect("the edge is there");
        }
    })
    .await;
    let edge = TestEdge::start(&yaml(&origin, "")).await;
    let stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("the edge speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let message = || http::Request::get("http://edge.example/a/").body(()).expect("a request");
    let (response, _) = client.send_request(message(), true).expect("the connection is open");
    eventually("the request is in flight", async || origin.count() == 1).await;
    let drained = edge.drain_in_background(Duration::from_secs(10));
    let mut body = response.await.expect("the response comes").into_body();
    assert_eq!(body.data().await.expect("a body").expect("without a reset").as_ref(), b"done");
    drop(body);
    eventually("no further stream is opened", async || match client.clone().ready().await {
        Ok(mut ready) => match ready.send_request(message(), true) {
            Ok((response, _)) => response.await.is_err(),
            Err(_) => true,
        },
        Err(_) => true,
    })
    .await;
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(5), async { (connection.await, drained.await) }).await;
    let (_connection, drained) = ended.expect("the edge ends when it is idle");
    drained.expect("without a panic");
}

/// Case F2: few descriptors. There is room for health checks and for the streams that are open, and new connections take the place of
/// idle ones.
#[tokio::test]
async fn with_few_descriptors_idle_connections_make_room_and_nothing_else_suffers() {
    use crate::http::streaming::wire::{Wire, chunk, held, next};
    let (streaming, mut accepted) = held().await;
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let yaml = format!(
        "server: {{threads: 2}}
listeners: [{{address: '127.0.0.1:0'}}]
admin: {{address: '127.0.0.1:0'}}
upstreams:
  a: {{endpoints: [{{address: '{}'}}]}}
  b: {{endpoints: [{{address: '{}'}}]}}
routes: [{{path: /, upstream: a, auth: none}}, {{path: /events, upstream: b, auth: none}}]
",
        origin.address, streaming.address
    );
    let edge = EdgeProcess::start_limited(&write(folder.path(), &yaml), 256).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut client = Wire::new(tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens"));
        client.send(&request("GET", "/events", &[("Accept", "text/event-stream")], "")).await;
        let mut upstream = next(&mut accepted).await;
        upstream.send(crate::http::streaming::EVENTS).await;
        client.until("\r\n\r\n").await;
        streams.push((client, upstream));
    }
    let mut kept = Vec::new();
    for number in 0..260 {
        let mut client = Wire::new(tokio::net::TcpStream::connect(edge.address).await.expect("the edge listens"));
        client.send(&request("GET", &format!("/{number}"), &[], "")).await;
        assert_eq!(crate::harness::read_reply(&mut client.stream).await.status, 200, "{number}");
        kept.push(client);
        if number % 50 == 0 {
            let livez = exchange(edge.admin, request("GET", "/livez", &[("Host", "localhost")], "")).await;
            assert_eq!(livez.status, 200);
        }
    }
    for (client, upstream) in &mut streams {
        upstream.send(&chunk("data: still here\n\n")).await;
        client.until("data: still here\n\n").await;
    }
    // The last one is still open.
    let last = kept.last_mut().expect("there are some");
    last.send(&request("GET", "/again", &[], "")).await;
    assert_eq!(crate::harness::read_reply(&mut last.stream).await.status, 200);
}
