//! Reads bodies from their framing, and writes bodies with their framing (RFC 9112 sections 6 and 7).

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderName;
use thiserror::Error;

use super::framing::BodyLength;
use crate::config::limits;

/// Why a body cannot be read or written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadBody {
    /// The connection was closed before the end of the body, or fewer bytes were written than announced.
    #[error("the body ended early")]
    Truncated,
    /// The chunked coding is malformed, or the extensions of the chunks are too long.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// The trailer after the last chunk is malformed or too long.
    #[error("the trailer of the body is malformed or too long")]
    Trailer,
}

/// The next step in reading a body from a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The next bytes of the body.
    Piece(Bytes),
    /// More bytes must arrive first.
    Wait,
    /// The body has ended. The bytes in the buffer come after it.
    End,
}

/// Reads a body from the bytes that arrive on a connection.
#[derive(Debug)]
pub struct BodyReader {
    reading: Reading,
    /// How many more bytes the extensions of chunks may have.
    extensions: usize,
}

#[derive(Debug)]
enum Reading {
    /// This many bytes of the body are left.
    Exact(u64),
    UntilClose,
    /// The line with the size of a chunk is next.
    Size,
    /// This many bytes of a chunk are left.
    Chunk(u64),
    /// The CR LF after the bytes of a chunk is next.
    ChunkEnd,
    /// Trailer lines up to an empty line are next. At most this many bytes may follow.
    Trailer(usize),
    Done,
}

impl BodyReader {
    /// A reader for a body of this length.
    pub fn new(length: BodyLength) -> Self {
        let reading = match length {
            BodyLength::Exact(0) => Reading::Done,
            BodyLength::Exact(length) => Reading::Exact(length),
            BodyLength::Chunked => Reading::Size,
            BodyLength::UntilClose => Reading::UntilClose,
        };
        Self { reading, extensions: limits::CHUNK_EXTENSION_BYTES }
    }

    /// Whether the whole body was read.
    pub fn is_done(&self) -> bool {
        matches!(self.reading, Reading::Done)
    }

    /// How many more bytes of the body are certain to follow; 0 when that is not known.
    pub fn expected(&self) -> u64 {
        match self.reading {
            Reading::Exact(left) | Reading::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Takes the next piece of the body from `buffer`.
    ///
    /// # Errors
    /// The chunked coding or the trailer is malformed or too long.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Step, BadBody> {
        loop {
            match &mut self.reading {
                Reading::Done => return Ok(Step::End),
                Reading::UntilClose if buffer.is_empty() => return Ok(Step::Wait),
                Reading::UntilClose => return Ok(Step::Piece(buffer.split().freeze())),
                Reading::Exact(_) | Reading::Chunk(_) if buffer.is_empty() => return Ok(Step::Wait),
                Reading::Exact(left) => {
                    let piece = take(buffer, left);
                    if *left == 0 {
                        self.reading = Reading::Done;
                    }
                    return Ok(Step::Piece(piece));
                }
                Reading::Chunk(left) => {
                    let piece = take(buffer, left);
                    if *left == 0 {
                        self.reading = Reading::ChunkEnd;
                    }
                    return Ok(Step::Piece(piece));
                }
                Reading::Size => match line(buffer, limits::CHUNK_LINE_BYTES) {
                    Line::Partial => return Ok(Step::Wait),
                    Line::Bad => return Err(BadBody::Chunk),
                    Line::Whole(line) => {
                        let (size, extensions) = size(&line).ok_or(BadBody::Chunk)?;
                        self.extensions = self.extensions.checked_sub(extensions).ok_or(BadBody::Chunk)?;
                        self.reading = match size {
                            0 => Reading::Trailer(limits::TRAILER_BYTES),
                            size => Reading::Chunk(size),
                        }
                    }
                },
                Reading::ChunkEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        drop(buffer.split_to(2));
                        self.reading = Reading::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::Wait),
                    _ => return Err(BadBody::Chunk),
                },
                Reading::Trailer(room) => match line(buffer, *room) {
                    Line::Partial => return Ok(Step::Wait),
                    Line::Bad => return Err(BadBody::Trailer),
                    Line::Whole(line) if line.is_empty() => self.reading = Reading::Done,
                    Line::Whole(line) if !is_field(&line) => return Err(BadBody::Trailer),
                    Line::Whole(line) => *room = room.saturating_sub(line.len() + 2),
                },
            }
        }
    }

    /// Must be called when the connection has ended and no further bytes will arrive.
    ///
    /// # Errors
    /// The body is not complete.
    pub fn closed(&mut self) -> Result<(), BadBody> {
        match self.reading {
            Reading::Done | Reading::UntilClose => {
                self.reading = Reading::Done;
                Ok(())
            }
            _ => Err(BadBody::Truncated),
        }
    }
}

