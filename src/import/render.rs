//! Writes a draft as YAML. Default settings are left out, and each item has its notes above it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::convert::gate;
use super::draft::blank::{blank_listener, blank_route, blank_upstream};
use super::draft::{Draft, Item};
use super::note::Note;
use crate::config::written::{Listener, Provider, Route, RouteAuth, Upstream};

/// The maximum width of a line that can be broken.
const WIDTH: usize = 110;

/// The order of keys, as in the examples in `conf/`. Other keys come last.
const ORDER: &[&str] = &[
    "address",
    "hosts",
    "endpoints",
    "weight",
    "tls",
    "certificate",
    "key",
    "sni",
    "client_ca",
    "client_optional",
    "trusted_proxies",
    "trusted_fields",
    "lookup",
    "groups",
    "url",
    "headers",
    "original_uri",
    "subject_headers",
    "scopes_header",
    "groups_header",
    "timeout",
    "balance",
    "timeouts",
    "connect",
    "response",
    "idle",
    "path",
    "upstream",
    "protocol",
    "rewrite",
    "auth",
    "providers",
    "match",
    "scopes",
    "any_scope",
    "deny",
    "forward_token",
    "upgrade",
    "host",
    "body_bytes",
    "request_headers",
    "response_headers",
    "methods",
    "tools",
];

/// The whole file.
pub(super) fn render(draft: &Draft, made_from: &str) -> String {
    let mut text = Text::default();
    text.comment(0, &format!("Made by `mcp-edge import` from {}.", made_from.escape_debug()));
    text.comment(
        0,
        "Comments say what was not imported, and what was assumed. After changes, run: mcp-edge check --config FILE",
    );
    if !draft.notes.is_empty() {
        text.line(0, "#");
        text.notes(0, &draft.notes);
    }
    text.listeners(draft);
    if draft.listeners.iter().any(|item| item.value.address.0.port() == ADMIN) {
        text.line(0, "");
        text.comment(0, "A listener uses the default port of `admin`.");
        text.line(0, &format!("admin: {{address: \"127.0.0.1:{}\"}}", ADMIN + 1));
    }
    if !draft.providers.is_empty() {
        text.section("auth");
        text.line(1, "providers:");
        for (name, item) in &draft.providers {
            text.named(2, name, &item.notes, &provider(&item.value));
        }
    }
    if !draft.upstreams.is_empty() {
        text.section("upstreams");
        for (name, item) in &draft.upstreams {
            text.named(1, name, &item.notes, &upstream(&item.value));
        }
    }
    if !draft.routes.is_empty() {
        text.section("routes");
        for (index, item) in draft.routes.iter().enumerate() {
            if index > 0 {
                text.line(0, "");
            }
            text.notes(1, &item.notes);
            text.item(1, &route(&item.value));
        }
    }
    text.0
}

/// The default port of the admin listener.
const ADMIN: u16 = 9901;

fn listener(written: &Listener) -> Value {
    without_defaults(written, &blank_listener(([0, 0, 0, 0], 0).into()), &["address"])
}

fn provider(written: &Provider) -> Value {
    without_defaults(written, &gate::unknown_provider(), &["lookup", "headers", "url"])
}

fn upstream(written: &Upstream) -> Value {
    without_defaults(written, &blank_upstream(Vec::new()), &[])
}

fn route(written: &Route) -> Value {
    let mut value = without_defaults(written, &blank_route("", "", RouteAuth::None), &[]);
    if let (RouteAuth::None, Value::Object(map)) = (&written.auth, &mut value) {
        map.insert("auth".to_owned(), "none".into());
    }
    value
}

/// The settings that differ from `default`, and the keys in `keep`.
fn without_defaults<T: Serialize>(written: &T, default: &T, keep: &[&str]) -> Value {
    // The keys of all maps are text, so the conversion to JSON cannot fail.
    let (mut value, default) =
        (serde_json::to_value(written).unwrap_or_default(), serde_json::to_value(default).unwrap_or_default());
    prune(&mut value, Some(&default), keep);
    value
}

