//! Tools that send requests to the client while they run, as in revisions up to 2025-11-25.

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{InputRequest, ServerRequest};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Everything, question};

type Context = RequestContext<RoleServer>;
type Answer = Result<String, String>;

#[derive(Deserialize, JsonSchema)]
struct Sampling {
    /// What to ask the client's model.
    prompt: String,
}

#[derive(Deserialize, JsonSchema)]
struct Elicitation {
    /// What to ask the user.
    message: String,
}

#[tool_router(router = dialogue, vis = "pub(crate)")]
impl Everything {
    /// Asks the client's model.
    #[tool]
    async fn test_sampling(&self, Parameters(Sampling { prompt }): Parameters<Sampling>, context: Context) -> Answer {
        let answer = ask(&context, question::prompt(&prompt)).await?;
        let answer = answer["content"]["text"].as_str().unwrap_or_default();
        Ok(format!("LLM response: {answer}"))
    }

    /// Asks the user for a name and an email address.
    #[tool]
    async fn test_elicitation(
        &self,
        Parameters(Elicitation { message }): Parameters<Elicitation>,
        context: Context,
    ) -> Answer {
        let schema = json!({
            "type": "object",
            "properties": {
                "username": { "type": "string", "description": "User's response" },
                "email": { "type": "string", "description": "User's email address" },
            },
            "required": ["username", "email"],
        });
        let answer = ask(&context, question::form(&message, schema)).await?;
        Ok(format!("User response: {}", outcome(&answer)))
    }

    /// Asks the user with a form that has a default for each type.
    #[tool]
    async fn test_elicitation_sep1034_defaults(&self, context: Context) -> Answer {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "default": "John Doe" },
                "age": { "type": "integer", "default": 30 },
                "score": { "type": "number", "default": 95.5 },
                "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
                "verified": { "type": "boolean", "default": true },
            },
        });
        let answer = ask(&context, question::form("Please check the defaults", schema)).await?;
        Ok(format!("Elicitation completed: {}", outcome(&answer)))
    }

    /// Asks the user with a form that has each kind of choice.
    #[tool]
    async fn test_elicitation_sep1330_enums(&self, context: Context) -> Answer {
        let titled = |word: &str| {
            json!([
                { "const": "value1", "title": format!("First {word}") },
                { "const": "value2", "title": format!("Second {word}") },
                { "const": "value3", "title": format!("Third {word}") },
            ])
        };
        let options = json!(["option1", "option2", "option3"]);
        let schema = json!({
            "type": "object",
            "properties": {
                "untitledSingle": { "type": "string", "enum": options },
                "titledSingle": { "type": "string", "oneOf": titled("Option") },
                "legacyEnum": {
                    "type": "string",
                    "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"],
                },
                "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
                "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
            },
        });
        let answer = ask(&context, question::form("Please choose", schema)).await?;
        Ok(format!("Elicitation completed: {}", outcome(&answer)))
    }
}

/// Sends the question on the stream of the call and waits for its answer.
async fn ask(context: &Context, question: Result<InputRequest, ErrorData>) -> Result<Value, String> {
    let capabilities = context.client_capabilities().unwrap_or_default();
    let (request, can_answer) = match question.map_err(|error| error.to_string())? {
        InputRequest::CreateMessage(request) => {
            (ServerRequest::CreateMessageRequest(request), capabilities.sampling.is_some())
        }
        InputRequest::Elicitation(request) => {
            (ServerRequest::ElicitRequest(request), capabilities.elicitation.is_some())
        }
        other => return Err(format!("no tool sends this request: {other:?}")),
    };
    if !can_answer {
        return Err("the client has not declared the capability for this request".to_owned());
    }
    let answer = context.peer.send_request(request).await.map_err(|error| error.to_string())?;
    serde_json::to_value(answer).map_err(|error| error.to_string())
}

fn outcome(answer: &Value) -> String {
    format!("action={}, content={}", answer["action"].as_str().unwrap_or_default(), answer["content"])
}
