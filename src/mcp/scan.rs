//! What a JSON-RPC message is, found out while it goes by.

use super::find::find_either;

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A response with a result; `is_error` is `result.isError`, with which a tool says that it failed.
    Result { is_error: bool },
    /// A response with an error.
    Error,
    /// The notification `notifications/progress`.
    Progress,
    /// Any other request or notification.
    Request,
    /// A batch, not JSON, not JSON-RPC, cut off, or with a member twice whose value matters here.
    Unknown,
}

/// Tells what a message is that comes by in pieces, without keeping it: the memory is constant, whatever the message.
///
/// It is made for outcomes and metrics, not for policy: it follows strings and brackets, and does not check numbers,
/// the kind of a bracket in what it skips, or UTF-8. How the message is cut into pieces makes no difference.
///
/// A `null` is no method and no error (some servers write all members of a response); it is a result.
#[derive(Debug, Default)]
pub struct MessageScan {
    state: State,
    level: Level,
    /// Brackets open within the member that is being skipped.
    depth: usize,
    /// The member of the watched object that is being read.
    member: Member,
    word: Word,
    /// The `\uXXXX` that is being read.
    code: u16,
    found: Found,
}

/// What comes next.
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
    Text(Role),
    /// What a backslash makes of it.
    Escape(Role),
    /// So many hexadecimal digits.
    Hex(Role, u8),
    /// More of an array or object that does not matter.
    Skip,
    /// More of a string that does not matter, or is in something that does not.
    SkipText,
    /// The byte behind a backslash in it.
    SkipEscape,
    /// A comma, or the end of a watched object.
    After,
    /// Nothing: the message was complete.
    End,
    /// Whatever it is, it no longer matters.
    Broken,
}

/// What a string that is read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
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

/// The keys that matter; each is a bit of `Found::members`.
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
    /// The members that were there, as bits.
    members: u8,
    method: bool,
    progress: bool,
    error: bool,
    result: bool,
    is_error: bool,
}

impl MessageScan {
    /// Looks at the next piece of the message.
    pub fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((byte, after)) = rest.split_first() {
            rest = match self.state {
                State::Skip | State::SkipText | State::SkipEscape => self.skip(rest),
                State::Text(_) => self.text(rest),
                State::Broken => return,
                _ => {
                    self.state = self.step(*byte);
                    after
                }
            };
        }
    }

    /// What the message was. The next piece begins another one.
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

    /// Goes through what does not matter, which is nearly all of a long message, and returns what is behind it.
    fn skip<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let mut rest = piece;
        while let Some((byte, after)) = rest.split_first() {
            match (self.state, byte) {
                (State::SkipText, _) => {
                    let Some(end) = find_either(rest, b'"', b'\\') else { return &[] };
                    self.state = match rest[end] {
                        b'\\' => State::SkipEscape,
                        _ if self.depth > 0 => State::Skip,
                        _ => State::After,
                    };
                    rest = &rest[end + 1..];
                    continue;
                }
                // The digits of \uXXXX are as good as any other bytes.
                (State::SkipEscape, _) => self.state = State::SkipText,
                (State::Skip, b'"') => self.state = State::SkipText,
                (State::Skip, b'{' | b'[') => self.depth += 1,
                (State::Skip, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.state = State::After;
                    }
                }
                (State::Skip, _) => {}
                _ => return rest,
            }
            rest = after;
        }
        rest
    }

    /// Reads the plain bytes of a string and the one behind them.
    fn text<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let State::Text(role) = self.state else { return piece };
        let end = find_either(piece, b'"', b'\\').unwrap_or(piece.len());
        let (plain, rest) = piece.split_at(end);
        self.word.extend(plain);
        let Some((byte, after)) = rest.split_first() else { return rest };
        self.state = if *byte == b'"' { self.text_ends(role) } else { State::Escape(role) };
        after
    }

    fn step(&mut self, byte: u8) -> State {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match (self.state, byte) {
            (State::Escape(role), _) => self.escape(role, byte),
            (State::Hex(role, left), _) => self.hex(role, left, byte),
            (State::Literal, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.') => {
                self.word.push(byte);
                State::Literal
            }
            (State::Literal, _) => {
                self.value(self.word.is(b"null"), self.word.is(b"true"));
                self.after(byte)
            }
            (state, _) if space => state,
            (State::Start, b'{') => State::Open,
            (State::Open | State::Key, b'"') => {
                self.word = Word::default();
                State::Text(Role::Key)
            }
            (State::Open, b'}') => self.object_ends(),
            (State::Colon, b':') => State::Value,
            (State::Value, _) => self.value_begins(byte),
            (State::After, _) => self.after(byte),
            _ => State::Broken,
        }
    }

    fn text_ends(&mut self, role: Role) -> State {
        match role {
            Role::Key => self.key_ends(),
            Role::Method => {
                self.value(false, false);
                self.found.progress = self.word.is(b"notifications/progress");
                State::After
            }
        }
    }

    fn key_ends(&mut self) -> State {
        self.member = match self.level {
            Level::Message if self.word.is(b"method") => Member::Method,
            Level::Message if self.word.is(b"error") => Member::Error,
            Level::Message if self.word.is(b"result") => Member::Result,
            Level::Result if self.word.is(b"isError") => Member::IsError,
            _ => Member::Other,
        };
        let bit = self.member as u8;
        if self.found.members & bit != 0 {
            return State::Broken;
        }
        self.found.members |= bit;
        State::Colon
    }

    fn value_begins(&mut self, byte: u8) -> State {
        self.word = Word::default();
        match byte {
            b'"' if self.member == Member::Method => return State::Text(Role::Method),
            b'"' | b'{' | b'[' => self.value(false, false),
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                self.word.push(byte);
                return State::Literal;
            }
            _ => return State::Broken,
        }
        match byte {
            b'"' => State::SkipText,
            b'{' if self.member == Member::Result => {
                self.level = Level::Result;
                State::Open
            }
            _ => {
                self.depth = 1;
                State::Skip
            }
        }
    }

    /// Notes the value of the current member.
    fn value(&mut self, is_null: bool, is_true: bool) {
        match self.member {
            Member::Method => self.found.method = !is_null,
            Member::Error => self.found.error = !is_null,
            Member::Result => self.found.result = true,
            Member::IsError => self.found.is_error = is_true,
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

    fn escape(&mut self, role: Role, byte: u8) -> State {
        self.code = 0;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            // None of these is in a word that is looked for.
            b'b' | b'f' | b'n' | b'r' | b't' => 0,
            b'u' => return State::Hex(role, 4),
            _ => return State::Broken,
        };
        self.word.push(plain);
        State::Text(role)
    }

    fn hex(&mut self, role: Role, left: u8, byte: u8) -> State {
        let Some(digit) = char::from(byte).to_digit(16) else { return State::Broken };
        self.code = self.code << 4 | digit as u16;
        if left > 1 {
            return State::Hex(role, left - 1);
        }
        // All words that are looked for are ASCII; another character only has to differ from them.
        self.word.push(u8::try_from(self.code).ok().filter(u8::is_ascii).unwrap_or(u8::MAX));
        State::Text(role)
    }
}

/// A short string; of a longer one only that it is longer.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bytes: [u8; Self::BYTES],
    length: usize,
}

impl Word {
    /// Enough for the longest word that is looked for, `notifications/progress`.
    const BYTES: usize = 32;

    fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let length = self.length.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.length..length) {
            place.copy_from_slice(bytes);
        }
        self.length = length;
    }

    fn is(&self, word: &[u8]) -> bool {
        self.bytes.get(..self.length) == Some(word)
    }
}

#[cfg(test)]
mod tests;
