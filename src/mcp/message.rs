//! What a client says to an MCP server, read so that no other JSON parser could understand something else.
//!
//! Authorization reads bodies, so everything that two parsers read differently is refused: keys that are there twice,
//! written with escapes, or different in case only (Go's parser takes `Name` for `name`); parameters by position; bytes
//! behind the message; text that is no UTF-8. Nothing is changed: the bytes that were read here are those that go on.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::jsonrpc::{INVALID_REQUEST, MessageId, PARSE_ERROR};
use super::members::is_same_member;
use crate::config::limits;
use crate::types::{Operation, Target};

/// The key of `_meta` that carries the protocol version from 2026-07-28 on.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// A body that is not what an MCP client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// -32700 or -32600 (JSON-RPC 2.0 section 5.1).
    pub code: i32,
    /// What is wrong.
    pub reason: &'static str,
    /// The id of the message, as far as it could be read.
    pub id: Option<MessageId>,
}

/// The messages of one body.
#[derive(Debug)]
pub enum Messages<'a> {
    /// One message.
    One(Message<'a>),
    /// A batch, which only 2025-03-26 knows; it is not empty.
    Batch(Vec<Message<'a>>),
}

/// One message of a client.
#[derive(Debug)]
pub struct Message<'a> {
    /// The id of a request; `None` for notifications and answers.
    pub id: Option<MessageId>,
    /// The protocol version that its `_meta` claims.
    pub meta_version: Option<Cow<'a, str>>,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    Answer,
    Call { method: Cow<'a, str>, target: Named<'a> },
}

#[derive(Debug)]
enum Named<'a> {
    Nothing,
    Tool(Cow<'a, str>),
    Prompt(Cow<'a, str>),
    Resources(Vec<Cow<'a, str>>),
    Task(Cow<'a, str>),
}

impl<'a> Messages<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// It is not JSON, not JSON-RPC 2.0, or could be read in more than one way.
    pub fn read(body: &'a [u8]) -> Result<Self, BadMessage> {
        let parse = |reason| BadMessage { code: PARSE_ERROR, reason, id: None };
        let text = std::str::from_utf8(body).map_err(|_| parse("the body is not UTF-8"))?;
        if !is_shallow(text) {
            return Err(parse("the body is nested more than 64 deep"));
        }
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| parse("the body is not one JSON value"))?;
        match raw.get().as_bytes().first() {
            Some(b'[') => batch(raw).map(Self::Batch),
            _ => Message::read(raw).map(Self::One),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Message<'a>> {
        match self {
            Self::One(message) => std::slice::from_ref(message).iter(),
            Self::Batch(messages) => messages.iter(),
        }
    }

    /// All that they want to do.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        self.iter().flat_map(Message::operations)
    }

    /// The message, unless it is a batch.
    pub fn single(&self) -> Option<&Message<'a>> {
        match self {
            Self::One(message) => Some(message),
            Self::Batch(_) => None,
        }
    }
}

impl<'a> Message<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, BadMessage> {
        let invalid = |reason| BadMessage { code: INVALID_REQUEST, reason, id: None };
        let [version, id, method, params, result, error] =
            fields(raw, ["jsonrpc", "id", "method", "params", "result", "error"]).map_err(invalid)?;
        if version.map(RawValue::get) != Some("\"2.0\"") {
            return Err(invalid("`jsonrpc` is not \"2.0\""));
        }
        let id = match id.map(|id| MessageId::written(id.get())) {
            Some(None) => return Err(invalid("`id` is neither a string nor a number, or it is too long")),
            Some(Some(id)) => Some(id),
            None => None,
        };
        let invalid = |reason| BadMessage { code: INVALID_REQUEST, reason, id: id.clone() };
        match (method, result, error) {
            (Some(method), None, None) => {
                let method = text(method).ok_or_else(|| invalid("`method` is no string"))?;
                let (target, meta_version) = match params {
                    Some(params) => read_params(&method, params).map_err(invalid)?,
                    None => (Named::Nothing, None),
                };
                Ok(Self { id, meta_version, kind: Kind::Call { method, target } })
            }
            (None, Some(_), None) | (None, None, Some(_)) if params.is_none() => {
                Ok(Self { id: None, meta_version: None, kind: Kind::Answer })
            }
            _ => Err(invalid("it is neither a request, nor a notification, nor a response")),
        }
    }

    /// The method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Call { method, .. } => Some(method),
            Kind::Answer => None,
        }
    }

    /// What `Mcp-Name` has to say in 2026-07-28: the name, URI or task id that the message is about.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Call { target: Named::Tool(name) | Named::Prompt(name) | Named::Task(name), .. } => Some(name),
            Kind::Call { target: Named::Resources(uris), method } if method != LISTEN => {
                uris.first().map(|uri| uri.as_ref())
            }
            _ => None,
        }
    }

    /// What it wants to do; a subscription to several resources is as many operations.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let (first, uris) = match &self.kind {
            Kind::Answer => (Some(Operation::Answer), &[][..]),
            Kind::Call { method, target } => match target {
                Named::Nothing => (Some(Operation::Method(method)), &[][..]),
                Named::Tool(name) => (Some(Operation::Targeted(method, Target::Tool(name))), &[][..]),
                Named::Prompt(name) => (Some(Operation::Targeted(method, Target::Prompt(name))), &[][..]),
                Named::Task(id) => (Some(Operation::Targeted(method, Target::Task(id))), &[][..]),
                Named::Resources(uris) if uris.is_empty() => (Some(Operation::Method(method)), &[][..]),
                Named::Resources(uris) => (None, uris.as_slice()),
            },
        };
        let method = self.method().unwrap_or_default();
        first.into_iter().chain(uris.iter().map(move |uri| Operation::Targeted(method, Target::Resource(uri))))
    }
}

