//! Decides about each event of a stream before the event is passed on, and can replace the event's data.

use std::borrow::Cow;

use thiserror::Error;

use super::lines::{Lines, Part, lines};

/// The decision about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passes the event on unchanged.
    Keep,
    /// Passes the event on with this data. Its other lines stay unchanged, in their places.
    Replace(Vec<u8>),
    /// Leaves the event out.
    Drop,
    /// As `Keep`. Everything after the event is passed on unchecked.
    KeepAndStop,
    /// As `Replace`. Everything after the event is passed on unchecked.
    ReplaceAndStop(Vec<u8>),
}

/// An event is longer than an `EventRewrite` may hold. The stream must end, because the event was not checked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an event of the stream is longer than {0} bytes")]
pub struct EventTooLong(usize);

/// Passes an event stream on. Each event is held until it is complete and the decision about it is made. Comments and
/// empty lines between events are passed on at once. At most one event is held. How the stream is divided into pieces
/// makes no difference to what is passed on.
#[derive(Debug)]
pub struct EventRewrite {
    lines: Lines,
    line: Place,
    /// The bytes of the current event so far. Empty when no event has begun.
    event: Vec<u8>,
    /// Where the current line begins in `event`.
    line_start: usize,
    limit: usize,
    look: Look,
    /// Stands before the ids of events.
    id_mark: Option<Box<str>>,
}

/// Where the next byte of a stream belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    /// In a line of an event.
    Event,
    /// In a comment between events.
    Comment,
}

/// Which events are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    All,
    /// The first event, if it has this type.
    First(&'static str),
    /// The current event, which has the awaited type.
    Current(&'static str),
    /// No further events.
    Stopped,
    /// An event was too long.
    Failed,
}

impl EventRewrite {
    /// Checks all events until a verdict says to stop. An event of more than `limit` bytes, including its line endings,
    /// is an error.
    pub fn new(limit: usize) -> Self {
        Self {
            lines: Lines::default(),
            line: Place::default(),
            event: Vec::new(),
            line_start: 0,
            limit,
            look: Look::All,
            id_mark: None,
        }
    }

    /// Puts `mark` before the id of each event that has one, so that a client that comes back with `Last-Event-ID` names the stream,
    /// too.
    pub fn with_id_mark(self, mark: &str) -> Self {
        Self { id_mark: Some(mark.into()), ..self }
    }

    /// Checks the first event with data if its type is `event_type`, and stops after it, whatever the verdict is.
    /// `event_type` must not be `message`, which is the type of events that name no type. An event that names another
    /// type, or has data before it names a type, is not held: this event and the rest of the stream are passed on at
    /// once.
    pub fn only_first(event_type: &'static str, limit: usize) -> Self {
        Self { look: Look::First(event_type), ..Self::new(limit) }
    }

    /// Takes the next piece of the stream, and appends to `out` what may be passed on. `rewrite` decides about an event
    /// by its type (`message` when the event names no type) and its data. Events without data, or with empty data, are
    /// passed on without calling `rewrite`, because they carry no message.
    ///
    /// # Errors
    /// [`EventTooLong`] for an event that is too long, and for every later piece. The events before it are in `out`.
    pub fn push(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        rewrite: &mut dyn FnMut(&str, &[u8]) -> Verdict,
    ) -> Result<(), EventTooLong> {
        let mut rest = piece;
        while !matches!(self.look, Look::Stopped | Look::Failed) {
            let Some(part) = self.lines.next(&mut rest) else { return Ok(()) };
            self.part(part, out, rewrite)?;
        }
        if self.look == Look::Failed {
            return Err(EventTooLong(self.limit));
        }
        out.append(&mut std::mem::take(&mut self.event));
        out.extend_from_slice(rest);
        Ok(())
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.event.len()
    }

    /// Ends the stream. An incomplete event is dropped, because it was not checked, and clients would drop it too.
    /// After a stop, bytes that are still held are passed on.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.event);
        if self.look == Look::Stopped {
            out.extend(rest);
        }
    }

    fn part(
        &mut self,
        part: Part<'_>,
        out: &mut Vec<u8>,
        rewrite: &mut dyn FnMut(&str, &[u8]) -> Verdict,
    ) -> Result<(), EventTooLong> {
        let idle = self.event.is_empty();
        match part {
            Part::Text(text) => {
                if self.line == Place::LineStart {
                    self.line = if idle && text[0] == b':' { Place::Comment } else { Place::Event };
                    self.line_start = self.event.len();
                }
                match self.line {
                    Place::Comment => out.extend_from_slice(text),
                    _ => self.hold_text(text)?,
                }
            }
            Part::End(ending) => match std::mem::take(&mut self.line) {
                Place::LineStart if !idle => {
                    self.hold(ending)?;
                    self.decide(out, rewrite);
                }
                Place::LineStart | Place::Comment => out.extend_from_slice(ending),
                Place::Event => {
                    self.hold(ending)?;
                    self.look_at_line();
                }
            },
            // The `\n` follows its `\r`: to the held event if there is one, otherwise to the output.
            Part::Tail if !idle => self.hold(b"\n")?,
            Part::Mark | Part::Tail => out.extend_from_slice(part.bytes()),
        }
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), EventTooLong> {
        if bytes.len() > self.limit - self.event.len() {
            self.look = Look::Failed;
            self.event = Vec::new();
            return Err(EventTooLong(self.limit));
        }
        self.event.extend_from_slice(bytes);
        Ok(())
    }

    /// Holds more of a line. While an event type is awaited, the first five bytes are enough to recognize a data line,
    /// and the rest of such a line is not held.
    fn hold_text(&mut self, text: &[u8]) -> Result<(), EventTooLong> {
        const DATA: &[u8] = b"data:";
        let missing = DATA.len().saturating_sub(self.event.len() - self.line_start);
        if !matches!(self.look, Look::First(_)) || missing == 0 {
            return self.hold(text);
        }
        let (head, tail) = text.split_at(missing.min(text.len()));
        self.hold(head)?;
        if &self.event[self.line_start..] == DATA {
            self.look = Look::Stopped;
            self.event.extend_from_slice(tail);
            return Ok(());
        }
        self.hold(tail)
    }

    /// Looks for the awaited type in the line that was just completed.
    fn look_at_line(&mut self) {
        let (Look::First(awaited) | Look::Current(awaited)) = self.look else { return };
        let Some(line) = lines(&self.event[self.line_start..]).next() else { return };
        match (line.name, self.look) {
            (b"event", _) if line.value == awaited.as_bytes() => self.look = Look::Current(awaited),
            (b"event", _) | (b"data", Look::First(_)) => self.look = Look::Stopped,
            _ => {}
        }
    }

    /// Decides about the complete event, and passes it on.
    fn decide(&mut self, out: &mut Vec<u8>, rewrite: &mut dyn FnMut(&str, &[u8]) -> Verdict) {
        let (mut kind, mut data) = (b"".as_slice(), None::<Cow<'_, [u8]>>);
        for line in lines(&self.event) {
            match line.name {
                b"event" => kind = line.value,
                b"data" => data = Some(data.map_or(Cow::Borrowed(line.value), |data| join(data, line.value))),
                _ => {}
            }
        }
        let kind = if kind.is_empty() { Cow::Borrowed("message") } else { String::from_utf8_lossy(kind) };
        let data = data.filter(|data| !data.is_empty());
        let verdict = match &data {
            Some(data) => rewrite(&kind, data),
            None => Verdict::Keep,
        };
        let stop = matches!(verdict, Verdict::KeepAndStop | Verdict::ReplaceAndStop(_));
        self.look = match self.look {
            Look::Current(awaited) if data.is_none() => Look::First(awaited),
            Look::Current(_) => Look::Stopped,
            _ if stop => Look::Stopped,
            look => look,
        };
        let begin = out.len();
        match verdict {
            Verdict::Keep | Verdict::KeepAndStop => out.extend_from_slice(&self.event),
            Verdict::Drop => {}
            Verdict::Replace(data) | Verdict::ReplaceAndStop(data) => write_with(&self.event, &data, out),
        }
        if let Some(mark) = &self.id_mark {
            let event = out.split_off(begin);
            write_marked(&event, mark, out);
        }
        self.event.clear();
    }
}

/// Appends `line` to `data`, after a line break.
fn join<'a>(data: Cow<'a, [u8]>, line: &[u8]) -> Cow<'a, [u8]> {
    let mut data = data.into_owned();
    data.push(b'\n');
    data.extend_from_slice(line);
    Cow::Owned(data)
}

