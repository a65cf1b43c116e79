//! The bytes of a body, in and out of its framing (RFC 9112 sections 6 and 7).

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::framing::BodyLength;
use crate::config::limits;

/// Why the bytes that came are no body.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadBody {
    /// The connection was closed within it.
    #[error("the body ended early")]
    Truncated,
    /// The chunked coding is broken.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// Too many bytes behind the last chunk.
    #[error("the trailer of the body is too long")]
    Trailer,
}

/// What a buffer holds of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The next bytes.
    Piece(Bytes),
    /// Nothing until more has come in.
    Wait,
    /// The body's end; what the buffer holds is behind it.
    End,
}

/// Takes a body out of what a connection brings.
#[derive(Debug)]
pub struct BodyReader(Reading);

#[derive(Debug)]
enum Reading {
    /// So many bytes are left.
    Exact(u64),
    UntilClose,
    /// A line with a size is next.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The end of a chunk's line is next.
    ChunkEnd,
    /// Lines up to an empty one are next; so many bytes may come.
    Trailer(usize),
    Done,
}

impl BodyReader {
    /// For a body of this length.
    pub fn new(length: BodyLength) -> Self {
        Self(match length {
            BodyLength::Exact(0) => Reading::Done,
            BodyLength::Exact(length) => Reading::Exact(length),
            BodyLength::Chunked => Reading::Size,
            BodyLength::UntilClose => Reading::UntilClose,
        })
    }

    /// True when all of it was taken.
    pub fn is_done(&self) -> bool {
        matches!(self.0, Reading::Done)
    }

    /// How many bytes are sure to come yet, as far as that is known.
    pub fn expected(&self) -> u64 {
        match self.0 {
            Reading::Exact(left) | Reading::Chunk(left) => left,
            _ => 0,
        }
    }

    /// The next piece in `buffer`.
    ///
    /// # Errors
    /// The chunks are malformed.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Step, BadBody> {
        loop {
            match &mut self.0 {
                Reading::Done => return Ok(Step::End),
                Reading::UntilClose if buffer.is_empty() => return Ok(Step::Wait),
                Reading::UntilClose => return Ok(Step::Piece(buffer.split().freeze())),
                Reading::Exact(_) | Reading::Chunk(_) if buffer.is_empty() => return Ok(Step::Wait),
                Reading::Exact(left) => {
                    let piece = take(buffer, left);
                    if *left == 0 {
                        self.0 = Reading::Done;
                    }
                    return Ok(Step::Piece(piece));
                }
                Reading::Chunk(left) => {
                    let piece = take(buffer, left);
                    if *left == 0 {
                        self.0 = Reading::ChunkEnd;
                    }
                    return Ok(Step::Piece(piece));
                }
                Reading::Size => match line(buffer, limits::CHUNK_LINE_BYTES) {
                    Line::Partial => return Ok(Step::Wait),
                    Line::Bad => return Err(BadBody::Chunk),
                    Line::Whole(line) => {
                        self.0 = match size(&line).ok_or(BadBody::Chunk)? {
                            0 => Reading::Trailer(limits::TRAILER_BYTES),
                            size => Reading::Chunk(size),
                        }
                    }
                },
                Reading::ChunkEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        drop(buffer.split_to(2));
                        self.0 = Reading::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::Wait),
                    _ => return Err(BadBody::Chunk),
                },
                Reading::Trailer(room) => match line(buffer, *room) {
                    Line::Partial => return Ok(Step::Wait),
                    Line::Bad => return Err(BadBody::Trailer),
                    Line::Whole(line) if line.is_empty() => self.0 = Reading::Done,
                    Line::Whole(line) => *room = room.saturating_sub(line.len() + 2),
                },
            }
        }
    }

    /// The connection has brought its last byte.
    ///
    /// # Errors
    /// The body is not whole.
    pub fn closed(&mut self) -> Result<(), BadBody> {
        match self.0 {
            Reading::Done | Reading::UntilClose => {
                self.0 = Reading::Done;
                Ok(())
            }
            _ => Err(BadBody::Truncated),
        }
    }
}