const LISTEN: &str = "subscriptions/listen";

fn read_params<'a>(method: &str, params: &'a RawValue) -> Result<(Named<'a>, Option<Cow<'a, str>>), &'static str> {
    let [name, uri, task, reference, notifications, meta, _] =
        fields(params, ["name", "uri", "taskId", "ref", "notifications", "_meta", "arguments"])?;
    let string = |value: Option<&'a RawValue>, reason| match value {
        Some(value) => text(value).map(Some).ok_or(reason),
        None => Ok(None),
    };
    let resource = |uri: Option<Cow<'a, str>>| uri.map_or(Named::Nothing, |uri| Named::Resources(vec![uri]));
    let target = match method {
        "tools/call" => string(name, "`params.name` is no string")?.map_or(Named::Nothing, Named::Tool),
        "prompts/get" => string(name, "`params.name` is no string")?.map_or(Named::Nothing, Named::Prompt),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" | "resources/directory/read" => {
            resource(string(uri, "`params.uri` is no string")?)
        }
        "completion/complete" => match reference {
            Some(reference) => {
                let [kind, name, uri] = fields(reference, ["type", "name", "uri"])?;
                match kind.map(RawValue::get) {
                    Some("\"ref/prompt\"") => {
                        string(name, "`params.ref.name` is no string")?.map_or(Named::Nothing, Named::Prompt)
                    }
                    Some("\"ref/resource\"") => resource(string(uri, "`params.ref.uri` is no string")?),
                    _ => return Err("`params.ref.type` is neither \"ref/prompt\" nor \"ref/resource\""),
                }
            }
            None => Named::Nothing,
        },
        LISTEN => match notifications {
            Some(notifications) => {
                let [resources] = fields(notifications, ["resourceSubscriptions"])?;
                match resources {
                    Some(uris) => Named::Resources(texts(uris)?),
                    None => Named::Nothing,
                }
            }
            None => Named::Nothing,
        },
        _ if method.starts_with("tasks/") => {
            string(task, "`params.taskId` is no string")?.map_or(Named::Nothing, Named::Task)
        }
        _ => Named::Nothing,
    };
    let version = match meta {
        Some(meta) => {
            let [version] = fields(meta, [META_VERSION])?;
            string(version, "the protocol version in `_meta` is no string")?
        }
        None => None,
    };
    Ok((target, version))
}

fn batch(raw: &RawValue) -> Result<Vec<Message<'_>>, BadMessage> {
    let invalid = |reason| BadMessage { code: INVALID_REQUEST, reason, id: None };
    let items = items(raw, limits::BATCH_MESSAGES).ok_or_else(|| invalid("the batch has too many messages"))?;
    if items.is_empty() {
        return Err(invalid("the batch is empty"));
    }
    let messages: Vec<_> = items.into_iter().map(Message::read).collect::<Result<_, _>>()?;
    if messages.iter().any(|message| message.method() == Some("initialize")) {
        return Err(invalid("`initialize` cannot be part of a batch"));
    }
    Ok(messages)
}

