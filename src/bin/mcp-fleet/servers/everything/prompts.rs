//! The prompts of the `everything` server.

use rmcp::ErrorData;
use rmcp::model::{
    ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequests, InputRequiredResult,
    Prompt, PromptArgument, PromptMessage, ResourceContents, Role,
};

use super::{question, samples};

const SIMPLE: &str = "test_simple_prompt";
const ARGUMENTS: &str = "test_prompt_with_arguments";
const RESOURCE: &str = "test_prompt_with_embedded_resource";
const IMAGE: &str = "test_prompt_with_image";
const INPUT: &str = "test_input_required_result_prompt";

/// The list of prompts.
pub(crate) fn all() -> Vec<Prompt> {
    let prompt = |name: &str, description: &str, arguments: &[&str]| {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|name| PromptArgument::new(*name).with_description("A test argument.").with_required(true))
            .collect();
        Prompt::new(name, Some(description), (!arguments.is_empty()).then_some(arguments))
    };
    vec![
        prompt(SIMPLE, "One text.", &[]),
        prompt(ARGUMENTS, "One text with two arguments in it.", &["arg1", "arg2"]),
        prompt(RESOURCE, "A resource and what to do with it.", &["resourceUri"]),
        prompt(IMAGE, "An image and what to do with it.", &[]),
        prompt(INPUT, "Asks the user for what it is about.", &[]),
    ]
}

/// A prompt with its arguments.
pub(crate) fn get(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let messages = match request.name.as_str() {
        SIMPLE => vec![says("This is a simple prompt for testing.")],
        ARGUMENTS => {
            let (arg1, arg2) = (argument(request, "arg1")?, argument(request, "arg2")?);
            vec![says(format!("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]
        }
        RESOURCE => {
            let uri = argument(request, "resourceUri")?;
            let embedded = ResourceContents::text("Embedded resource content for testing.", uri);
            let embedded = ContentBlock::resource(embedded.with_mime_type("text/plain"));
            vec![PromptMessage::new(Role::User, embedded), says("Please process the embedded resource above.")]
        }
        IMAGE => {
            let image = ContentBlock::image(samples::PNG, "image/png");
            vec![PromptMessage::new(Role::User, image), says("Please analyze the image above.")]
        }
        INPUT => match question::filled(request.input_responses.as_ref(), "user_context", "context") {
            Some(context) => vec![says(format!("Prompt with context: {context}"))],
            None => {
                let context = question::field("What context should the prompt use?", "context", "string")?;
                let questions = InputRequests::from([("user_context".to_owned(), context)]);
                return Ok(InputRequiredResult::from_input_requests(questions).into());
            }
        },
        other => return Err(ErrorData::invalid_params(format!("there is no prompt named {other:?}"), None)),
    };
    Ok(GetPromptResult::new(messages).into())
}

fn says(text: impl Into<String>) -> PromptMessage {
    PromptMessage::new_text(Role::User, text)
}

fn argument<'a>(request: &'a GetPromptRequestParams, name: &str) -> Result<&'a str, ErrorData> {
    let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name)?.as_str());
    value.ok_or_else(|| ErrorData::invalid_params(format!("the argument {name} is missing"), None))
}
