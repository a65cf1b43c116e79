//! `mcp-fleet echo`: a WebSocket server that sends every message back (RFC 6455).

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::Failure;

/// Sends every WebSocket message back, until the process is ended.
#[derive(clap::Args)]
pub(crate) struct Echo {
    /// The port on loopback.
    #[arg(long)]
    port: u16,
}

impl Echo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            // An error means that the client has left, which is not a failure.
            tokio::spawn(async move { drop(serve(stream).await) });
        }
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let end = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&input[..end]).into_owned();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim())
    });
    let accept = accept(key.unwrap_or_default());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    input.drain(..end);
    let mut output = Vec::new();
    loop {
        while let Some(used) = echo(&input, &mut output) {
            input.drain(..used);
        }
        stream.write_all(&output).await?;
        output.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// RFC 6455 section 4.2.2.
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Writes the frame at the beginning of `input` into `output`, without its mask. Returns its length, if all of it is there. Frames of
/// 64 KiB and more are not supported.
fn echo(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let (&[first, second], rest) = input.split_first_chunk::<2>()?;
    let (length, rest) = match second & 0x7F {
        126 => rest.split_first_chunk::<2>().map(|(&length, rest)| (usize::from(u16::from_be_bytes(length)), rest))?,
        length => (usize::from(length), rest),
    };
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..length)?;
    output.push(first);
    match u8::try_from(length) {
        Ok(short @ ..126) => output.push(short),
        _ => {
            output.push(126);
            output.extend((length as u16).to_be_bytes());
        }
    }
    output.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some(input.len() - rest.len() + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_has_its_answer() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_come_back_without_their_mask() {
        let mut output = Vec::new();
        // The masked frame of RFC 6455 section 5.7.
        let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(echo(&frame, &mut output), Some(11));
        assert_eq!(output, [0x81, 0x05, b'H', b'e', b'l', b'l', b'o']);
        assert_eq!(echo(&frame[..10], &mut output), None);
    }
}
