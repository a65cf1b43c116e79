//! The same scan, byte by byte. The scan in pieces is compared with it.

use super::super::Scanned;

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
    Text(Role),
    /// The byte after a backslash in such a string.
    Escape(Role),
    /// This many digits of a `\uXXXX`.
    Hex(Role, u8),
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

#[derive(Debug, Default)]
pub struct MessageScan {
    state: State,
    level: Level,
    depth: usize,
    member: Member,
    word: Vec<u8>,
    code: u16,
    found: Found,
}

impl MessageScan {
    pub fn push(&mut self, message: &[u8]) {
        for &byte in message {
            self.state = match self.state {
                State::Skip | State::SkipText | State::SkipEscape => self.skip(byte),
                State::Text(role) => self.text(role, byte),
                State::Broken => State::Broken,
                _ => self.step(byte),
            };
        }
    }

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

    fn skip(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::SkipText, b'\\') => return State::SkipEscape,
            (State::SkipText, b'"') if self.depth == 0 => return State::After,
            (State::SkipText, b'"') => return State::Skip,
            (State::SkipText, _) | (State::SkipEscape, _) | (State::Skip, b'"') => return State::SkipText,
            (_, b'{' | b'[') => self.depth += 1,
            (_, b'}' | b']') => self.depth -= 1,
            _ => {}
        }
        if self.depth == 0 { State::After } else { State::Skip }
    }

    fn text(&mut self, role: Role, byte: u8) -> State {
        match byte {
            b'"' => return self.text_ends(role),
            b'\\' => return State::Escape(role),
            _ => self.word.push(byte),
        }
        State::Text(role)
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
                self.value(self.word == b"null", self.word == b"true");
                self.after(byte)
            }
            (state, _) if space => state,
            (State::Start, b'{') => State::Open,
            (State::Open | State::Key, b'"') => {
                self.word.clear();
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
                self.found.progress = self.word == b"notifications/progress";
                State::After
            }
        }
    }

    fn key_ends(&mut self) -> State {
        self.member = match self.level {
            Level::Message if (self.word == b"method") => Member::Method,
            Level::Message if (self.word == b"error") => Member::Error,
            Level::Message if (self.word == b"result") => Member::Result,
            Level::Result if (self.word == b"isError") => Member::IsError,
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
        self.word.clear();
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
            // No word that is looked for contains one of these characters.
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
        // All words that are looked for are ASCII. Any other character only has to differ from them.
        self.word.push(u8::try_from(self.code).ok().filter(u8::is_ascii).unwrap_or(u8::MAX));
        State::Text(role)
    }
}