fn prune(value: &mut Value, default: Option<&Value>, keep: &[&str]) {
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            for key in keys {
                let default = default.and_then(|default| default.get(&key));
                let Some(inner) = map.get_mut(&key) else { continue };
                let needless = match default {
                    Some(default) => inner == default && !keep.contains(&key.as_str()),
                    // Items of lists have no default value to compare with.
                    None if *inner == Value::Bool(false) => true,
                    None => {
                        let is_empty = inner.as_array().is_some_and(Vec::is_empty);
                        is_empty || inner.as_u64() == Some(1) && key == "weight"
                    }
                };
                if inner.is_null() || needless {
                    map.remove(&key);
                } else {
                    prune(inner, default, keep);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(item, None, keep)),
        _ => {}
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, text: &str) {
        if !text.is_empty() {
            self.0.push_str(&"  ".repeat(depth));
        }
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// Writes a comment. A long comment takes several lines.
    fn comment(&mut self, depth: usize, text: &str) {
        let mut line = "#".to_owned();
        for word in text.split(' ') {
            if line.len() > 1 && depth * 2 + line.len() + word.len() >= WIDTH {
                self.line(depth, &line);
                line = "#  ".to_owned();
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(depth, &line);
    }

    fn notes(&mut self, depth: usize, notes: &[Note]) {
        for note in notes {
            self.comment(depth, &note.to_string());
        }
    }

    fn section(&mut self, name: &str) {
        self.line(0, "");
        self.line(0, &format!("{name}:"));
    }

    fn listeners(&mut self, draft: &Draft) {
        self.section("listeners");
        for item in &draft.listeners {
            self.notes(1, &item.notes);
            self.item(1, &listener(&item.value));
        }
        for Item { value, notes } in &draft.listeners_off {
            self.notes(1, notes);
            let mut commented = Self::default();
            commented.item(0, &listener(value));
            for line in commented.0.lines() {
                self.line(1, &format!("# {line}"));
            }
        }
    }

    /// `name:` with a map below it.
    fn named(&mut self, depth: usize, name: &str, notes: &[Note], value: &Value) {
        self.notes(depth, notes);
        self.line(depth, &format!("{}:", scalar(name)));
        if let Value::Object(map) = value {
            self.map(depth + 1, map);
        }
    }

    /// `- ` followed by a map.
    fn item(&mut self, depth: usize, value: &Value) {
        let mut inner = Self::default();
        match value {
            Value::Object(map) => inner.map(depth + 1, map),
            other => inner.line(depth + 1, &flow(other)),
        }
        let (dash, rest) = ("  ".repeat(depth) + "- ", inner.0.get(2 * depth + 2..).unwrap_or_default());
        self.0.push_str(&dash);
        self.0.push_str(rest);
    }

    fn map(&mut self, depth: usize, map: &Map<String, Value>) {
        for (key, value) in in_order(map) {
            let key = scalar(key);
            let line = format!("{key}: {}", flow(value));
            match value {
                Value::Array(items) if items.iter().any(Value::is_object) && key != "endpoints" => {
                    self.list(depth, &key, items);
                }
                Value::Array(items) if depth * 2 + line.len() > WIDTH => self.list(depth, &key, items),
                Value::Object(inner) if depth * 2 + line.len() > WIDTH || key == "lookup" || key == "groups" => {
                    self.line(depth, &format!("{key}:"));
                    self.map(depth + 1, inner);
                }
                _ => self.line(depth, &line),
            }
        }
    }

    fn list(&mut self, depth: usize, key: &str, items: &[Value]) {
        self.line(depth, &format!("{key}:"));
        for item in items {
            let line = format!("- {}", flow(item));
            if depth * 2 + 2 + line.len() > WIDTH { self.item(depth + 1, item) } else { self.line(depth + 1, &line) }
        }
    }
}

fn in_order(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let rank = |key: &str| ORDER.iter().position(|other| *other == key).unwrap_or(ORDER.len());
    let mut entries: Vec<(&str, &Value)> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_by_key(|(key, _)| rank(key));
    entries
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries = in_order(map).into_iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Text as a YAML scalar. It has no quotes only if every YAML reader takes it for the same text without them.
fn scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = words.contains(&text.to_ascii_lowercase().as_str());
    let has_unit = text.trim_start_matches(|sign: char| sign.is_ascii_digit());
    let is_amount =
        has_unit.len() < text.len() && ["ms", "s", "m", "h", "d", "B", "KiB", "MiB", "GiB"].contains(&has_unit);
    if is_amount || begins && text.bytes().all(is_plain) && !text.ends_with(':') && !is_word {
        return text.to_owned();
    }
    // JSON strings are valid in YAML, except for characters that some YAML readers only accept as escapes.
    let mut quoted = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            ' '..='~' => quoted.push(sign),
            _ if sign.is_alphanumeric() => quoted.push(sign),
            _ if u32::from(sign) <= 0xFFFF => quoted.push_str(&format!("\\u{:04X}", u32::from(sign))),
            _ => quoted.push_str(&format!("\\U{:08X}", u32::from(sign))),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_written_where_they_are_needed() {
        for (text, written) in [
            ("fininfo", "fininfo"),
            ("/fininfo/", "/fininfo/"),
            ("mcp-servers-restricted/read", "mcp-servers-restricted/read"),
            ("fininfo:read", "fininfo:read"),
            ("30s", "30s"),
            ("8001", "\"8001\""),
            ("127.0.0.1:80", "\"127.0.0.1:80\""),
            ("*", "\"*\""),
            ("No", "\"No\""),
            ("a: b", "\"a: b\""),
            ("a:", "\"a:\""),
            ("", "\"\""),
            ("a\"\\\n\u{85}😀", "\"a\\\"\\\\\\u000A\\u0085\\U0001F600\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }

    #[test]
    fn long_comments_take_several_lines() {
        let mut text = Text::default();
        text.comment(1, &"word ".repeat(60));
        assert!(
            text.0.lines().count() > 2 && text.0.lines().all(|line| line.starts_with("  #") && line.len() <= WIDTH + 2)
        );
    }

    proptest! {
        /// A YAML reader gets the same text from lists and maps.
        #[test]
        fn text_comes_back_as_it_was(texts in proptest::collection::vec("\\PC{0,6}|[a-z:#*&!|>%@`\"'{}\\[\\], 0-9.~-]{0,8}", 1..4)) {
            let yaml = format!("a: {}\nb: {{x: {}}}\n", flow(&texts.clone().into()), scalar(&texts[0]));
            let read: Value = serde_yaml::from_str(&yaml).expect("valid YAML");
            prop_assert_eq!(&read["a"], &Value::from(texts.clone()));
            prop_assert_eq!(&read["b"]["x"], &Value::from(texts[0].clone()));
        }
    }
}
