//! The questions that the server asks clients. Up to revision 2025-11-25, they are requests of the server. From
//! 2026-07-28 on, they are in the results of the client's requests.

use rmcp::ErrorData;
use rmcp::model::{InputRequest, InputResponses};
use serde_json::{Value, json};

/// A form for the user to fill in; the schema is a JSON Schema of primitive properties.
pub(crate) fn form(message: &str, schema: Value) -> Result<InputRequest, ErrorData> {
    question(json!({
        "method": "elicitation/create",
        "params": { "message": message, "requestedSchema": schema },
    }))
}

/// A form with one required field, of a type such as `string`.
pub(crate) fn field(message: &str, name: &str, kind: &str) -> Result<InputRequest, ErrorData> {
    form(message, json!({ "type": "object", "properties": { name: { "type": kind } }, "required": [name] }))
}

/// The field `name`, which several tools ask for.
pub(crate) fn name() -> Result<InputRequest, ErrorData> {
    field("What is your name?", "name", "string")
}

/// A prompt for the client's model.
pub(crate) fn prompt(text: &str) -> Result<InputRequest, ErrorData> {
    question(json!({
        "method": "sampling/createMessage",
        "params": { "messages": [{ "role": "user", "content": { "type": "text", "text": text } }], "maxTokens": 100 },
    }))
}

/// A request for the client's roots.
pub(crate) fn roots() -> Result<InputRequest, ErrorData> {
    question(json!({ "method": "roots/list" }))
}

// Made from JSON, because rmcp's types for sampling and roots are deprecated. The revisions that have them are not.
fn question(request: Value) -> Result<InputRequest, ErrorData> {
    serde_json::from_value(request).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// A field of a form that the user has accepted.
pub(crate) fn filled<'a>(answers: Option<&'a InputResponses>, key: &str, field: &str) -> Option<&'a Value> {
    answered(answers, key).and_then(|answer| accepted(answer, field))
}

/// A field of an accepted form.
pub(crate) fn accepted<'a>(answer: &'a Value, field: &str) -> Option<&'a Value> {
    if answer["action"] == "accept" { answer["content"].get(field) } else { None }
}

/// The answer to a question, if it is an object. Other values are not valid answers.
pub(crate) fn answered<'a>(answers: Option<&'a InputResponses>, key: &str) -> Option<&'a Value> {
    answers?.get(key).filter(|answer| answer.is_object())
}
