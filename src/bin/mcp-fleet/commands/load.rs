//! `mcp-fleet load`: sends requests at a steady rate and measures how long the answers take.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::latency::Latencies;
use super::target::Target;
use crate::failure::Failure;

/// Sends the same request again and again.
#[derive(clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    /// The body of the POST.
    #[arg(long)]
    body: String,
    /// Requests per second over all connections. With 0, each connection sends the next request after the answer to the
    /// previous one.
    #[arg(long)]
    rate: u32,
    #[arg(long, default_value_t = 1)]
    connections: u32,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Load {
    /// Sends the requests from threads with blocking sockets, so that the figures show the target and not the timers of
    /// an event loop.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (address, request) = (self.target.address()?, self.target.request("POST", &self.body)?);
        let begin = Instant::now() + Duration::from_millis(200);
        let span = Duration::from_secs(self.seconds);
        let interval = match self.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) * self.connections / rate,
        };
        let clients: Vec<_> = (0..self.connections)
            .map(|number| {
                let (request, first) = (request.clone(), begin + interval * number / self.connections);
                thread::spawn(move || Client::connect(address, request)?.run(first, interval, begin + span))
            })
            .collect();
        let (mut all, mut failed) = (Latencies::default(), 0);
        for client in clients {
            let (latencies, failures) = client.join().map_err(|_| "a client has panicked")??;
            all.extend(latencies);
            failed += failures;
        }
        let mut summary = all.summary();
        summary["failed"] = failed.into();
        writeln!(io::stdout(), "{summary}")?;
        Ok(())
    }
}

impl Client {
    fn connect(address: SocketAddr, request: Vec<u8>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, request, buffer: Vec::with_capacity(4 << 10) })
    }

    #[expect(clippy::disallowed_methods, reason = "each client has its own thread")]
    fn run(mut self, first: Instant, interval: Duration, end: Instant) -> Result<(Latencies, u64), Failure> {
        let (mut latencies, mut failed, mut due) = (Latencies::default(), 0, first);
        // A first request warms up the connection to the upstream and the caches of the target. It is not counted.
        self.exchange()?;
        while due < end && Instant::now() < end {
            let now = Instant::now();
            // When the previous answer has delayed a request, its time counts from when the request was due.
            let begun = match due.checked_duration_since(now) {
                Some(early) => {
                    thread::sleep(early);
                    Instant::now()
                }
                None if interval.is_zero() => now,
                None => due,
            };
            match self.exchange()? {
                200 => latencies.add(begun.elapsed()),
                _ => failed += 1,
            }
            due = if interval.is_zero() { Instant::now() } else { due + interval };
        }
        Ok((latencies, failed))
    }

    /// Sends one request and returns the status of its answer. The answer must have a `Content-Length`.
    fn exchange(&mut self) -> Result<u16, Failure> {
        self.stream.write_all(&self.request)?;
        self.buffer.clear();
        let mut piece = [0; 4 << 10];
        loop {
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                return Err("the connection was closed".into());
            }
            self.buffer.extend_from_slice(&piece[..read]);
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?;
            let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or("the answer has no status")?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if self.buffer.len() >= end + 4 + length.ok_or("the answer has no Content-Length")? {
                return Ok(status);
            }
        }
    }
}