/// Takes up to `left` bytes from `buffer`, and subtracts their number from `left`.
fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    buffer.split_to(length).freeze()
}

enum Line {
    Whole(BytesMut),
    Partial,
    Bad,
}

/// Takes a line of at most `limit` bytes and the CR LF at its end. A line that is longer, or that has a CR or LF before
/// its end, is `Bad`.
fn line(buffer: &mut BytesMut, limit: usize) -> Line {
    let Some(end) = buffer.iter().take(limit + 2).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= limit + 2 { Line::Bad } else { Line::Partial };
    };
    let mut line = buffer.split_to(end + 1);
    match line.iter().position(|byte| *byte == b'\r') {
        Some(cr) if cr + 1 == end => {
            line.truncate(cr);
            Line::Whole(line)
        }
        _ => Line::Bad,
    }
}

/// The size in a line of the form `SIZE[;EXTENSIONS]`, and the length of its extensions. What the extensions say is
/// ignored, but they must consist of characters that a field value may have (RFC 9112 section 7.1.1).
fn size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let extensions = &line[digits.len()..];
    if !extensions.iter().copied().all(is_text) {
        return None;
    }
    // White space may stand before an extension: spaces and tabs only.
    let end = digits.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let digits = if extensions.is_empty() { digits } else { &digits[..end] };
    // At most 15 hexadecimal digits (60 bits), so that sums of sizes do not overflow.
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    let size = digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | u64::from(char::from(*digit).to_digit(16)?)));
    size.map(|size| (size, extensions.len()))
}

/// True for bytes that the value of a field may have (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// True for a line of the form `NAME: VALUE`, as it may stand in a trailer.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    HeaderName::from_bytes(&line[..colon]).is_ok() && line[colon..].iter().copied().all(is_text)
}

/// Writes the framing of a body.
#[derive(Debug)]
pub struct BodyWriter(BodyLength);

impl BodyWriter {
    /// A writer for a body of this length.
    pub fn new(length: BodyLength) -> Self {
        Self(length)
    }

    /// Whether the reader recognizes the end of the body without the end of the connection.
    pub fn is_delimited(&self) -> bool {
        self.0 != BodyLength::UntilClose
    }

    /// Writes what comes before a piece of `length` bytes. `end`: the piece is the last one. Returns how many bytes of
    /// the piece must be written, none beyond the announced length of the body, and what must be written after them.
    ///
    /// # Errors
    /// The body ends with fewer bytes than the head announced, so the connection cannot be used any more.
    pub fn frame(&mut self, length: usize, end: bool, wire: &mut BytesMut) -> Result<(usize, &'static [u8]), BadBody> {
        let framed: (usize, &'static [u8]) = match &mut self.0 {
            BodyLength::Exact(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(length);
                *left -= length as u64;
                if end && *left > 0 {
                    return Err(BadBody::Truncated);
                }
                (length, b"")
            }
            BodyLength::Chunked => {
                // An empty chunk would end the body.
                if length > 0 {
                    // Writing to a buffer that grows cannot fail.
                    let _ = write!(wire.writer(), "{length:x}\r\n");
                }
                let after: &'static [u8] = match (length > 0, end) {
                    (true, true) => b"\r\n0\r\n\r\n",
                    (true, false) => b"\r\n",
                    (false, true) => b"0\r\n\r\n",
                    (false, false) => b"",
                };
                (length, after)
            }
            BodyLength::UntilClose => (length, b""),
        };
        if end {
            self.0 = BodyLength::Exact(0);
        }
        Ok(framed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body that a reader takes from `wire`, which arrives in pieces of `size` bytes, and the bytes after the body.
    fn read(length: BodyLength, wire: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>), BadBody> {
        let (mut reader, mut buffer, mut body) = (BodyReader::new(length), BytesMut::new(), Vec::new());
        let mut pieces = wire.chunks(size);
        loop {
            match reader.next(&mut buffer)? {
                Step::Piece(piece) => body.extend_from_slice(&piece),
                Step::End => break,
                Step::Wait => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => reader.closed()?,
                },
            }
        }
        assert!(reader.is_done());
        let rest: Vec<u8> = buffer.iter().copied().chain(pieces.flatten().copied()).collect();
        Ok((body, rest))
    }

