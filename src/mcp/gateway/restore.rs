//! Puts the id that a client has chosen back into the answer to its request.
//!
//! Clients of the era without sessions share a session at a server that has sessions, and may use the same id at the same time. So
//! the server sees an id of the edge: a long random text, which stands in the answer only once and nowhere else.

use crate::mcp::find::find_either;

/// Replaces one text in an answer that arrives in pieces.
#[derive(Clone, Debug)]
pub struct IdRestore {
    /// What stands in the answer, in JSON.
    token: Box<[u8]>,
    /// What the client gets in its place, in JSON.
    original: Box<[u8]>,
    /// The end of what has come, if it may be the begin of the token.
    held: Vec<u8>,
    is_done: bool,
}

impl IdRestore {
    /// For a request with the id `original`, in JSON.
    pub fn new(original: &str) -> Self {
        let token = format!("\"edge-{:032x}\"", fastrand::u128(..));
        Self { token: token.as_bytes().into(), original: original.as_bytes().into(), held: Vec::new(), is_done: false }
    }

    /// The id that the server gets, in JSON.
    pub fn token(&self) -> String {
        String::from_utf8_lossy(&self.token).into_owned()
    }

    /// Takes a piece, and appends what goes on to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.is_done {
            return out.extend_from_slice(piece);
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        let mut at = 0;
        while let Some(quote) = find_either(&text[at..], b'"', b'"') {
            let begin = at + quote;
            let rest = &text[begin..];
            if rest.starts_with(&self.token) {
                out.extend_from_slice(&text[..begin]);
                out.extend_from_slice(&self.original);
                out.extend_from_slice(&rest[self.token.len()..]);
                self.is_done = true;
                return;
            }
            if self.token.starts_with(rest) {
                // More of it may come.
                out.extend_from_slice(&text[..begin]);
                self.held = rest.to_vec();
                return;
            }
            at = begin + 1;
        }
        out.extend_from_slice(&text);
    }

    /// The answer has ended. Appends what is left to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_comes_back_however_the_answer_is_cut() {
        let restore = IdRestore::new("\"a\\\"b\"");
        let answer = format!(r#"{{"result":{{"text":"edge-"}},"id":{},"jsonrpc":"2.0"}}"#, restore.token());
        let expected = r#"{"result":{"text":"edge-"},"id":"a\"b","jsonrpc":"2.0"}"#;
        for cut in 0..=answer.len() {
            for second in [cut, answer.len().min(cut + 1), answer.len()] {
                let (mut restore, mut out) = (restore.clone(), Vec::new());
                for piece in [&answer[..cut], &answer[cut..second], &answer[second..]] {
                    restore.push(piece.as_bytes(), &mut out);
                }
                restore.finish(&mut out);
                assert_eq!(String::from_utf8_lossy(&out), expected, "{cut}");
            }
        }
        assert_ne!(IdRestore::new("1").token(), restore.token());
    }
}
