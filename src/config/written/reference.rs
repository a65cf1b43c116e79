//! The reference of the configuration in Markdown, made from its JSON Schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::schema::json_schema;

const INTRODUCTION: &str = "# Configuration reference

<!-- Made by `mcp-edge schema --markdown`. Do not edit: change the docs in src/config/written and make it again. -->

One YAML file, with `include` for further files. `mcp-edge check --config FILE` reports everything that is wrong with it at
once, each as `file:line:column: key.path: what is wrong: what to write`. `mcp-edge schema` prints the same reference as a JSON
Schema for editors. Files to start from are in [`conf/`](../conf).

A key that is not known is an error, and so is a key without a value. Secrets never stand in the YAML itself.
";

/// The reference: a section for each part of the configuration, from the file as a whole to single values.
pub fn reference() -> String {
    let schema = json_schema();
    let mut text = INTRODUCTION.to_owned();
    section(&mut text, "The file", &schema);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        section(&mut text, name, definition);
    }
    text
}

/// Writes one section. Writing to a string cannot fail.
fn section(text: &mut String, name: &str, schema: &Value) {
    let _ = writeln!(text, "\n## {name}\n");
    if let Some(description) = schema["description"].as_str() {
        let _ = writeln!(text, "{}\n", sentence(description));
    }
    if let Some(properties) = schema["properties"].as_object() {
        table(text, schema, properties);
    }
    for choice in choices(schema) {
        let description = choice["description"].as_str().map(sentence).unwrap_or_default();
        let _ = writeln!(text, "* {}: {description}", shown_type(choice));
    }
    trim_end(text);
}

/// A table of the keys of a map.
fn table(text: &mut String, schema: &Value, properties: &Map<String, Value>) {
    let required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|name| name == key));
    let _ = writeln!(text, "| key | value | default | meaning |\n| --- | --- | --- | --- |");
    for (key, property) in properties {
        let default = match &property["default"] {
            _ if required(key) => "*required*".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::String(default) => format!("`{default}`"),
            default => format!("`{default}`"),
        };
        let meaning = sentence(property["description"].as_str().unwrap_or_default()).replace('|', "\\|");
        let _ = writeln!(text, "| `{key}` | {} | {default} | {meaning} |", shown_type(property));
    }
    text.push('\n');
}

/// The alternatives of a value, if it has several.
fn choices(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten()
}

/// What a value is, in words, with a link to its section.
fn shown_type(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", shown_type(&schema["items"])),
        Some("object") => match (&schema["additionalProperties"], schema["properties"].as_object()) {
            (Value::Object(_), _) => format!("map of {}", shown_type(&schema["additionalProperties"])),
            (_, Some(properties)) => {
                let keys: Vec<String> =
                    properties.iter().map(|(key, value)| format!("`{key}`: {}", shown_type(value))).collect();
                format!("map with {}", keys.join(", "))
            }
            _ => "map".to_owned(),
        },
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some(other) => other.to_owned(),
        None => {
            let choices: Vec<String> = choices(schema).map(shown_type).collect();
            if choices.is_empty() { "text, number or list".to_owned() } else { choices.join(", or ") }
        }
    }
}

/// A description in one line, with a capital letter and a full stop.
fn sentence(description: &str) -> String {
    let line = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = line.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let line = format!("{first}{}", chars.as_str());
    if line.is_empty() || line.ends_with(['.', ':', '!']) { line } else { format!("{line}.") }
}

/// One line break at the end.
fn trim_end(text: &mut String) {
    text.truncate(text.trim_end().len());
    text.push('\n');
}
