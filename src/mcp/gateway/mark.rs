//! Marks the ids of requests that servers send to a client, so that the client's answers find their way back.
//!
//! Up to 2025-11-25, servers ask clients (sampling, elicitation, roots), and two servers may use the same id at the same time. A
//! marked id is a string that holds the server and the id that the server has chosen. No table of open requests is needed, so any
//! edge can take the answer.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::splice::Splice;
use crate::config::limits;
use crate::types::hex;

/// The beginning of every marked id.
const BEGIN: &str = "edge-";

/// A short text that stands for one server of a gateway. It depends on the name of the server's route only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerMark([u8; ServerMark::BYTES]);

impl fmt::Debug for ServerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerMark({self})")
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for ServerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl ServerMark {
    /// So many that two servers never have the same mark.
    const BYTES: usize = 8;

    /// The mark of the server whose route has this name.
    pub fn of_route(name: &str) -> Self {
        let digest = digest(&SHA256, name.as_bytes());
        Self(std::array::from_fn(|index| digest.as_ref()[index]))
    }

    /// The mark in its bytes.
    pub fn bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// The mark with these bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// A message of the server as the client may see it. `None`: it needs no change, because it is neither a request of the server nor
    /// the end of one.
    ///
    /// The id of a request and its progress token are marked, and the id in `notifications/cancelled`. Those notifications are
    /// about requests of the server: it cannot cancel those of the client.
    pub fn marked(self, message: &[u8]) -> Option<Vec<u8>> {
        // Nearly all messages are responses and progress notifications, and are not read any further.
        let has = |text: &str| std::str::from_utf8(message).is_ok_and(|message| message.contains(text));
        if !has("\"method\"") {
            return None;
        }
        let mut splice = Splice::new(message)?;
        // It may be written with escapes.
        let method: std::borrow::Cow<'_, str> = serde_json::from_str(splice.method()?).ok()?;
        match (&*method, splice.id()) {
            (_, Some(id)) => {
                splice.set_id(self.mark(id));
                splice.set_meta_progress_token(|token| self.mark(token));
            }
            ("notifications/cancelled", None) => splice.set_request_id(|id| self.mark(id)),
            (_, None) => return None,
        }
        Some(splice.finish())
    }

    /// What stands before the ids of the server's events.
    pub fn event_mark(self) -> String {
        format!("{BEGIN}{self}-")
    }

    /// The server and its own event id in a marked one.
    pub fn of_event(id: &str) -> Option<(Self, &str)> {
        let (server, original) = id.strip_prefix(BEGIN)?.split_at_checked(2 * Self::BYTES)?;
        Some((Self::from_text(server)?, original.strip_prefix('-')?))
    }

    /// The mark that is written as `text`.
    fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    fn mark(self, id: &str) -> String {
        format!("\"{BEGIN}{self}-{}\"", URL_SAFE_NO_PAD.encode(id))
    }

    /// The server and the id that a marked id, written in JSON, stands for.
    fn unmarked(id: &str) -> Option<(Self, String)> {
        let text = id.strip_prefix('"')?.strip_suffix('"')?.strip_prefix(BEGIN)?;
        let (server, original) = text.split_at_checked(2 * Self::BYTES)?;
        let server = Self::from_text(server)?;
        let original = String::from_utf8(URL_SAFE_NO_PAD.decode(original.strip_prefix('-')?).ok()?).ok()?;
        // Only what a server may have written goes back to it.
        let is_id = original.len() <= limits::MESSAGE_ID_BYTES
            && matches!(
                serde_json::from_str(&original),
                Ok(serde_json::Value::String(_) | serde_json::Value::Number(_))
            );
        is_id.then_some((server, original))
    }
}

/// An answer of the client to a marked request, or its progress notification with a marked token: the server that it is for, and
/// the message as that server expects it. `None` when it has no marked id.
pub fn marked_answer(message: &[u8]) -> Option<(ServerMark, Vec<u8>)> {
    let mut splice = Splice::new(message)?;
    let of_id = splice.id().and_then(ServerMark::unmarked);
    if let Some((mark, id)) = of_id {
        splice.set_id(id);
        return Some((mark, splice.finish()));
    }
    let (mark, token) = splice.progress_token().and_then(ServerMark::unmarked)?;
    splice.set_progress_token(token);
    Some((mark, splice.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// Fault 89.
    #[test]
    fn each_server_gets_the_answer_to_its_own_request() {
        let (one, two) = (ServerMark::of_route("/one/"), ServerMark::of_route("/two/"));
        for id in ["1", "\"a\\\"b\"", "-0.5", "\"\""] {
            let request = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"sampling/createMessage","params":{{"_meta":{{"progressToken":{id}}}}}}}"#
            );
            let asked = [one, two].map(|mark| text(mark.marked(request.as_bytes()).expect("a request")));
            assert_ne!(asked[0], asked[1]);
            for (mark, asked) in [one, two].into_iter().zip(asked) {
                let asked: serde_json::Value = serde_json::from_str(&asked).expect("JSON");
                let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"x":1}}}}"#, asked["id"]);
                let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"x":1}}}}"#);
                assert_eq!(marked_answer(answer.as_bytes()), Some((mark, expected.into_bytes())));
                let token = &asked["params"]["_meta"]["progressToken"];
                let progress = |token: &str| {
                    format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
                    )
                };
                let unmarked = marked_answer(progress(&token.to_string()).as_bytes()).expect("it is marked");
                assert_eq!(unmarked, (mark, progress(id).into_bytes()));
            }
        }
    }

    #[test]
    fn events_say_which_server_has_sent_them() {
        let mark = ServerMark::of_route("/one/");
        assert_eq!(ServerMark::of_event(&format!("{}7_1", mark.event_mark())), Some((mark, "7_1")));
        for other in ["", "7", "edge-", "edge-zzzzzzzzzzzzzzzz-1", "edge-0000000000000000"] {
            assert_eq!(ServerMark::of_event(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_about_a_request_of_the_server_stays() {
        let mark = ServerMark::of_route("/one/");
        for same in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"method":"x"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
            "x",
        ] {
            assert_eq!(mark.marked(same.as_bytes()), None, "{same}");
        }
        let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
        let marked = text(mark.marked(cancelled.as_bytes()).expect("it is about a request"));
        let escaped = cancelled.replace("notifications/", "notifications\\/");
        assert!(mark.marked(escaped.as_bytes()).is_some_and(|marked| text(marked).contains("edge-")), "{escaped}");
        assert!(marked.contains("\"requestId\":\"edge-"), "{marked}");
    }

    #[test]
    fn made_up_marks_lead_nowhere() {
        for id in [
            "1",
            "\"edge-\"",
            "\"edge-zzzzzzzzzzzzzzzz-MQ\"",
            "\"edge-0000000000000000-\"",
            "\"edge-0000000000000000-e30\"",
            "null",
        ] {
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            assert_eq!(marked_answer(answer.as_bytes()), None, "{id}");
        }
    }
}
