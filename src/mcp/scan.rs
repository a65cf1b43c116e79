//! Finds out what a JSON-RPC message is, while the message passes through the edge.

mod word;

use super::find::find_either;
use word::Word;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A response with a result. `is_error` is `result.isError`, with which a tool reports that it failed.
    Result { is_error: bool },
    /// A response with an error.
    Error,
    /// The notification `notifications/progress`.
    Progress,
    /// Any other request or notification.
    Request,
    /// A batch, or a message that is not JSON, not JSON-RPC, not complete, or has one of the members read here twice.
    Unknown,
}

/// Finds out what a message is that arrives in pieces. It does not keep the message, so it needs a constant amount of
/// memory.
///
/// The scan is for outcomes and metrics, not for policy: it follows strings and brackets, but does not check numbers,
/// the kind of a bracket in skipped values, or UTF-8. How the message is divided into pieces makes no difference.
///
/// A `null` does not count as a method or an error, because some servers write all members of a response. A `null`
/// counts as a result.
#[derive(Debug, Default)]
pub struct MessageScan {
    state: State,
    level: Level,
    /// How many brackets are open in the member that is being skipped.
    depth: usize,
    /// The member of the watched object that is being read.
    member: Member,
    role: Role,
    word: Word,
    /// The `\uXXXX` that is being read, and how many of its digits are still to come.
    code: u16,
    digits: u8,
    found: Found,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The message.
    #[default]
    Start,
    /// The first key of a watched object, or its end.
    Open,
    /// A key of a watched object.
    Key,
    /// The colon after a key.
    Colon,
    /// The value after a colon.
    Value,
    /// More of a number, `true`, `false` or `null` in a watched object.
    Literal,
    /// More of a string that is read.
    Text,
    /// The byte after a backslash in such a string.
    Escape,
    /// The digits of a `\uXXXX`.
    Hex,
    /// More of an array or object that is skipped.
    Skip,
    /// More of a string that is skipped, or that is inside a skipped value.
    SkipText,
    /// The byte after a backslash in a skipped string.
    SkipEscape,
    /// A comma, or the end of a watched object.
    After,
    /// Nothing: the message is complete.
    End,
    /// Anything: the message cannot be read, so the rest of it is ignored.
    Broken,
}

/// What a string that is read is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Key,
    Method,
}

/// The two objects whose keys are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Message,
    Result,
}

/// The keys whose values are read; each is a bit of `Found::members`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Member {
    #[default]
    Other = 0,
    Method = 1,
    Error = 2,
    Result = 4,
    IsError = 8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// The members that were found, as bits.
    members: u8,
    method: bool,
    progress: bool,
    error: bool,
    result: bool,
    is_error: bool,
}

