//! Reads from a connection into a buffer.

use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads what has come into `input`, at most about `room` bytes. Zero: the other side has closed the connection.
pub(super) fn poll_fill(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    room: usize,
) -> Poll<std::io::Result<usize>> {
    // Most messages fit into the room that those before have left.
    if input.capacity() - input.len() < room / 8 {
        input.reserve(room);
    }
    pin!(stream.read_buf(input)).poll(cx)
}
