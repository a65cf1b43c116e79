//! What servers say about themselves in answer to `initialize` or `server/discover`, and what a gateway says for all of them.

use serde_json::{Map, Value, json};

/// What one server says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerFacts {
    /// Its capabilities, an object.
    pub capabilities: Map<String, Value>,
    /// Its name and version.
    pub info: Option<Value>,
    /// What it tells clients to do.
    pub instructions: Option<String>,
    /// The protocol version of a session; `None` for a server of the era without sessions.
    pub version: Option<String>,
}

/// The protocol version that a server has chosen in the result of `initialize`.
pub fn negotiated_version(result: &str) -> Option<String> {
    let result: Value = serde_json::from_str(result).ok()?;
    Some(result.get("protocolVersion")?.as_str()?.to_owned())
}

impl ServerFacts {
    /// From the result of `initialize`. `None` when it is not one.
    pub fn of_initialize(result: &str) -> Option<Self> {
        let version = negotiated_version(result)?;
        let mut result: Map<String, Value> = serde_json::from_str(result).ok()?;
        Some(Self { version: Some(version), info: result.remove("serverInfo"), ..Self::read(&mut result)? })
    }

    /// From the result of `server/discover` (MCP 2026-07-28). `None` when it is not one, or when the server does not speak
    /// `version`.
    pub fn of_discover(result: &str, version: &str) -> Option<Self> {
        let mut result: Map<String, Value> = serde_json::from_str(result).ok()?;
        if !result.get("supportedVersions")?.as_array()?.iter().any(|known| known == version) {
            return None;
        }
        let info = result.get_mut("_meta").and_then(|meta| meta.as_object_mut()?.remove(SERVER_INFO));
        Some(Self { info, ..Self::read(&mut result)? })
    }

    fn read(result: &mut Map<String, Value>) -> Option<Self> {
        let Value::Object(capabilities) = result.remove("capabilities")? else { return None };
        let instructions = match result.remove("instructions") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Some(Self { capabilities, info: None, instructions, version: None })
    }

    /// What a server without sessions can do for a client that has one: not what works by requests of the era of sessions, or by
    /// messages outside of calls.
    pub fn for_sessions(&self) -> Self {
        let mut facts = self.clone();
        facts.capabilities.remove("logging");
        if let Some(Value::Object(resources)) = facts.capabilities.get_mut("resources") {
            resources.remove("subscribe");
        }
        facts
    }

    /// True when the server has the capability.
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some_and(|value| !value.is_null())
    }

    /// What a gateway says for `servers`, each with the name that the gateway gives it. A gateway with one server says what that
    /// server says.
    pub fn merged<'a>(servers: impl Iterator<Item = (&'a str, &'a Self)> + Clone, own_info: Value) -> Self {
        let mut only = servers.clone();
        if let (Some((_, only)), None) = (only.next(), only.next()) {
            let mut merged = only.clone();
            announce_changes(&mut merged.capabilities);
            merged.info.get_or_insert(own_info);
            return merged;
        }
        let (mut capabilities, mut instructions) = (Map::new(), String::new());
        for (name, server) in servers {
            merge(&mut capabilities, &server.capabilities);
            if let Some(text) = &server.instructions {
                instructions.push_str(&format!("# {name}\n\n{}\n\n", text.trim()));
            }
        }
        announce_changes(&mut capabilities);
        let instructions = Some(instructions.trim_end().to_owned()).filter(|text| !text.is_empty());
        Self { capabilities, info: Some(own_info), instructions, version: None }
    }
}

/// The member of `_meta` in which a server of 2026-07-28 names itself.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The lists of a gateway change when a server comes or goes, whatever the servers themselves do.
fn announce_changes(capabilities: &mut Map<String, Value>) {
    for kind in ["tools", "prompts", "resources"] {
        if let Some(Value::Object(capability)) = capabilities.get_mut(kind) {
            capability.insert("listChanged".to_owned(), json!(true));
        }
    }
}

/// Adds what `more` has. What one of the servers can do, the gateway can do.
fn merge(into: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        match (into.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(known @ Value::Bool(false)), Value::Bool(true)) => *known = Value::Bool(true),
            (Some(_), _) => {}
            (None, value) => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_can_do_what_one_of_its_servers_can_do() {
        let one = ServerFacts::of_initialize(
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":false},"logging":{}},"serverInfo":{"name":"one"},"instructions":"Be kind."}"#,
        );
        let two = ServerFacts::of_discover(
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{"resources":{"subscribe":true},"extensions":{"a/b":{}}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"two"}}}"#,
            "2026-07-28",
        );
        let (one, two) = (one.expect("it is one"), two.expect("it is one"));
        assert_eq!((one.version.as_deref(), two.version.as_deref()), (Some("2025-11-25"), None));
        assert_eq!(two.info, Some(json!({"name": "two"})));
        let merged = ServerFacts::merged([("one", &one), ("two", &two)].into_iter(), json!({"name": "edge"}));
        let expected = json!({
            "tools": {"listChanged": true}, "logging": {}, "resources": {"subscribe": true, "listChanged": true},
            "extensions": {"a/b": {}},
        });
        assert_eq!(Value::Object(merged.capabilities), expected);
        assert_eq!(
            (merged.info, merged.instructions.as_deref()),
            (Some(json!({"name": "edge"})), Some("# one\n\nBe kind."))
        );
        let only = ServerFacts::merged([("one", &one)].into_iter(), json!({"name": "edge"}));
        assert_eq!((only.info, only.instructions.as_deref()), (Some(json!({"name": "one"})), Some("Be kind.")));
    }

    #[test]
    fn junk_says_nothing() {
        for junk in [
            "",
            "[]",
            "{}",
            r#"{"protocolVersion":1,"capabilities":{}}"#,
            r#"{"protocolVersion":"x","capabilities":[]}"#,
        ] {
            assert_eq!(ServerFacts::of_initialize(junk), None, "{junk}");
            assert_eq!(ServerFacts::of_discover(junk, "2026-07-28"), None, "{junk}");
        }
    }
}