/// Takes what is there of `left` bytes.
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

/// Takes a line of at most `limit` bytes, which ends with CR LF and holds neither elsewhere.
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

/// The size in `SIZE[;EXTENSIONS]`.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = if digits.len() < line.len() { digits.trim_ascii_end() } else { digits };
    // 15 digits: a sum of sizes cannot overflow.
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

/// Puts a body into its framing.
#[derive(Debug)]
pub struct BodyWriter(BodyLength);

impl BodyWriter {
    /// For a body of this length.
    pub fn new(length: BodyLength) -> Self {
        Self(length)
    }

    /// True when its end shows to the reader without the connection's.
    pub fn is_delimited(&self) -> bool {
        self.0 != BodyLength::UntilClose
    }

    /// Writes what comes before a piece of `length` bytes. Gives how many of them are to be written: none beyond a length
    /// that was announced.
    pub fn begin_piece(&mut self, length: usize, wire: &mut BytesMut) -> usize {
        match &mut self.0 {
            BodyLength::Exact(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(length);
                *left -= length as u64;
                length
            }
            // An empty chunk would be the end.
            BodyLength::Chunked if length > 0 => {
                // Writing to a buffer that grows cannot fail.
                let _ = write!(wire.writer(), "{length:x}\r\n");
                length
            }
            BodyLength::Chunked | BodyLength::UntilClose => length,
        }
    }

    /// Writes what comes behind a piece of `length` bytes.
    pub fn end_piece(&self, length: usize, wire: &mut BytesMut) {
        if self.0 == BodyLength::Chunked && length > 0 {
            wire.put_slice(b"\r\n");
        }
    }

    /// Writes the end.
    ///
    /// # Errors
    /// Fewer bytes were written than the head has said: the connection cannot go on.
    pub fn end(&mut self, wire: &mut BytesMut) -> Result<(), BadBody> {
        match self.0 {
            BodyLength::Exact(0) | BodyLength::UntilClose => {}
            BodyLength::Exact(_) => return Err(BadBody::Truncated),
            BodyLength::Chunked => wire.put_slice(b"0\r\n\r\n"),
        }
        self.0 = BodyLength::Exact(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a reader takes from `wire`, which comes in pieces of `size`; and what is left behind its end.
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
    fn a_body_ends_where_its_framing_says_however_it_is_cut() {
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
    fn what_could_be_read_otherwise_is_refused() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(limits::CHUNK_LINE_BYTES));
        let trailer = format!("0\r\n{}\r\n", "a: b\r\n".repeat(limits::TRAILER_BYTES / 4));
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

    fn write(writer: &mut BodyWriter, piece: &str, wire: &mut BytesMut) {
        let length = writer.begin_piece(piece.len(), wire);
        wire.put_slice(&piece.as_bytes()[..length]);
        writer.end_piece(length, wire);
    }

    #[test]
    fn what_is_written_can_be_read() {
        for length in [BodyLength::Chunked, BodyLength::Exact(17), BodyLength::UntilClose] {
            let (mut writer, mut wire) = (BodyWriter::new(length), BytesMut::new());
            for piece in ["hello ", "", "wonderful ", "w"] {
                write(&mut writer, piece, &mut wire);
            }
            writer.end(&mut wire).expect("all of it was written");
            assert_eq!(read(length, &wire, 7).map(|(body, _)| body), Ok(b"hello wonderful w".to_vec()), "{length:?}");
        }
    }

    #[test]
    fn a_length_that_was_given_is_kept() {
        let (mut writer, mut wire) = (BodyWriter::new(BodyLength::Exact(5)), BytesMut::new());
        write(&mut writer, "hell", &mut wire);
        assert_eq!(writer.end(&mut wire), Err(BadBody::Truncated));
        write(&mut writer, "o, and more", &mut wire);
        assert_eq!((writer.end(&mut wire), &wire[..]), (Ok(()), &b"hello"[..]));
    }
}
