//! Events that are judged, and perhaps given other data, before they go on.

use std::borrow::Cow;

use thiserror::Error;

use super::lines::{Lines, Part, lines};

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Keep,
    /// It goes on with this data; its other lines stay as and where they are.
    Replace(Vec<u8>),
    /// As `Keep`, and so does everything after it, unseen.
    KeepAndStop,
    /// As `Replace`, and everything after it goes on as it is, unseen.
    ReplaceAndStop(Vec<u8>),
}

/// An event is longer than an `EventRewrite` may hold. The stream cannot go on: the event was not judged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an event of the stream is longer than {0} bytes")]
pub struct EventTooLong(usize);

/// Passes an event stream on, each event when it is complete and judged; comments and empty lines between events at once.
/// At most one event is held. How the stream is cut into pieces makes no difference to what goes on.
#[derive(Debug)]
pub struct EventRewrite {
    lines: Lines,
    line: Place,
    /// The event so far, byte for byte. Empty: none is under way.
    event: Vec<u8>,
    /// Where the current line begins in `event`.
    line_start: usize,
    limit: usize,
    look: Look,
}

/// Where the next byte of a stream belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    /// A line of an event.
    Event,
    /// A comment between events.
    Comment,
}

/// Which events are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    All,
    /// The first one, if it is of this type.
    First(&'static str),
    /// The one under way, which is of the type that was looked for.
    This(&'static str),
    /// No more.
    Stopped,
    /// An event was too long.
    Failed,
}

impl EventRewrite {
    /// Judges all events until a verdict says to stop. An event of more than `limit` bytes, its line endings included,
    /// is an error.
    pub fn new(limit: usize) -> Self {
        Self {
            lines: Lines::default(),
            line: Place::default(),
            event: Vec::new(),
            line_start: 0,
            limit,
            look: Look::All,
        }
    }

    /// Judges the first event with data, if it is of the type `event_type` (which is not `message`, the type of events
    /// that name none), and stops whatever the verdict. An event that names another type, or has data before it names a
    /// type, is not waited for: it and the rest of the stream go on at once.
    pub fn only_first(event_type: &'static str, limit: usize) -> Self {
        Self { look: Look::First(event_type), ..Self::new(limit) }
    }

    /// Takes the next piece of the stream, and appends to `out` what may go on. `rewrite` judges an event by its type
    /// (`message` when it names none) and its data; events without data, or with nothing in it, are kept without
    /// asking: they carry no message.
    ///
    /// # Errors
    /// `EventTooLong`, from then on for every piece; the events before the long one are in `out`.
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

    /// The stream is over. An incomplete event goes no further: clients drop it, and it was not judged. Once stopped,
    /// nothing is held.
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
                    self.judge(out, rewrite);
                }
                Place::LineStart | Place::Comment => out.extend_from_slice(ending),
                Place::Event => {
                    self.hold(ending)?;
                    self.look_at_line();
                }
            },
            // The line before, or the empty line that ended an event, is out already, or else it is held.
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

    /// Holds more of a line. While the type is awaited, five bytes tell that a data line, however long, need not be.
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

    /// Looks at a line that was just completed, for the type that is awaited.
    fn look_at_line(&mut self) {
        let (Look::First(awaited) | Look::This(awaited)) = self.look else { return };
        let Some(line) = lines(&self.event[self.line_start..]).next() else { return };
        match (line.name, self.look) {
            (b"event", _) if line.value == awaited.as_bytes() => self.look = Look::This(awaited),
            (b"event", _) | (b"data", Look::First(_)) => self.look = Look::Stopped,
            _ => {}
        }
    }

    /// Judges the event, which is complete, and lets it go on.
    fn judge(&mut self, out: &mut Vec<u8>, rewrite: &mut dyn FnMut(&str, &[u8]) -> Verdict) {
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
            Look::This(awaited) if data.is_none() => Look::First(awaited),
            Look::This(_) => Look::Stopped,
            _ if stop => Look::Stopped,
            look => look,
        };
        match verdict {
            Verdict::Keep | Verdict::KeepAndStop => out.extend_from_slice(&self.event),
            Verdict::Replace(data) | Verdict::ReplaceAndStop(data) => write_with(&self.event, &data, out),
        }
        self.event.clear();
    }
}

/// The data of two lines.
fn join<'a>(data: Cow<'a, [u8]>, line: &[u8]) -> Cow<'a, [u8]> {
    let mut data = data.into_owned();
    data.push(b'\n');
    data.extend_from_slice(line);
    Cow::Owned(data)
}

/// Writes `event` with other data: in the place of its first data line, and with that line's ending.
fn write_with(event: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let mut is_written = false;
    for line in lines(event) {
        if line.name != b"data" {
            // In a stream that mixes its line endings a data line that is gone may have stood between these two.
            if line.whole == b"\n" && out.ends_with(b"\r") {
                out.push(b'\n');
            }
            out.extend_from_slice(line.whole);
        } else if !std::mem::replace(&mut is_written, true) {
            write_data(data, line.ending, out);
        }
    }
}

/// Writes `data` as data lines, one for each of its lines: behind a line break at its end there is an empty one.
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
