//! How many instructions the edge executes in user space for one request, with all features on: JWT through the token
//! cache, rules for tools, sealed session ids, metrics for each tool, access log. It prints figures and does not
//! measure time.
//!
//! The edge runs with one worker thread under callgrind, which counts the instructions of all threads. A first run
//! sends the warm-up requests of all kinds. Then there is one run for each kind: it sends the same warm-up and then
//! 2,000 requests of this kind (500 of the largest kind). The figure is the difference between the totals of the two
//! runs, divided by the number of these requests. So start, warm-up and end do not count, because they are in both
//! totals. The client sends one request at a time over one connection, so no request waits for another or opens a
//! connection. All requests of a kind have the same head, except in the kind whose heads all differ.
//!
//! Runs of the same binary differ a little, because of the seeds of hash maps and because the log thread takes a
//! different number of lines at a time. Six runs of an early version on a busy machine with two processors: 127,877 to
//! 128,120 instructions for a call with JSON answer, 133,175 to 133,523 with an event, 719,852 to 720,432 for the list,
//! 144,154 to 144,546 on the opaque route. So a change of 1 % is visible.
//!
//! Valgrind emulates a processor that is not the machine's (it has no AVX-512), and the kernel is not counted. So the
//! figures can be used to compare two edges, but not to compute times. `MCP_EDGE_BIN` names a binary to use instead of
//! the bench's own, such as one of `make build`.

#![allow(clippy::print_stdout, reason = "the bench prints its figures")]

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

/// How many warm-up requests of each kind every run sends.
const WARM_UP: usize = 100;
/// How long the start may take. Callgrind first reads the debug data of the binary.
const START_TIME: Duration = Duration::from_secs(60);
/// How long the requests of a run may take. The edge checks its files every 30 s. In a longer run, this work would be
/// counted, too.
const LOAD_TIME: Duration = Duration::from_secs(25);
/// How long the edge may take to end after SIGTERM.
const END_TIME: Duration = Duration::from_secs(30);
/// How long the whole bench may take.
const WHOLE_TIME: Duration = Duration::from_secs(600);

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_stock_aggregates","arguments":{"symbol":"AAPL","from":"2026-01-01","to":"2026-02-01","span":"day"}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"instructions","version":"1"}}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"AAPL 187.42 USD, day +0.8 %, volume 51.2M, as of 2026-02-01T21:00:00Z, delayed by 15 min"}],"isError":false}}"#;

type Failure = Box<dyn std::error::Error>;

/// One kind of request.
struct Kind {
    name: &'static str,
    path: &'static str,
    body: &'static str,
    /// Text that the answer must contain, which shows that it came from the upstream.
    wanted: &'static str,
    /// How many requests are counted. They are so many that differences between two starts do not matter.
    counted: usize,
    /// Whether the heads of all requests differ, as they do for clients with tracing.
    differs: bool,
}

const CALL_OF_A_TOOL: Kind = Kind {
    name: "tools/call, JSON answer",
    path: "/one/mcp",
    body: CALL,
    wanted: ANSWER,
    counted: 2_000,
    differs: false,
};

const KINDS: [Kind; 5] = [
    CALL_OF_A_TOOL,
    Kind { name: "tools/call, JSON answer, no head twice", differs: true, ..CALL_OF_A_TOOL },
    Kind { name: "tools/call, answer as one event", path: "/one/events", ..CALL_OF_A_TOOL },
    Kind { name: "tools/list of 20, 13 are shown", body: LIST, wanted: "get_stock_11", counted: 500, ..CALL_OF_A_TOOL },
    Kind { name: "opaque route", path: "/opaque/mcp", ..CALL_OF_A_TOOL },
];
/// The name of tools that are in the upstream's list, but that the policy removes from it.
const HIDDEN: &str = "train_model";

