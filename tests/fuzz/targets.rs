//! Checks that must hold for any input. The fuzz targets and the replay of their corpus (tests/edge/fuzz_corpus.rs)
//! share them.

use std::fmt;
use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_edge::auth::{BearerError, bearer as read_bearer};
use mcp_edge::config::{Config, limits};
use mcp_edge::mcp::{Era, Message, Messages};
use mcp_edge::types::canonical_path;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Each line of the input is the value of an `Authorization` field.
pub fn bearer(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(AUTHORIZATION, value);
        }
    }
    let fields: Vec<&[u8]> = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    match read_bearer(&headers) {
        Ok(token) => {
            let [field] = fields[..] else { panic!("{} fields gave one token", fields.len()) };
            assert!(!token.is_empty() && token.len() <= limits::TOKEN_BYTES);
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
            assert!(token.bytes().all(legal) && !token.starts_with('='), "{token:?}");
            let before = field.strip_suffix(token.as_bytes()).expect("the token is the end of the field");
            let (scheme, spaces) = before.split_at(6);
            assert!(scheme.eq_ignore_ascii_case(b"bearer"));
            assert!(!spaces.is_empty() && spaces.iter().all(|&byte| byte == b' '));
        }
        Err(BearerError::Ambiguous) => assert!(fields.len() > 1),
        Err(BearerError::TooLong) => assert!(fields.iter().any(|field| field.len() > limits::TOKEN_BYTES)),
        Err(BearerError::Missing | BearerError::Malformed) => assert!(fields.len() <= 1),
    }
}

/// The canonical form of a canonical path is the same path, and no part of it can be read as a parent folder.
pub fn path(data: &[u8]) {
    let Ok(once) = canonical_path(data) else { return };
    assert_eq!(canonical_path(once.as_bytes()).as_deref(), Ok(&*once), "{once:?} is not canonical");
    assert!(once.len() <= data.len() && once.is_ascii() && once.starts_with('/'));
    assert!(!once.contains("//") && !once.contains(['?', '#', '\\']) && !once.contains(char::is_control));
    assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
    let lower = once.to_ascii_lowercase();
    assert!(["%2f", "%5c", "%2e", "%25", "%00"].iter().all(|escape| !lower.contains(escape)), "{once:?}");
}

/// The input is either lines `name: value` for header fields that MCP reads, an empty line and a body, or only a body.
pub fn message(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(end) if !data.starts_with(b"{") && !data.starts_with(b"[") => (&data[..end], &data[end + 2..]),
        _ => (&[][..], data),
    };
    let Ok(messages) = Messages::read(body) else { return };
    for read in [last_wins, first_wins, ignores_case] {
        // A reader that refuses the body cannot read anything different in it.
        let Ok(value) = read(body) else { continue };
        match (&value, messages.single()) {
            (Value::Array(items), None) => {
                assert_eq!(items.len(), messages.iter().count());
                items.iter().zip(messages.iter()).for_each(|(value, message)| same(value, message));
            }
            (value, Some(message)) => same(value, message),
            (_, None) => panic!("a batch that is not a list: {value}"),
        }
    }
    let headers = header_fields(head);
    let era = Era::check(&headers, &messages);
    if let (Ok(Era::Stateless), Some(message)) = (era, messages.single()) {
        let claimed = headers.get("mcp-method").and_then(|value| value.to_str().ok());
        assert!(message.method().is_none() || claimed == message.method());
    }
}

fn header_fields(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|&byte| byte == b'\n').take(16) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// Checks that `value`, which another parser has read, means the same as `message`.
fn same(value: &Value, message: &Message<'_>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(text(&value["method"]), message.method().map(str::to_owned), "{value}");
    let Some(method) = message.method() else { return };
    let params = &value["params"];
    let name = match method {
        "tools/call" | "prompts/get" => text(&params["name"]),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" | "resources/directory/read" => {
            text(&params["uri"])
        }
        "completion/complete" => match params["ref"]["type"].as_str() {
            Some("ref/prompt") => text(&params["ref"]["name"]),
            Some("ref/resource") => text(&params["ref"]["uri"]),
            _ => None,
        },
        _ if method.starts_with("tasks/") => text(&params["taskId"]),
        _ => None,
    };
    assert_eq!(name, message.name().map(str::to_owned), "{value}");
    let version = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
    assert_eq!(text(version), message.meta_version.as_deref().map(str::to_owned), "{value}");
}

type Reader = serde_json::Result<Value>;

/// A parser that uses the last of several equal keys.
fn last_wins(body: &[u8]) -> Reader {
    serde_json::from_slice(body)
}

/// A parser that uses the first of several equal keys.
fn first_wins(body: &[u8]) -> Reader {
    serde_json::from_slice::<FirstWins>(body).map(|read| read.0)
}

/// A parser like Go's: it ignores the case of keys, and uses the last of several equal keys. Keys that MCP writes with
/// capital letters are restored.
fn ignores_case(body: &[u8]) -> Reader {
    last_wins(body).map(fold)
}

fn fold(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(fold).collect(),
        Value::Object(members) => {
            let name = |name: String| match name.to_lowercase() {
                known if known == "taskid" => "taskId".to_owned(),
                known if known == "io.modelcontextprotocol/protocolversion" => {
                    "io.modelcontextprotocol/protocolVersion".to_owned()
                }
                other => other,
            };
            Value::Object(members.into_iter().map(|(key, value)| (name(key), fold(value))).collect())
        }
        other => other,
    }
}

struct FirstWins(Value);

impl<'de> Deserialize<'de> for FirstWins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(First)
    }
}

struct First;

impl<'de> Visitor<'de> for First {
    type Value = FirstWins;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<FirstWins, E> {
        Ok(FirstWins(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<FirstWins, E> {
        Ok(FirstWins(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<FirstWins, E> {
        Ok(FirstWins(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<FirstWins, E> {
        Ok(FirstWins(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<FirstWins, E> {
        Ok(FirstWins(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<FirstWins, E> {
        Ok(FirstWins(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<FirstWins, A::Error> {
        let mut items = Vec::new();
        while let Some(FirstWins(item)) = array.next_element()? {
            items.push(item);
        }
        Ok(FirstWins(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<FirstWins, A::Error> {
        let mut members = Map::new();
        while let Some((key, FirstWins(value))) = object.next_entry::<String, FirstWins>()? {
            members.entry(key).or_insert(value);
        }
        Ok(FirstWins(Value::Object(members)))
    }
}

/// Checks the input as a configuration file: it is valid, or every error says where it is and what is wrong.
pub fn config(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("edge.yaml");
    std::fs::write(&path, data).expect("the folder is writable");
    check_config(&path);
}

/// The same check for a file on disk, with the files that it includes.
pub fn check_config(path: &Path) {
    let Err(errors) = Config::load(path) else { return };
    assert!(!errors.0.is_empty() && errors.0.len() <= limits::CONFIG_ERRORS + 1);
    for error in &errors.0 {
        assert!(!error.message.trim().is_empty(), "{error:?}");
        assert!(error.position.is_none_or(|(line, column)| line > 0 && column > 0), "{error:?}");
        assert!(error.to_string().starts_with(&*error.file.display().to_string()));
    }
}