    #[test]
    fn a_body_ends_where_its_framing_says_for_pieces_of_any_size() {
        let chunked = b"5\r\nhello\r\n1;a=b\r\n \r\n00A ;x\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET";
        for size in 1..chunked.len() {
            let read = read(BodyLength::Chunked, chunked, size);
            assert_eq!(read, Ok((b"hello 0123456789".to_vec(), b"GET".to_vec())), "{size}");
        }
        for size in 1..8 {
            assert_eq!(read(BodyLength::Exact(5), b"helloGET", size), Ok((b"hello".to_vec(), b"GET".to_vec())));
            assert_eq!(read(BodyLength::UntilClose, b"hello", size), Ok((b"hello".to_vec(), Vec::new())));
            assert_eq!(read(BodyLength::Exact(0), b"GET", size), Ok((Vec::new(), b"GET".to_vec())));
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(limits::CHUNK_LINE_BYTES));
        let trailer = format!("0\r\n{}\r\n", "a: b\r\n".repeat(limits::TRAILER_BYTES / 4));
        let extension = "1;aaaaaaaa\r\nx\r\n".repeat(limits::CHUNK_EXTENSION_BYTES / 9 + 1);
        let extensions = format!("{extension}0\r\n\r\n");
        for (bad, why) in [
            ("5\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("5\r\nhelloo\r\n0\r\n\r\n", BadBody::Chunk),
            ("5 \r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            (" 5\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("-5\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("+5\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("0x5\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("5;a\rb\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            ("1000000000000000\r\n", BadBody::Chunk),
            ("0\r\na\n\r\n", BadBody::Trailer),
            ("0\r\na\r\n\r\n", BadBody::Trailer),
            ("0\r\na: b\r\n c\r\n\r\n", BadBody::Trailer),
            ("0\r\na : b\r\n\r\n", BadBody::Trailer),
            ("0\r\n: b\r\n\r\n", BadBody::Trailer),
            ("0\r\na: b\0\r\n\r\n", BadBody::Trailer),
            ("5;a=\0\r\nhello\r\n0\r\n\r\n", BadBody::Chunk),
            (&extensions, BadBody::Chunk),
            ("5\r\nhel", BadBody::Truncated),
            ("5\r\nhello\r\n", BadBody::Truncated),
            ("0\r\n", BadBody::Truncated),
            (&long, BadBody::Chunk),
            (&trailer, BadBody::Trailer),
        ] {
            for size in [1, 3, bad.len()] {
                assert_eq!(read(BodyLength::Chunked, bad.as_bytes(), size), Err(why), "{bad:?} by {size}");
            }
        }
        assert_eq!(read(BodyLength::Exact(5), b"hell", 4), Err(BadBody::Truncated));
    }

    fn write(writer: &mut BodyWriter, piece: &str, end: bool, wire: &mut BytesMut) -> Result<(), BadBody> {
        let (length, after) = writer.frame(piece.len(), end, wire)?;
        wire.put_slice(&piece.as_bytes()[..length]);
        wire.put_slice(after);
        Ok(())
    }

    #[test]
    fn what_is_written_can_be_read() {
        for length in [BodyLength::Chunked, BodyLength::Exact(17), BodyLength::UntilClose] {
            let (mut writer, mut wire) = (BodyWriter::new(length), BytesMut::new());
            for piece in ["hello ", "", "wonderful "] {
                write(&mut writer, piece, false, &mut wire).expect("more follows");
            }
            for (end, more) in [("w", ""), ("", "w")] {
                let (mut writer, mut wire) = (BodyWriter(writer.0), wire.clone());
                write(&mut writer, more, false, &mut wire).expect("more follows");
                write(&mut writer, end, true, &mut wire).expect("all of it was written");
                let body = read(length, &wire, 7).map(|(body, _)| body);
                assert_eq!(body, Ok(b"hello wonderful w".to_vec()), "{length:?}");
            }
        }
    }

    #[test]
    fn exactly_the_announced_length_is_written() {
        let (mut writer, mut wire) = (BodyWriter::new(BodyLength::Exact(5)), BytesMut::new());
        write(&mut writer, "hell", false, &mut wire).expect("more follows");
        assert_eq!(write(&mut writer, "", true, &mut wire), Err(BadBody::Truncated));
        assert_eq!(write(&mut writer, "o, and more", true, &mut wire), Ok(()));
        assert_eq!(&wire[..], b"hello");
    }
}