fn main() -> ExitCode {
    // `cargo test --benches` runs every bench with `--test`. This one has nothing to test. An argument without a hyphen
    // is a filter, as in criterion.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| filter.is_none_or(|word| kind.name.contains(word))).collect();
    if kinds.is_empty() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // When the bench ends early, the edge is dropped, and so it is killed.
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = measure(&kinds) => outcome,
            () = sleep(WHOLE_TIME) => Err(format!("the bench has not ended after {} s", WHOLE_TIME.as_secs()).into()),
            _ = terminate.recv() => Err("the bench was ended by SIGTERM".into()),
            _ = tokio::signal::ctrl_c() => Err("the bench was ended by SIGINT".into()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("benches/instructions: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(kinds: &[&Kind]) -> Result<(), Failure> {
    let binary = std::env::var_os("MCP_EDGE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_mcp-edge").into(), PathBuf::from);
    if !binary.is_file() {
        return Err(format!("{} is not a file: set MCP_EDGE_BIN to an mcp-edge binary", binary.display()).into());
    }
    let upstream = TcpListener::bind("127.0.0.1:0").await?;
    let bench = Bench { binary, upstream: upstream.local_addr()?, authorization: format!("Bearer {}", token()) };
    tokio::spawn(answer_all(upstream));
    let before = bench.instructions(None).await?;
    for kind in kinds {
        let after = bench.instructions(Some(kind)).await?;
        let each = after.saturating_sub(before) / kind.counted as u64;
        println!("{}: {} instructions", kind.name, with_commas(each));
    }
    Ok(())
}

struct Bench {
    binary: PathBuf,
    upstream: SocketAddr,
    authorization: String,
}

impl Bench {
    /// The number of instructions of an edge that serves the warm-up requests, and then the counted requests of `kind`.
    async fn instructions(&self, kind: Option<&Kind>) -> Result<u64, Failure> {
        let edge = Edge::start(&self.binary, self.upstream).await?;
        let loaded = timeout(LOAD_TIME, self.send_all(edge.address, kind)).await;
        let loaded = loaded.unwrap_or_else(|_| {
            let text = "they took longer than {} s, so the figures would vary: make sure that nothing else keeps the machine busy";
            Err(text.replace("{}", &LOAD_TIME.as_secs().to_string()).into())
        });
        if let Err(failure) = loaded {
            return Err(format!("the requests: {failure}\n{}", edge.log()).into());
        }
        edge.end().await
    }

    /// Sends the warm-up requests and then the counted requests of `kind`.
    async fn send_all(&self, edge: SocketAddr, kind: Option<&Kind>) -> Result<(), Failure> {
        let mut client = Client { stream: TcpStream::connect(edge).await?, seen: Vec::new() };
        client.stream.set_nodelay(true)?;
        client.exchange(&self.request("/one/mcp", INITIALIZE, "")).await?;
        let session = client.field("mcp-session-id").ok_or("the answer to `initialize` has no `Mcp-Session-Id`")?;
        for (kind, count) in KINDS.iter().map(|kind| (kind, WARM_UP)).chain(kind.map(|kind| (kind, kind.counted))) {
            for number in 0..count {
                let trace = if kind.differs {
                    format!("traceparent: 00-{number:032x}-{number:016x}-01\r\n")
                } else {
                    String::new()
                };
                let request = self.request(kind.path, kind.body, &format!("Mcp-Session-Id: {session}\r\n{trace}"));
                client.exchange(&request).await?;
                let text = client.text();
                if !text.starts_with("HTTP/1.1 200 ") || !text.contains(kind.wanted) || text.contains(HIDDEN) {
                    return Err(format!("{} was answered with\n{text}", kind.name).into());
                }
            }
        }
        Ok(())
    }

    /// A request as an MCP client sends it, with the header fields `more` in addition.
    fn request(&self, path: &str, body: &str, more: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
             User-Agent: claude-code/2.1.0\r\nAuthorization: {}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        )
        .into_bytes()
    }
}

