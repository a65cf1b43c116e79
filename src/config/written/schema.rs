//! The JSON Schema of the configuration, generated from the structs that read it.

use serde_json::Value;

use super::file::File;

/// The schema of one configuration file, for editors.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(File).to_value();
    without_null(&mut schema);
    schema
}

/// Removes `null` from the alternatives. A key may be left out, but it has no value `null` (see `text/reader.rs`).
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(keys) => {
            if let Some(Value::Array(choices)) = keys.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(only)] = choices.as_mut_slice() {
                    let only = std::mem::take(only);
                    keys.remove("anyOf");
                    keys.extend(only);
                }
            }
            if let Some(Value::Array(types)) = keys.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_mut_slice() {
                    let only = only.take();
                    keys.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Object(defaults)) = keys.get_mut("default") {
                defaults.retain(|_, default| !default.is_null());
            }
            if keys.get("default").is_some_and(Value::is_null) {
                keys.remove("default");
            }
            keys.values_mut().for_each(without_null);
        }
        _ => {}
    }
}