/// True when objects and arrays stand in each other at most [`limits::MESSAGE_DEPTH`] deep.
fn is_shallow(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limits::MESSAGE_DEPTH {
                    return false;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The string that `raw` is.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

fn texts(raw: &RawValue) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let items = items(raw, limits::MESSAGE_RESOURCES).ok_or("`resourceSubscriptions` is no list, or too long")?;
    items.into_iter().map(|item| text(item).ok_or("a resource of `resourceSubscriptions` is no string")).collect()
}

/// The items of the array `raw`; `None` when it is none or has more than `most`.
fn items(raw: &RawValue, most: usize) -> Option<Vec<&RawValue>> {
    struct Items(usize);
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = array.next_element()? {
                if items.len() == self.0 {
                    return Err(de::Error::custom("too long"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Items(most)).ok()
}

/// The values of the keys `wanted` in the object `raw`.
fn fields<'a, const N: usize>(raw: &'a RawValue, wanted: [&str; N]) -> Result<[Option<&'a RawValue>; N], &'static str> {
    if !raw.get().starts_with('{') {
        return Err("there is something else where an object belongs");
    }
    let mut found = Fields { wanted: &wanted, values: [None; N], clash: None };
    // It is well-formed, as a part of a value that was read: only the visitor can fail.
    let read = serde_json::Deserializer::from_str(raw.get()).deserialize_map(&mut found);
    match (read, found.clash) {
        (Ok(()), _) => Ok(found.values),
        (Err(_), Some(reason)) => Err(reason),
        (Err(_), None) => Err("an object cannot be read"),
    }
}

struct Fields<'w, 'de, const N: usize> {
    wanted: &'w [&'w str; N],
    values: [Option<&'de RawValue>; N],
    clash: Option<&'static str>,
}

impl<'de, const N: usize> Visitor<'de> for &mut Fields<'_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeyOf(self.wanted))? {
            match key {
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
                Key::Wanted(index) if self.values[index].is_none() => self.values[index] = Some(map.next_value()?),
                Key::Wanted(_) => {
                    self.clash = Some("a key is there twice");
                    return Err(de::Error::custom("twice"));
                }
                Key::Lookalike => {
                    self.clash = Some("a key differs from one of MCP's in case or escapes only");
                    return Err(de::Error::custom("lookalike"));
                }
            }
        }
        Ok(())
    }
}

enum Key {
    Wanted(usize),
    /// Some parsers would take it for a wanted one.
    Lookalike,
    Other,
}

#[derive(Clone, Copy)]
struct KeyOf<'w>(&'w [&'w str]);

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyOf<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    /// Written without escapes.
    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Key, E> {
        match self.0.iter().position(|wanted| *wanted == key) {
            Some(index) => Ok(Key::Wanted(index)),
            None => self.visit_str(key),
        }
    }

    /// Written with escapes, or not wanted.
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
        let alike = self.0.iter().any(|wanted| is_same_member(key, wanted));
        Ok(if alike { Key::Lookalike } else { Key::Other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(body: &str) -> Result<Vec<String>, i32> {
        let messages = Messages::read(body.as_bytes()).map_err(|bad| bad.code)?;
        Ok(messages.operations().map(|operation| format!("{operation:?}")).collect())
    }

    fn call(params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
    }

    #[test]
    fn operations_are_read() {
        for (body, expected) in [
            (call(r#"{"name":"get","arguments":{"name":"x","Name":"y"}}"#), r#"Targeted("tools/call", Tool("get"))"#),
            (call(r#"{"name":"g\u0065t"}"#), r#"Targeted("tools/call", Tool("get"))"#),
            (call("{}"), r#"Method("tools/call")"#),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into(), r#"Method("notifications/initialized")"#),
            (r#" {"jsonrpc":"2.0","id":"a","result":{}} "#.into(), "Answer"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}"#.into(),
                r#"Targeted("completion/complete", Prompt("p"))"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t"}}"#.into(),
                r#"Targeted("tasks/get", Task("t"))"#,
            ),
        ] {
            assert_eq!(operations(&body), Ok(vec![expected.to_owned()]), "{body}");
        }
        let listen = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["a","b"]}}}"#;
        assert_eq!(operations(listen).map(|operations| operations.len()), Ok(2));
        let batch = format!("[{},{}]", call(r#"{"name":"a"}"#), call(r#"{"name":"b"}"#));
        assert_eq!(operations(&batch).map(|operations| operations.len()), Ok(2));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
            "[".repeat(70),
            "]".repeat(70)
        );
        let bomb = "[".repeat(1 << 20);
        let many = format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#; 101].join(","));
        let long_id = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(2_000));
        for body in [
            call(r#"{"name":"a","name":"b"}"#),
            call(r#"{"name":"a","Name":"b"}"#),
            call(r#"{"NAME":"a"}"#),
            call(r#"{"n\u0061me":"a"}"#),
            call(r#"["a"]"#),
            call(r#"{"name":5}"#),
            call(r#"{"name":"\ud800"}"#),
            call(r#"{"name":"a","_meta":[]}"#),
            call(r#"{"name":"a","argument\u017f":{}}"#),
            call(r#"{"name":"a","taſkId":""}"#),
            r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#.into(),
            r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#.into(),
            r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"method":1}"#.into(),
            r#"{"id":1,"method":"a"}"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"method":"a"} x"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"method":"a"}{}"#.into(),
            r#"{"jsonrpc":"2.0","id":NaN,"method":"a"}"#.into(),
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}".into(),
            r#"[{"jsonrpc":"2.0","id":1,"method":"initialize"}]"#.into(),
            "[]".into(),
            "[1]".into(),
            "1".into(),
            String::new(),
            deep,
            bomb,
            many,
            long_id,
        ] {
            assert!(operations(&body).is_err(), "{}", &body[..body.len().min(200)]);
        }
        let utf16: Vec<u8> = call("{}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(Messages::read(&utf16).is_err());
        assert!(Messages::read(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_refusal_carries_the_id_where_it_is_known() {
        let bad = Messages::read(call(r#"{"name":5}"#).as_bytes()).expect_err("no string");
        assert_eq!((bad.code, bad.id.is_some()), (INVALID_REQUEST, true));
        assert_eq!(Messages::read(b"{").expect_err("no JSON").code, PARSE_ERROR);
    }
}
