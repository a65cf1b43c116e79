//! The JSON Schema of the configuration, from the structs that read it.

use super::file::File;

/// The schema of one configuration file, for editors.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}