/// A client with one connection to the edge, and the last answer on it.
struct Client {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Client {
    async fn exchange(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        self.seen.clear();
        while !is_whole(&self.seen) {
            if self.stream.read_buf(&mut self.seen).await? == 0 {
                return Err(format!("the edge has closed the connection after {:?}", self.text()).into());
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn field(&self, name: &str) -> Option<String> {
        let (head, _) = split(&self.seen)?;
        field(head, name).map(str::to_owned)
    }
}

/// The head of an HTTP message, and the part of its body that has arrived.
fn split(message: &[u8]) -> Option<(&str, &[u8])> {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&message[..end]).ok()?, &message[end + 4..]))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// True when `message` is a complete HTTP message. The next message is only sent after the answer to this one.
fn is_whole(message: &[u8]) -> bool {
    let Some((head, body)) = split(message) else { return false };
    match field(head, "content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => field(head, "transfer-encoding").is_none() || body.ends_with(b"0\r\n\r\n"),
    }
}

/// Answers every connection as an MCP server.
async fn answer_all(listener: TcpListener) {
    let json = response("application/json", ANSWER);
    let opened = json.replacen("\r\n", "\r\nMcp-Session-Id: 0b9f3c1e-3b1c-4f3a-8f0e-6d1f0c5a7b11\r\n", 1);
    let event = format!("event: message\ndata: {ANSWER}\n\n");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let event = format!("{head}{:x}\r\n{event}\r\n0\r\n\r\n", event.len());
    let list = response("application/json", &list());
    let answers: &[String; 4] = Box::leak(Box::new([json, opened, event, list]));
    while let Ok((stream, _)) = listener.accept().await {
        // If a connection fails, the answers of the edge show it.
        tokio::spawn(async move { answer(stream, answers).await.ok() });
    }
}

async fn answer(mut stream: TcpStream, [json, opened, event, list]: &[String; 4]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut seen = Vec::new();
    loop {
        seen.clear();
        while !is_whole(&seen) {
            if stream.read_buf(&mut seen).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&seen);
        let answer = if text.contains(r#""method":"initialize""#) {
            opened
        } else if text.contains(r#""method":"tools/list""#) {
            list
        } else if text.lines().next().is_some_and(|line| line.contains("/events ")) {
            event
        } else {
            json
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn response(media_type: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// 20 tools: 12 that every caller may use, one that needs the scope `one:trade`, three that need the scope `one:train`,
/// and four that no rule matches.
fn list() -> String {
    let names = (0..12).map(|index| format!("get_stock_{index}")).chain(["place_order".to_owned()]);
    let hidden = (0..3).map(|index| format!("{HIDDEN}_{index}")).chain((0..4).map(|index| format!("delete_{index}")));
    let tools = names.chain(hidden).map(|name| {
        format!(
            r#"{{"name":"{name}","description":"What the tool {name} does, in a sentence.","inputSchema":{{"type":"object","properties":{{"symbol":{{"type":"string"}}}},"required":["symbol"]}}}}"#
        )
    });
    let tools: Vec<String> = tools.collect();
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#, tools.join(","))
}

/// An access token of about 400 bytes.
fn token() -> String {
    let claims = r#"{"iss":"https://idp.example","aud":"mcp-edge","sub":"alice","iat":1760000000,"exp":4102444800,"jti":"00000000000000000000000000000000","client_id":"claude-code","email":"alice.liddell@corp.example","scope":"one:read one:trade"}"#;
    let message = [r#"{"alg":"HS256","typ":"at+jwt"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}

/// An edge under callgrind. It is killed when this is dropped.
struct Edge {
    child: Child,
    address: SocketAddr,
    /// The folder for the output of the edge and of callgrind. It is not the folder of the configuration, because the
    /// edge watches that one.
    output: TempDir,
    _config: TempDir,
}

impl Edge {
    async fn start(binary: &Path, upstream: SocketAddr) -> Result<Self, Failure> {
        let (output, config) = (tempfile::tempdir()?, tempfile::tempdir()?);
        std::fs::write(config.path().join("secret"), SECRET)?;
        std::fs::write(config.path().join("session.key"), "6".repeat(64))?;
        let path = config.path().join("edge.yaml");
        std::fs::write(&path, yaml(upstream))?;
        let log = File::create(output.path().join("log"))?;
        let child = Command::new("valgrind")
            .args(["--tool=callgrind", "--read-inline-info=no"])
            .arg(format!("--callgrind-out-file={}", output.path().join("counts").display()))
            .arg(binary)
            .args(["run", "--config"])
            .arg(path)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("valgrind cannot be run ({error}): install it, with `scripts/setup bench` or `sudo apt-get install valgrind` on Debian"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut edge = Self { child, address, output, _config: config };
        edge.address = match timeout(START_TIME, edge.ready()).await {
            Ok(address) => address.ok_or_else(|| format!("the edge has ended while it started:\n{}", edge.log()))?,
            Err(_) => {
                return Err(
                    format!("the edge has not started after {} s:\n{}", START_TIME.as_secs(), edge.log()).into()
                );
            }
        };
        Ok(edge)
    }

    /// Waits until the edge listens, and returns its address. Returns `None` when the edge has ended.
    async fn ready(&mut self) -> Option<SocketAddr> {
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let log = self.log();
            if log.contains("admin listener on ") {
                let (_, address) = log.split_once("\"listening on ")?;
                return address.split('"').next()?.parse().ok();
            }
            sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// What the edge and callgrind have written so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.output.path().join("log")).unwrap_or_default()
    }

    /// Ends the edge, and returns how many instructions it has executed.
    async fn end(mut self) -> Result<u64, Failure> {
        let id = self.child.id().ok_or_else(|| format!("the edge has ended by itself:\n{}", self.log()))?;
        // `kill` sends SIGTERM. `Child::kill` would send SIGKILL, and then callgrind would write nothing.
        if !Command::new("kill").args(["-TERM", &id.to_string()]).status().await?.success() {
            return Err("`kill` does not end the edge".into());
        }
        let Ok(status) = timeout(END_TIME, self.child.wait()).await else {
            return Err(
                format!("the edge has not ended {} s after SIGTERM:\n{}", END_TIME.as_secs(), self.log()).into()
            );
        };
        if !status?.success() {
            return Err(format!("the edge has failed:\n{}", self.log()).into());
        }
        let counts = std::fs::read_to_string(self.output.path().join("counts"))?;
        let total = counts.lines().find_map(|line| line.strip_prefix("summary: "));
        let total = total.and_then(|total| total.trim().parse().ok());
        total.ok_or_else(|| "callgrind has written no `summary`: use valgrind 3.19, which does".into())
    }
}

/// A configuration with all features on.
fn yaml(upstream: SocketAddr) -> String {
    format!(
        "server: {{threads: 1, grace_period: 5s}}
listeners: [{{address: '127.0.0.1:0', hosts: [127.0.0.1]}}]
admin: {{address: '127.0.0.1:0'}}
sessions: {{keys: [{{file: session.key}}]}}
auth: {{providers: {{corp: {{jwt: {{issuer: 'https://idp.example', audiences: [mcp-edge], algorithms: [HS256],
        secret: {{file: secret}}}}}}}}}}
upstreams: {{one: {{endpoints: [{{address: '{upstream}'}}], balance: least_request, timeouts: {{keepalive: 60s}}}}}}
routes:
  - path: /one/
    upstream: one
    protocol: mcp
    auth: {{providers: [corp], scopes: ['one:read']}}
    tools: [{{match: 'train_*', scopes: ['one:train']}}, {{match: 'get_*'}}, {{match: place_order, scopes: ['one:trade']}}]
  - {{path: /opaque/, upstream: one, auth: {{providers: [corp], scopes: ['one:read']}}}}\n"
    )
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}
