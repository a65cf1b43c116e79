//! `mcp-fleet events`: event streams whose events say when they were sent.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;

use crate::Failure;

/// Answers every request with an event stream, until it is ended.
#[derive(clap::Args)]
pub(crate) struct Events {
    /// The port on loopback.
    #[arg(long)]
    port: u16,
    /// Events per second in each stream.
    #[arg(long, default_value_t = 10)]
    rate: u32,
}

/// Nanoseconds since 1970: the one clock that processes share.
pub(crate) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

impl Events {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        let interval = Duration::from_secs(1) / self.rate.max(1);
        loop {
            let (stream, _) = listener.accept().await?;
            // A client that leaves is no failure.
            tokio::spawn(async move { drop(serve(stream, interval).await) });
        }
    }
}

async fn serve(mut stream: TcpStream, interval: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let event = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"info\",\"sent\":{}}}}}\n\n",
            now()
        );
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
}
