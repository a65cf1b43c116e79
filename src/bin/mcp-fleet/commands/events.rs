//! `mcp-fleet events`: serves event streams whose events contain the time at which they were sent.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};

use crate::failure::Failure;

/// Answers every request with an event stream, until the process is ended.
#[derive(clap::Args)]
pub(crate) struct Events {
    /// The port on loopback.
    #[arg(long)]
    port: u16,
    /// Events per second in each stream.
    #[arg(long, default_value_t = 10)]
    rate: u32,
}

/// Nanoseconds since 1970. All processes of a machine share this clock.
pub(crate) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

impl Events {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        let interval = Duration::from_secs(1) / self.rate.max(1);
        for number in 0_u32.. {
            let (stream, _) = listener.accept().await?;
            let offset = interval.mul_f64(phase(number));
            // An error means that the client has left, which is not a failure.
            tokio::spawn(async move { drop(serve(stream, interval, offset).await) });
        }
        Ok(())
    }
}

/// When in the interval the events of a stream are sent, from 0 to 1. Steps of the golden ratio spread any number of
/// streams evenly. Without this, the number of events at the same time would depend on how quickly a proxy opens
/// streams.
fn phase(number: u32) -> f64 {
    (f64::from(number) * 0.618_033_988_749_895).fract()
}

async fn serve(mut stream: TcpStream, interval: Duration, offset: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    let mut ticks = tokio::time::interval_at(Instant::now() + offset, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first event is sent at once, because `mcp-fleet listen` waits for it.
    loop {
        let event = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"info\",\"sent\":{}}}}}\n\n",
            now()
        );
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        ticks.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_evenly_over_the_interval() {
        for begun in [0, 1_000_000] {
            let mut phases: Vec<f64> = (begun..begun + 1_000).map(phase).collect();
            phases.sort_by(f64::total_cmp);
            assert!(
                phases.windows(2).all(|pair| pair[1] - pair[0] < 0.003) && phases[0] < 0.003 && phases[999] > 0.997
            );
        }
    }
}
