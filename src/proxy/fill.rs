//! Reads from a connection into a buffer.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads what has come into `input`, at most about `room` bytes. Zero: the other side has closed the connection.
pub(super) async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    room: usize,
) -> std::io::Result<usize> {
    // Most messages fit into the room that those before have left.
    if input.capacity() - input.len() < room / 8 {
        input.reserve(room);
    }
    stream.read_buf(input).await
}