impl MessageScan {
    /// Scans the next piece of the message.
    pub fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let [byte, after @ ..] = rest {
            rest = match self.state {
                State::Open | State::Key if *byte == b'"' => self.members(after),
                State::Value => self.value_begins(*byte, after),
                State::Literal => self.literal(rest),
                State::Text => self.text(rest),
                State::Skip => self.skip(rest),
                State::SkipText => self.skip_text(rest),
                State::Broken => return,
                _ => {
                    self.state = self.step(*byte);
                    after
                }
            };
        }
    }

    /// Reads a key after its opening quote, and further members as long as nothing unusual comes. Returns what follows.
    fn members<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let mut rest = piece;
        loop {
            (self.role, self.word.length) = (Role::Key, 0);
            rest = self.text(rest);
            let (State::Colon, [b':', byte, after @ ..]) = (self.state, rest) else { return rest };
            rest = self.value_begins(*byte, after);
            rest = match (self.state, rest) {
                (State::After, [b',', b'"', after @ ..]) | (State::Open, [b'"', after @ ..]) => after,
                _ => return rest,
            };
        }
    }

    /// Ends the message, and returns what it was. The next piece begins another message.
    pub fn finish(&mut self) -> Scanned {
        let Self { state, found, .. } = std::mem::take(self);
        match found {
            _ if state != State::End => Scanned::Unknown,
            Found { progress: true, .. } => Scanned::Progress,
            Found { method: true, .. } => Scanned::Request,
            Found { error: true, .. } => Scanned::Error,
            Found { result: true, is_error, .. } => Scanned::Result { is_error },
            _ => Scanned::Unknown,
        }
    }

    /// Skips an array or object, and returns what follows it. Nearly all of a long message is skipped in this way.
    fn skip<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let (mut rest, mut depth) = (piece, self.depth);
        self.state = State::Skip;
        while let [byte, after @ ..] = rest {
            rest = after;
            match byte {
                b'"' => match past_text(rest) {
                    Ok(after) => rest = after,
                    Err(state) => {
                        (self.state, rest) = (state, &[]);
                        break;
                    }
                },
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.state = State::After;
                        break;
                    }
                }
                _ => {}
            }
        }
        self.depth = depth;
        rest
    }

    /// Skips a string, and returns what follows it.
    fn skip_text<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let past = past_text(piece);
        self.state = match past {
            Err(state) => state,
            Ok(_) if self.depth > 0 => State::Skip,
            Ok(_) => State::After,
        };
        past.unwrap_or_default()
    }

    /// Reads more of a string, up to and including a quote or backslash. A string in one piece is not copied.
    #[inline(always)]
    fn text<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let end = find_either(piece, b'"', b'\\');
        let (plain, rest) = piece.split_at(end.unwrap_or(piece.len()));
        let [byte, after @ ..] = rest else {
            self.word.extend(plain);
            self.state = State::Text;
            return rest;
        };
        self.state = if *byte == b'\\' {
            self.word.extend(plain);
            State::Escape
        } else if self.word.length == 0 {
            self.text_ends(plain)
        } else {
            self.word.extend(plain);
            let word = self.word;
            self.text_ends(word.text())
        };
        after
    }

    /// Reads more of a number or word, but not the byte after it.
    #[inline(always)]
    fn literal<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let is_in_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let end = piece.iter().position(|byte| !is_in_it(byte)).unwrap_or(piece.len());
        let (plain, rest) = piece.split_at(end);
        if let Member::Other | Member::Result = self.member {
            self.value(plain);
        } else {
            self.word.extend(plain);
            let word = self.word;
            self.value(word.text());
        }
        self.state = if rest.is_empty() { State::Literal } else { State::After };
        rest
    }

    fn step(&mut self, byte: u8) -> State {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match (self.state, byte) {
            (State::Escape, _) => self.escape(byte),
            (State::Hex, _) => self.hex(byte),
            (State::SkipEscape, _) => State::SkipText,
            (state, _) if space => state,
            (State::Start, b'{') => State::Open,
            (State::Open, b'}') => self.object_ends(),
            (State::Colon, b':') => State::Value,
            (State::After, _) => self.after(byte),
            _ => State::Broken,
        }
    }

    #[inline(always)]
    fn text_ends(&mut self, text: &[u8]) -> State {
        match self.role {
            Role::Key => self.key_ends(text),
            Role::Method => {
                self.value(b"");
                self.found.progress = text == b"notifications/progress";
                State::After
            }
        }
    }

    #[inline(always)]
    fn key_ends(&mut self, key: &[u8]) -> State {
        self.member = match (key, self.level) {
            (b"result", Level::Message) => Member::Result,
            (b"error", Level::Message) => Member::Error,
            (b"method", Level::Message) => Member::Method,
            (b"isError", Level::Result) => Member::IsError,
            _ => {
                self.member = Member::Other;
                return State::Colon;
            }
        };
        let bit = self.member as u8;
        if self.found.members & bit != 0 {
            return State::Broken;
        }
        self.found.members |= bit;
        State::Colon
    }

    /// Reads `byte`, which begins a value or is white space before one, and more of the value.
    #[inline(always)]
    fn value_begins<'a>(&mut self, byte: u8, after: &'a [u8]) -> &'a [u8] {
        self.word.length = 0;
        match byte {
            b'"' if self.member == Member::Method => {
                self.role = Role::Method;
                return self.text(after);
            }
            b'"' => {
                self.value(b"");
                return self.skip_text(after);
            }
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                self.word.push(byte);
                return self.literal(after);
            }
            b'{' if self.member == Member::Result => {
                self.value(b"");
                (self.level, self.state) = (Level::Result, State::Open);
            }
            b'{' | b'[' => {
                self.value(b"");
                self.depth = 1;
                return self.skip(after);
            }
            b' ' | b'\t' | b'\n' | b'\r' => self.state = State::Value,
            _ => self.state = State::Broken,
        }
        after
    }

    /// Notes the value of the current member. `word` is empty when the value is not a number or word.
    fn value(&mut self, word: &[u8]) {
        match self.member {
            Member::Method => self.found.method = word != b"null",
            Member::Error => self.found.error = word != b"null",
            Member::Result => self.found.result = true,
            Member::IsError => self.found.is_error = word == b"true",
            Member::Other => {}
        }
    }

    fn after(&mut self, byte: u8) -> State {
        match byte {
            b',' => State::Key,
            b'}' => self.object_ends(),
            b' ' | b'\t' | b'\n' | b'\r' => State::After,
            _ => State::Broken,
        }
    }

    fn object_ends(&mut self) -> State {
        match std::mem::take(&mut self.level) {
            Level::Message => State::End,
            Level::Result => State::After,
        }
    }

    fn escape(&mut self, byte: u8) -> State {
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            // No word that is looked for contains one of these characters.
            b'b' | b'f' | b'n' | b'r' | b't' => 0,
            b'u' => {
                (self.code, self.digits) = (0, 4);
                return State::Hex;
            }
            _ => return State::Broken,
        };
        self.word.push(plain);
        State::Text
    }

    fn hex(&mut self, byte: u8) -> State {
        let Some(digit) = char::from(byte).to_digit(16) else { return State::Broken };
        self.code = self.code << 4 | digit as u16;
        self.digits -= 1;
        if self.digits > 0 {
            return State::Hex;
        }
        // All words that are looked for are ASCII. Any other character only has to differ from them.
        self.word.push(u8::try_from(self.code).ok().filter(u8::is_ascii).unwrap_or(u8::MAX));
        State::Text
    }
}

/// What follows the string that `piece` begins in. When the string does not end in `piece`, the state after `piece`.
#[inline(always)]
fn past_text(piece: &[u8]) -> Result<&[u8], State> {
    let mut rest = piece;
    while let Some(end) = find_either(rest, b'"', b'\\') {
        if rest[end] == b'"' {
            return Ok(&rest[end + 1..]);
        }
        // The digits of \uXXXX are skipped like any other bytes.
        rest = rest.get(end + 2..).ok_or(State::SkipEscape)?;
    }
    Err(State::SkipText)
}

#[cfg(test)]
mod tests;
