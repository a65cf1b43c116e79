//! What a client says to an MCP server, read so that no other JSON parser could understand something else.
//!
//! Authorization reads bodies, so everything that two parsers read differently is refused: keys that are there twice,
//! written with escapes, or different in case only (Go's parser takes `Name` for `name`); parameters by position; bytes
//! behind the message; text that is no UTF-8. Nothing is changed: the bytes that were read here are those that go on.

use std::borrow::Cow;

use super::bad_message::BadMessage;
use super::cursor::Cursor;
use super::fields::{Fields, fields, items, text, whole};
use super::jsonrpc::MessageId;
use crate::config::limits;
use crate::types::{Operation, Target};

/// The key of `_meta` that carries the protocol version from 2026-07-28 on.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

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
        let text = std::str::from_utf8(body).map_err(|_| BadMessage::unread("the body is not UTF-8"))?;
        match Cursor::new(text).peek() {
            Some(b'[') => batch(text).map(Self::Batch),
            _ => Message::read(text).map(Self::One),
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
    fn read(message: &'a str) -> Result<Self, BadMessage> {
        let mut params = None;
        let [_, version, id, method, result, error] = whole(message, |cursor| {
            let keys = ["params", "jsonrpc", "id", "method", "result", "error"];
            Fields::read(cursor, keys, |cursor, index| match index {
                // On the way: a second pass over the arguments would cost as much as the first.
                0 => cursor.passed(|cursor| {
                    params = Some(Fields::read(cursor, PARAMS, |cursor, _| cursor.value())?);
                    Ok(())
                }),
                _ => cursor.value(),
            })
        })?;
        if version != Some("\"2.0\"") {
            return Err(BadMessage::invalid("`jsonrpc` is not \"2.0\""));
        }
        let id = match id.map(MessageId::written) {
            Some(None) => {
                return Err(BadMessage::invalid("`id` is neither a string nor a number, or it is too long"));
            }
            Some(Some(id)) => Some(id),
            None => None,
        };
        let with_id = |bad| BadMessage { id: id.clone(), ..bad };
        match (method, result, error) {
            (Some(method), None, None) => {
                let method = text(method).ok_or_else(|| with_id(BadMessage::invalid("`method` is no string")))?;
                let (target, meta_version) = match params {
                    Some(params) => read_params(&method, params).map_err(with_id)?,
                    None => (Named::Nothing, None),
                };
                Ok(Self { id, meta_version, kind: Kind::Call { method, target } })
            }
            (None, Some(_), None) | (None, None, Some(_)) if params.is_none() => {
                Ok(Self { id: None, meta_version: None, kind: Kind::Answer })
            }
            _ => Err(with_id(BadMessage::invalid("it is neither a request, nor a notification, nor a response"))),
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

/// The keys of parameters that matter, or that must not be there twice.
const PARAMS: [&str; 7] = ["name", "uri", "taskId", "ref", "notifications", "_meta", "arguments"];

fn read_params<'a>(
    method: &str,
    params: Fields<'a, { PARAMS.len() }>,
) -> Result<(Named<'a>, Option<Cow<'a, str>>), BadMessage> {
    let [name, uri, task, reference, notifications, meta, _] = params.found()?;
    let string = |value: Option<&'a str>, reason| match value {
        Some(value) => text(value).map(Some).ok_or(BadMessage::invalid(reason)),
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
                match kind {
                    Some("\"ref/prompt\"") => {
                        string(name, "`params.ref.name` is no string")?.map_or(Named::Nothing, Named::Prompt)
                    }
                    Some("\"ref/resource\"") => resource(string(uri, "`params.ref.uri` is no string")?),
                    _ => {
                        let reason = "`params.ref.type` is neither \"ref/prompt\" nor \"ref/resource\"";
                        return Err(BadMessage::invalid(reason));
                    }
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

fn batch(body: &str) -> Result<Vec<Message<'_>>, BadMessage> {
    let items = items(body, limits::BATCH_MESSAGES, "the batch has too many messages")?;
    if items.is_empty() {
        return Err(BadMessage::invalid("the batch is empty"));
    }
    let messages: Vec<_> = items.into_iter().map(Message::read).collect::<Result<_, _>>()?;
    if messages.iter().any(|message| message.method() == Some("initialize")) {
        return Err(BadMessage::invalid("`initialize` cannot be part of a batch"));
    }
    Ok(messages)
}

fn texts(value: &str) -> Result<Vec<Cow<'_, str>>, BadMessage> {
    const NO_LIST: &str = "`resourceSubscriptions` is no list, or too long";
    let items = items(value, limits::MESSAGE_RESOURCES, NO_LIST).map_err(|_| BadMessage::invalid(NO_LIST))?;
    let no_text = BadMessage::invalid("a resource of `resourceSubscriptions` is no string");
    items.into_iter().map(text).collect::<Option<_>>().ok_or(no_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::jsonrpc::{INVALID_REQUEST, PARSE_ERROR};

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