/// Writes `event` with new data. The new data lines take the place of the first data line, and have the ending of that
/// line.
fn write_with(event: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let mut is_written = false;
    for line in lines(event) {
        if line.name != b"data" {
            // When line endings are mixed, a removed data line may have been between this `\n` and the `\r` before it.
            // Without another `\n`, the two would become one line ending.
            if line.whole == b"\n" && out.ends_with(b"\r") {
                out.push(b'\n');
            }
            out.extend_from_slice(line.whole);
        } else if !std::mem::replace(&mut is_written, true) {
            write_data(data, line.ending, out);
        }
    }
}

/// Writes `event` with `mark` before its id. An empty id stays empty: it says that there is none any more.
fn write_marked(event: &[u8], mark: &str, out: &mut Vec<u8>) {
    for line in lines(event) {
        if line.name == b"id" && !line.value.is_empty() {
            out.extend([b"id: ", mark.as_bytes(), line.value, line.ending].iter().copied().flatten());
        } else {
            out.extend_from_slice(line.whole);
        }
    }
}

/// Writes `data` as data lines, one for each of its lines. A line break at the end of `data` adds an empty data line.
fn write_data(data: &[u8], ending: &[u8], out: &mut Vec<u8>) {
    let mut is_open = true;
    for line in lines(data) {
        let text = &line.whole[..line.whole.len() - line.ending.len()];
        out.extend([b"data: ", text, ending].iter().copied().flatten());
        is_open = !line.ending.is_empty();
    }
    if is_open {
        out.extend([b"data: ", ending].iter().copied().flatten());
    }
}

#[cfg(test)]
mod tests;
