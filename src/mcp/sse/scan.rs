//! Finds out which messages an event stream carries, while the stream passes through the edge.

use super::lines::{Lines, Part};
use crate::mcp::{MessageScan, Scanned};

/// Reports which messages an event stream carries. It does not keep the messages, so it needs a constant amount of
/// memory. How the stream is divided into pieces makes no difference.
#[derive(Debug, Default)]
pub struct EventScan {
    lines: Lines,
    line: Line,
    /// The current event has at least one field.
    under_way: bool,
    data: Data,
    message: MessageScan,
}

/// What is known of the current line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// This many bytes of `data`, and nothing else; 0 at the start of a line.
    Name(usize),
    /// The value of a data line comes next. There may be a space before it.
    Value,
    /// The value of a data line has begun.
    Data,
    Comment,
    /// A field that does not matter.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

/// What is known of the data of the current event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Data {
    /// No data line.
    #[default]
    None,
    /// One empty data line.
    Empty,
    Some,
}

impl EventScan {
    /// Scans the next piece of the stream. Calls `seen` once for each message, when the message's event is complete. An
    /// event with empty data is not a message (from 2025-11-25 on, streams begin with such an event).
    pub fn push(&mut self, piece: &[u8], seen: &mut dyn FnMut(Scanned)) {
        let mut rest = piece;
        while let Some(part) = self.lines.next(&mut rest) {
            match part {
                Part::Text(text) => self.text(text),
                Part::End(_) => self.line_ends(seen),
                Part::Mark | Part::Tail => {}
            }
        }
    }

    /// Whether a comment and an empty line may be inserted here: no line and no event has begun, and the position is
    /// not between the two bytes of a `\r\n`.
    pub fn is_between_events(&self) -> bool {
        self.line == Line::Name(0) && !self.under_way && self.lines.is_settled()
    }

    fn text(&mut self, text: &[u8]) {
        const DATA: &[u8] = b"data";
        let mut rest = text;
        if let (Line::Name(0), Some(value)) = (self.line, text.strip_prefix(b"data:")) {
            self.data_line();
            (self.line, rest) = (Line::Value, value);
        }
        while let (Line::Name(matched), Some((byte, after))) = (self.line, rest.split_first()) {
            self.line = match byte {
                b':' if matched == 0 => Line::Comment,
                b':' if matched == DATA.len() => {
                    self.data_line();
                    Line::Value
                }
                _ if DATA.get(matched) == Some(byte) => Line::Name(matched + 1),
                _ => Line::Other,
            };
            rest = after;
        }
        if self.line == Line::Value && !rest.is_empty() {
            self.line = Line::Data;
            rest = rest.strip_prefix(b" ").unwrap_or(rest);
        }
        if self.line == Line::Data && !rest.is_empty() {
            self.data = Data::Some;
            self.message.push(rest);
        }
    }

    /// A data line begins. A line break joins it to the data line before.
    fn data_line(&mut self) {
        if self.data == Data::None {
            self.data = Data::Empty;
        } else {
            self.data = Data::Some;
            self.message.push(b"\n");
        }
    }

    fn line_ends(&mut self, seen: &mut dyn FnMut(Scanned)) {
        match std::mem::take(&mut self.line) {
            Line::Comment => return,
            Line::Name(0) => {
                self.under_way = false;
                if std::mem::take(&mut self.data) == Data::Some {
                    seen(self.message.finish());
                }
                return;
            }
            // `data` without a colon is a data line too.
            Line::Name(4) => self.data_line(),
            _ => {}
        }
        self.under_way = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference;
    use super::*;

    const OK: Scanned = Scanned::Result { is_error: false };

    fn scan(pieces: &[&[u8]]) -> (Vec<Scanned>, bool) {
        let (mut scan, mut all) = (EventScan::default(), Vec::new());
        for piece in pieces {
            scan.push(piece, &mut |message| all.push(message));
        }
        (all, scan.is_between_events())
    }

    #[test]
    fn messages() {
        let ok = r#"{"result":{}}"#;
        for (stream, expected) in [
            (format!("data: {ok}\n\n"), vec![OK]),
            (format!("data:{ok}\r\n\r\n"), vec![OK]),
            (format!("event: x\rdata:{ok}\r\r"), vec![OK]),
            (format!("\u{feff}data: {ok}\n\ndata: {ok}\n"), vec![OK]),
            (format!("data: {ok}\n\n: ping\n\n\ndata: {ok}\n: x\nid: 7\n\n"), vec![OK, OK]),
            ("id: 1\nretry: 2\ndata:\n\n".into(), vec![]),
            ("data\n\n".into(), vec![]),
            ("data\ndata\n\n".into(), vec![Scanned::Unknown]),
            ("data: {\"result\"\ndata: :{}\ndata:}\n\n".into(), vec![OK]),
            (
                "data: {\"method\":\"notifications/progress\"}\n\ndata: {\"error\":1}\n\n".into(),
                vec![Scanned::Progress, Scanned::Error],
            ),
            (format!("dataa: {ok}\n\ndat: {ok}\n\n data: {ok}\n\nDATA: {ok}\n\n"), vec![]),
            (format!("data: {{\n\ndata: {ok}\n\n"), vec![Scanned::Unknown, OK]),
        ] {
            assert_eq!(scan(&[stream.as_bytes()]).0, expected, "{stream:?}");
        }
    }

    #[test]
    fn between_events() {
        for (stream, expected) in [
            ("", true),
            ("\n", true),
            (":\n\n", true),
            (": ping\n", true),
            (": ping", false),
            ("data: x\n", false),
            ("data: x\n: ping\n", false),
            ("data: x\n\n", true),
            ("data: x\n\nd", false),
            ("id: 1\n", false),
            ("id: 1\n\n", true),
            ("data: x\r\n\r", false),
            ("data: x\r\n\r\n", true),
            ("data: x\r\r", true),
            (":\r", false),
            ("\u{feff}", true),
        ] {
            assert_eq!(scan(&[stream.as_bytes()]).1, expected, "{stream:?}");
        }
        assert!(!scan(&["\u{feff}".as_bytes().split_at(2).0]).1);
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_reference(stream in reference::stream(), cuts in reference::cuts()) {
            let events = reference::events(&stream);
            let expected: Vec<Scanned> = events.iter().filter(|event| !event.data.is_empty()).map(|event| {
                let mut message = MessageScan::default();
                message.push(event.data.as_bytes());
                message.finish()
            }).collect();
            prop_assert_eq!(scan(&reference::pieces(stream.as_bytes(), &cuts)).0, expected);
        }

        /// A comment that is inserted where `is_between_events` allows it changes no event.
        #[test]
        fn inserted_comments_change_no_event(stream in reference::stream()) {
            let mut scan = EventScan::default();
            let (mut commented, mark) = (String::new(), stream.strip_prefix('\u{feff}'));
            for at in mark.unwrap_or(&stream).chars() {
                if scan.is_between_events() {
                    commented.push_str(":\n\n");
                }
                scan.push(at.encode_utf8(&mut [0; 4]).as_bytes(), &mut |_| {});
                commented.push(at);
            }
            prop_assert_eq!(reference::events(&commented), reference::events(mark.unwrap_or(&stream)));
        }

        #[test]
        fn any_bytes_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..80), cuts in reference::cuts()) {
            prop_assert_eq!(scan(&reference::pieces(&bytes, &cuts)), scan(&[&bytes]));
        }
    }
}
