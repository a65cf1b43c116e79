//! Reads the messages of clients, and refuses messages that another JSON parser could understand differently.
//!
//! Authorization depends on bodies, so a body that two parsers could read differently is refused. Such bodies have keys
//! of MCP that appear twice, are written with escapes, or differ in case only (Go's parser takes `Name` for `name`);
//! parameters by position; bytes after the message; or text that is not UTF-8. Bodies are not changed: the upstream
//! gets the bytes that were checked here.

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
    /// A batch of at least one message. Only revision 2025-03-26 has batches.
    Batch(Vec<Message<'a>>),
}

/// One message of a client.
#[derive(Debug)]
pub struct Message<'a> {
    /// The id of a request; `None` for notifications and responses.
    pub id: Option<MessageId>,
    /// The protocol version in the message's `_meta`.
    pub meta_version: Option<Cow<'a, str>>,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    /// A response to a request of the server.
    Answer,
    /// A request or a notification.
    Call { method: Cow<'a, str>, target: MessageTarget<'a> },
}

/// What a request or notification is about.
#[derive(Debug)]
enum MessageTarget<'a> {
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
    /// The body is not JSON, is not JSON-RPC 2.0, or could be read in more than one way.
    pub fn read(body: &'a [u8]) -> Result<Self, BadMessage> {
        let text = std::str::from_utf8(body).map_err(|_| BadMessage::unread("the body is not UTF-8"))?;
        match Cursor::new(text).peek() {
            Some(b'[') => batch(text).map(Self::Batch),
            _ => Message::read(text).map(Self::One),
        }
    }

    /// All messages.
    pub fn iter(&self) -> impl Iterator<Item = &Message<'a>> {
        match self {
            Self::One(message) => std::slice::from_ref(message).iter(),
            Self::Batch(messages) => messages.iter(),
        }
    }

    /// The operations of all messages.
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
            Fields::read(cursor, keys, "the message must be an object", |cursor, index| match index {
                // `params` is read in the same pass: a second pass over the arguments would cost as much as the first.
                0 if cursor.peek() == Some(b'n') => cursor.value(),
                0 => cursor.passed(|cursor| {
                    params =
                        Some(Fields::read(cursor, PARAMS, "`params` must be an object", |cursor, _| cursor.value())?);
                    Ok(())
                }),
                _ => cursor.value(),
            })
        })?;
        if version != Some("\"2.0\"") {
            return Err(BadMessage::invalid("`jsonrpc` is not \"2.0\""));
        }
        let error = present(error);
        // An error for a message whose id could not be read has the id `null` (JSON-RPC 2.0 section 5).
        let id = if error.is_some() { present(id) } else { id };
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
                let method = text(method).ok_or_else(|| with_id(BadMessage::invalid("`method` must be a string")))?;
                let (target, meta_version) = match params {
                    Some(params) => read_params(&method, params).map_err(with_id)?,
                    None => (MessageTarget::Nothing, None),
                };
                Ok(Self { id, meta_version, kind: Kind::Call { method, target } })
            }
            (None, Some(_), None) | (None, None, Some(_)) if params.is_none() => {
                Ok(Self { id: None, meta_version: None, kind: Kind::Answer })
            }
            _ => Err(with_id(BadMessage::invalid("the message is not a request, a notification or a response"))),
        }
    }

    /// The method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Call { method, .. } => Some(method),
            Kind::Answer => None,
        }
    }

    /// The value that `Mcp-Name` must have in 2026-07-28: the name, URI or task id that the message is about.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Call {
                target: MessageTarget::Tool(name) | MessageTarget::Prompt(name) | MessageTarget::Task(name),
                ..
            } => Some(name),
            Kind::Call { target: MessageTarget::Resources(uris), method } if method != LISTEN => {
                uris.first().map(|uri| uri.as_ref())
            }
            _ => None,
        }
    }

    /// The operations of the message. A subscription to several resources is one operation for each resource.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let (first, uris) = match &self.kind {
            Kind::Answer => (Some(Operation::Answer), &[][..]),
            Kind::Call { method, target } => match target {
                MessageTarget::Nothing => (Some(Operation::Method(method)), &[][..]),
                MessageTarget::Tool(name) => (Some(Operation::Targeted(method, Target::Tool(name))), &[][..]),
                MessageTarget::Prompt(name) => (Some(Operation::Targeted(method, Target::Prompt(name))), &[][..]),
                MessageTarget::Task(id) => (Some(Operation::Targeted(method, Target::Task(id))), &[][..]),
                MessageTarget::Resources(uris) if uris.is_empty() => (Some(Operation::Method(method)), &[][..]),
                MessageTarget::Resources(uris) => (None, uris.as_slice()),
            },
        };
        let method = self.method().unwrap_or_default();
        first.into_iter().chain(uris.iter().map(move |uri| Operation::Targeted(method, Target::Resource(uri))))
    }
}

