//! `mcp-fleet chat`: sends messages to `mcp-fleet echo` and measures how long they take to come back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::latency::Latencies;
use super::target::Target;
use crate::failure::Failure;

/// Sends WebSocket messages, on each connection one after the other.
#[derive(clap::Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    target: Target,
    /// The length of a message in bytes, 126 to 65,535.
    #[arg(long, default_value_t = 256)]
    bytes: u16,
    #[arg(long, default_value_t = 8)]
    connections: u32,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Chat {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut target = self.target.clone();
        for field in [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            target.add(field);
        }
        let (address, request) = (target.address()?, target.request("GET", "")?);
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let clients: Vec<_> = (0..self.connections)
            .map(|_| {
                let request = request.clone();
                thread::spawn(move || talk(address, &request, self.bytes, end))
            })
            .collect();
        let mut all = Latencies::default();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client has panicked")??);
        }
        writeln!(io::stdout(), "{}", all.summary())?;
        Ok(())
    }
}

fn talk(address: SocketAddr, request: &[u8], bytes: u16, end: Instant) -> Result<Latencies, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(format!("no WebSocket: {}", String::from_utf8_lossy(&head)).into());
    }
    // A binary frame with a mask of zeros, which leaves the message as it is (RFC 6455 section 5.2).
    let mut frame = vec![0x82, 0x80 | 126];
    frame.extend(bytes.to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(frame.len() + usize::from(bytes), b'x');
    let mut back = vec![0; usize::from(bytes) + 4];
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(&frame)?;
        stream.read_exact(&mut back)?;
        latencies.add(begun.elapsed());
    }
    Ok(latencies)
}
