//! `mcp-fleet listen`: opens many streams of `mcp-fleet events` and measures how late their events arrive.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::events::now;
use super::latency::Latencies;
use super::target::Target;
use crate::failure::Failure;

/// Listens to streams for a while.
#[derive(clap::Args)]
pub(crate) struct Listen {
    #[command(flatten)]
    target: Target,
    /// How many streams.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// For how long, once all are open.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Listen {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (address, request) = (self.target.address()?, Arc::new(self.target.request("GET", "")?));
        let mut open = Vec::new();
        for _ in 0..self.count {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&request).await?;
            let mut begin = Vec::new();
            while !contains_event(&begin) {
                if stream.read_buf(&mut begin).await? == 0 {
                    return Err(format!("a stream has ended: {}", String::from_utf8_lossy(&begin)).into());
                }
            }
            open.push(stream);
        }
        writeln!(io::stdout(), "{}", json!({"open": open.len()}))?;
        // Events that arrived while the streams were opened do not count, because they were not read at once.
        let begin = Instant::now() + Duration::from_secs(1);
        let end = begin + Duration::from_secs(self.seconds);
        let mut listeners = JoinSet::new();
        for stream in open {
            listeners.spawn(listen(stream, begin, end));
        }
        let (mut all, mut ended) = (Latencies::default(), 0);
        while let Some(heard) = listeners.join_next().await {
            let (latencies, whole) = heard?;
            all.extend(latencies);
            ended += u64::from(!whole);
        }
        let mut summary = all.summary();
        summary["ended"] = ended.into();
        writeln!(io::stdout(), "{summary}")?;
        Ok(())
    }
}

const SENT: &[u8] = b"\"sent\":";

fn contains_event(bytes: &[u8]) -> bool {
    bytes.windows(SENT.len()).any(|window| window == SENT)
}

/// The delays of a stream's events between `begin` and `end`, and whether the stream was open all the time.
async fn listen(mut stream: TcpStream, begin: Instant, end: Instant) -> (Latencies, bool) {
    let mut latencies = Latencies::default();
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        buffer.clear();
        match timeout_at(end, stream.read_buf(&mut buffer)).await {
            Err(_) => return (latencies, true),
            Ok(Ok(0) | Err(_)) => return (latencies, false),
            Ok(Ok(_)) if Instant::now() < begin => {}
            Ok(Ok(_)) => {
                let now = now();
                for found in buffer.windows(SENT.len()).enumerate().filter(|(_, window)| *window == SENT) {
                    let digits = buffer[found.0 + SENT.len()..].iter().take_while(|byte| byte.is_ascii_digit());
                    let sent = digits.fold(0, |number, digit| number * 10 + u128::from(digit - b'0'));
                    // If an event arrives in two pieces, its number is incomplete and the delay is far too large.
                    if let Ok(delay) = u64::try_from(now.saturating_sub(sent))
                        && delay < 60_000_000_000
                    {
                        latencies.add(Duration::from_nanos(delay));
                    }
                }
            }
        }
    }
}
