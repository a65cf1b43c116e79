//! The lines of a stream that arrives in pieces.

use crate::mcp::find::{find_either, find_line_end};

/// The byte order mark that a stream may begin with.
const MARK: &[u8; 3] = b"\xef\xbb\xbf";

/// Divides a stream into lines and parts of lines. Lines end with `\n`, `\r\n` or `\r`. The byte after a `\r` may
/// arrive much later, so a line ends at its `\r`, and a `\n` after it is returned as a part of its own, [`Part::Tail`].
#[derive(Debug)]
pub(super) struct Lines {
    /// How many bytes of the mark were read; `None` after the beginning of the stream.
    mark: Option<u8>,
    /// The last byte was a `\r`, and the next byte is not known yet.
    after_return: bool,
    /// The last `\r` whose next byte is known had no `\n` after it.
    lone_returns: bool,
}

/// Part of a stream. All parts in order are the whole stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The byte order mark, which belongs to no line.
    Mark,
    /// At least one byte of a line. More bytes of the same line may follow.
    Text(&'a [u8]),
    /// The end of a line: `\n` or `\r`.
    End(&'a [u8]),
    /// The `\n` after the `\r` at which the line before ended.
    Tail,
}

impl Default for Lines {
    fn default() -> Self {
        Self { mark: Some(0), after_return: false, lone_returns: false }
    }
}

impl Part<'_> {
    /// The bytes of the part.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Mark => MARK,
            Self::Text(bytes) | Self::End(bytes) => bytes,
            Self::Tail => b"\n",
        }
    }
}

impl Lines {
    /// Takes the next part from the beginning of `rest`. `None` when more of the stream must arrive first.
    #[inline]
    pub fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Option<Part<'a>> {
        while let Some(matched) = self.mark.map(usize::from) {
            let (first, after) = rest.split_first()?;
            if *first != MARK[matched] {
                self.mark = None;
                if matched > 0 {
                    return Some(Part::Text(&MARK[..matched]));
                }
            } else if matched == 2 {
                (self.mark, *rest) = (None, after);
                return Some(Part::Mark);
            } else {
                (self.mark, *rest) = (Some(matched as u8 + 1), after);
            }
        }
        let first = *rest.first()?;
        if std::mem::take(&mut self.after_return) {
            self.lone_returns = first != b'\n';
            if first == b'\n' {
                *rest = &rest[1..];
                return Some(Part::Tail);
            }
        }
        let length = find_line_end(rest).unwrap_or(rest.len());
        let (part, after) = rest.split_at(length.max(1));
        *rest = after;
        self.after_return = part == b"\r";
        Some(if length == 0 { Part::End(part) } else { Part::Text(part) })
    }

    /// Whether text inserted here would not separate the bytes of a mark or of a line ending. After a `\r` this is so
    /// only if the `\r` before it had no `\n` after it.
    pub fn is_settled(&self) -> bool {
        self.mark.is_none_or(|matched| matched == 0) && (!self.after_return || self.lone_returns)
    }
}

/// A whole line of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The line with its ending.
    pub whole: &'a [u8],
    /// The text before the first colon, or the whole text.
    pub name: &'a [u8],
    /// The text after the colon and one optional space.
    pub value: &'a [u8],
    /// `\n`, `\r\n`, `\r`, or nothing at the end of the buffer.
    pub ending: &'a [u8],
}

/// The lines of a buffer. No further line begins after a line ending at the end of the buffer.
pub(super) fn lines(buffer: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = find_line_end(rest).unwrap_or(rest.len());
        let ending = match &rest[length..] {
            [b'\r', b'\n', ..] => 2,
            behind => behind.len().min(1),
        };
        let (whole, after) = rest.split_at(length + ending);
        let (text, ending) = whole.split_at(length);
        let colon = find_either(text, b':', b':').unwrap_or(length);
        let value = &text[length.min(colon + 1)..];
        rest = after;
        Some(Line { whole, name: &text[..colon], value: value.strip_prefix(b" ").unwrap_or(value), ending })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference;
    use super::*;

    fn parts(stream: &[u8]) -> Vec<Part<'_>> {
        let (mut lines, mut rest) = (Lines::default(), stream);
        std::iter::from_fn(|| lines.next(&mut rest)).collect()
    }

    #[test]
    fn endings() {
        use Part::*;
        assert_eq!(parts(b"a\n\nb"), [Text(b"a"), End(b"\n"), End(b"\n"), Text(b"b")]);
        assert_eq!(parts(b"a\r\n\r\n"), [Text(b"a"), End(b"\r"), Tail, End(b"\r"), Tail]);
        assert_eq!(parts(b"\ra\r\r\n\n"), [End(b"\r"), Text(b"a"), End(b"\r"), End(b"\r"), Tail, End(b"\n")]);
        assert_eq!(parts(b"\xef\xbb\xbf\n\xef\xbb\xbf"), [Mark, End(b"\n"), Text(MARK)]);
        assert_eq!(parts(b"\xef\xbb\n"), [Text(b"\xef\xbb"), End(b"\n")]);
        assert_eq!(parts(b"\xefa"), [Text(b"\xef"), Text(b"a")]);
        assert_eq!(parts(b""), []);
    }

    #[test]
    fn names_and_values() {
        for (text, name, value) in [
            ("data: x", "data", "x"),
            ("data:x", "data", "x"),
            ("data:  x: y", "data", " x: y"),
            ("data", "data", ""),
            ("data:", "data", ""),
            (": x", "", "x"),
        ] {
            for ending in ["\n", "\r\n", "\r", ""] {
                let whole = format!("{text}{ending}");
                let line = lines(whole.as_bytes()).next().expect("a line");
                assert_eq!((line.name, line.value), (name.as_bytes(), value.as_bytes()), "{whole:?}");
                assert_eq!((line.whole, line.ending), (whole.as_bytes(), ending.as_bytes()), "{whole:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn all_parts_are_the_stream(stream in reference::stream(), cuts in reference::cuts()) {
            let (mut lines, mut all) = (Lines::default(), Vec::new());
            for mut piece in reference::pieces(stream.as_bytes(), &cuts) {
                while let Some(part) = lines.next(&mut piece) {
                    all.extend_from_slice(part.bytes());
                }
            }
            // Only an incomplete mark could be missing at the end, and these streams have none.
            prop_assert_eq!(all, stream.as_bytes());
        }
    }
}