const LISTEN: &str = "subscriptions/listen";

/// A member whose value is `null` is absent for every parser. Some clients write those that they do not use.
fn present(value: Option<&str>) -> Option<&str> {
    value.filter(|value| *value != "null")
}

/// The keys of `params` that are read, or that must not appear twice.
const PARAMS: [&str; 7] = ["name", "uri", "taskId", "ref", "notifications", "_meta", "arguments"];

fn read_params<'a>(
    method: &str,
    params: Fields<'a, { PARAMS.len() }>,
) -> Result<(MessageTarget<'a>, Option<Cow<'a, str>>), BadMessage> {
    let [name, uri, task, reference, notifications, meta, _] = params.found()?;
    let string = |value: Option<&'a str>, reason| match value {
        Some(value) => text(value).map(Some).ok_or(BadMessage::invalid(reason)),
        None => Ok(None),
    };
    let resource =
        |uri: Option<Cow<'a, str>>| uri.map_or(MessageTarget::Nothing, |uri| MessageTarget::Resources(vec![uri]));
    let target = match method {
        "tools/call" => {
            string(name, "`params.name` must be a string")?.map_or(MessageTarget::Nothing, MessageTarget::Tool)
        }
        "prompts/get" => {
            string(name, "`params.name` must be a string")?.map_or(MessageTarget::Nothing, MessageTarget::Prompt)
        }
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" | "resources/directory/read" => {
            resource(string(uri, "`params.uri` must be a string")?)
        }
        "completion/complete" => match present(reference) {
            Some(reference) => {
                let [kind, name, uri] = fields(reference, ["type", "name", "uri"], "`params.ref` must be an object")?;
                match kind {
                    Some("\"ref/prompt\"") => string(name, "`params.ref.name` must be a string")?
                        .map_or(MessageTarget::Nothing, MessageTarget::Prompt),
                    Some("\"ref/resource\"") => resource(string(uri, "`params.ref.uri` must be a string")?),
                    _ => {
                        let reason = "`params.ref.type` must be \"ref/prompt\" or \"ref/resource\"";
                        return Err(BadMessage::invalid(reason));
                    }
                }
            }
            None => MessageTarget::Nothing,
        },
        LISTEN => match present(notifications) {
            Some(notifications) => {
                let [resources] =
                    fields(notifications, ["resourceSubscriptions"], "`params.notifications` must be an object")?;
                match present(resources) {
                    Some(uris) => MessageTarget::Resources(resource_uris(uris)?),
                    None => MessageTarget::Nothing,
                }
            }
            None => MessageTarget::Nothing,
        },
        _ if method.starts_with("tasks/") => {
            string(task, "`params.taskId` must be a string")?.map_or(MessageTarget::Nothing, MessageTarget::Task)
        }
        _ => MessageTarget::Nothing,
    };
    let version = match present(meta) {
        Some(meta) => {
            let [version] = fields(meta, [META_VERSION], "`params._meta` must be an object")?;
            string(version, "the protocol version in `_meta` must be a string")?
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

fn resource_uris(value: &str) -> Result<Vec<Cow<'_, str>>, BadMessage> {
    const NOT_A_LIST: &str = "`resourceSubscriptions` is not a list, or has too many items";
    let items = items(value, limits::MESSAGE_RESOURCES, NOT_A_LIST).map_err(|_| BadMessage::invalid(NOT_A_LIST))?;
    let not_a_string = BadMessage::invalid("each item of `resourceSubscriptions` must be a string");
    items.into_iter().map(text).collect::<Option<_>>().ok_or(not_a_string)
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
            (call("null"), r#"Method("tools/call")"#),
            (call(r#"{"name":"get","_meta":null}"#), r#"Targeted("tools/call", Tool("get"))"#),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params": null }"#.into(), r#"Method("ping")"#),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#.into(), "Answer"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#.into(), "Answer"),
            (r#"{"jsonrpc":"2.0","id":1,"result":null}"#.into(), "Answer"),
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
    fn ambiguous_bodies_are_refused() {
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
            call("[]"),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null,"params":{"name":"a"}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":1,"error":null}"#.to_owned(),
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
    fn a_refusal_carries_the_id_if_it_could_be_read() {
        let bad = Messages::read(call(r#"{"name":5}"#).as_bytes()).expect_err("`name` is not a string");
        assert_eq!((bad.code, bad.id.is_some()), (INVALID_REQUEST, true));
        assert_eq!(Messages::read(b"{").expect_err("the body is not JSON").code, PARSE_ERROR);
    }
}
