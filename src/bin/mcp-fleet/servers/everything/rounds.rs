//! Tools that need several rounds: their results ask for input, and the client calls again with this input
//! (2026-07-28).

use rmcp::handler::server::tool::{InputResponses, RequestState};
use rmcp::model::{CallToolResponse, ClientCapabilities, InputRequest, InputRequests, InputRequiredResult};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, tool, tool_router};

use super::{Everything, question, text};

type Round = Result<CallToolResponse, ErrorData>;

#[tool_router(router = rounds, vis = "pub(crate)")]
impl Everything {
    /// Asks the user for a name.
    #[tool]
    fn test_input_required_result_elicitation(&self, InputResponses(answers): InputResponses) -> Round {
        match question::filled(answers.as_ref(), "user_name", "name").and_then(|name| name.as_str()) {
            Some(name) => Ok(text(format!("Hello, {name}!")).into()),
            None => need([("user_name", question::name()?)], None),
        }
    }

    /// Asks the client's model for a capital.
    #[tool]
    fn test_input_required_result_sampling(&self, InputResponses(answers): InputResponses) -> Round {
        match question::answered(answers.as_ref(), "capital_question") {
            Some(answer) => Ok(text(answer["content"]["text"].as_str().unwrap_or_default()).into()),
            None => need([("capital_question", question::prompt("What is the capital of France?")?)], None),
        }
    }

    /// Asks the client for its roots.
    #[tool]
    fn test_input_required_result_list_roots(&self, InputResponses(answers): InputResponses) -> Round {
        match question::answered(answers.as_ref(), "client_roots") {
            Some(answer) => Ok(text(format!("Roots: {}", answer["roots"])).into()),
            None => need([("client_roots", question::roots()?)], None),
        }
    }

    /// Asks the user to confirm, and has the client carry its state.
    #[tool]
    fn test_input_required_result_request_state(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Round {
        self.confirm("request_state", answers.as_ref(), state.as_deref())
    }

    /// Asks the user to confirm, and refuses a state that the client has changed.
    #[tool]
    fn test_input_required_result_tampered_state(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Round {
        self.confirm("tampered_state", answers.as_ref(), state.as_deref())
    }

    /// Asks the user, the client's model and the client at once.
    #[tool]
    fn test_input_required_result_multiple_inputs(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Round {
        const STATE: &str = "multiple_inputs";
        let answered = ["user_name", "greeting", "client_roots"]
            .into_iter()
            .all(|key| question::answered(answers.as_ref(), key).is_some());
        if self.reached(state.as_deref())? == Some(STATE) && answered {
            return Ok(text("All inputs are here.").into());
        }
        let questions = [
            ("user_name", question::name()?),
            ("greeting", question::prompt("Generate a greeting")?),
            ("client_roots", question::roots()?),
        ];
        need(questions, Some(self.backend.seal.seal(STATE)))
    }

    /// Asks the user for a name, and then for a color.
    #[tool]
    fn test_input_required_result_multi_round(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Round {
        const STEPS: [&str; 2] = ["multi_round/1", "multi_round/2"];
        let reached = self.reached(state.as_deref())?;
        let answers = answers.as_ref();
        if reached == Some(STEPS[1]) && question::filled(answers, "step2", "color").is_some() {
            return Ok(text("Both steps are done.").into());
        }
        if reached == Some(STEPS[1]) || question::filled(answers, "step1", "name").is_some() {
            let color = question::field("Step 2: What is your favorite color?", "color", "string")?;
            return need([("step2", color)], Some(self.backend.seal.seal(STEPS[1])));
        }
        let name = question::field("Step 1: What is your name?", "name", "string")?;
        need([("step1", name)], Some(self.backend.seal.seal(STEPS[0])))
    }

    /// Asks the user and the client's model, as far as the client has declared that it can.
    #[tool]
    fn test_input_required_result_capabilities(
        &self,
        InputResponses(answers): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Round {
        let declared = context.client_capabilities().unwrap_or_default();
        let mut questions = Vec::new();
        if declared.elicitation.is_some() {
            questions.push(("user_name", question::name()?));
        }
        if declared.sampling.is_some() {
            questions.push(("capital_question", question::prompt("What is the capital of France?")?));
        }
        questions.retain(|(key, _)| question::answered(answers.as_ref(), key).is_none());
        if questions.is_empty() { Ok(text("Nothing more to ask.").into()) } else { need(questions, None) }
    }

    /// Asks the user for a name; older revisions would send a request on the stream of the call.
    #[tool]
    fn test_streaming_elicitation(&self, InputResponses(answers): InputResponses) -> Round {
        self.test_input_required_result_elicitation(InputResponses(answers))
    }

    /// Requires that the client has a model, although the tool does not use it.
    #[tool]
    fn test_missing_capability(&self, context: RequestContext<RoleServer>) -> Round {
        if context.client_capabilities().is_some_and(|declared| declared.sampling.is_some()) {
            return Ok(text("Nothing is missing.").into());
        }
        let mut required = ClientCapabilities::default();
        required.sampling = Some(Default::default());
        Err(ErrorData::missing_required_client_capability(required))
    }
}

impl Everything {
    /// Asks one question, with a state that belongs to the tool.
    fn confirm(&self, tool: &str, answers: Option<&rmcp::model::InputResponses>, state: Option<&str>) -> Round {
        let reached = self.reached(state)?;
        if reached == Some(tool) && question::filled(answers, "confirm", "ok").is_some() {
            return Ok(text("state-ok").into());
        }
        let confirm = question::field("Please confirm", "ok", "boolean")?;
        need([("confirm", confirm)], Some(self.backend.seal.seal(tool)))
    }

    /// The state that the client has sent back. It must be sealed by this server.
    fn reached<'a>(&self, state: Option<&'a str>) -> Result<Option<&'a str>, ErrorData> {
        state.map(|sealed| self.backend.seal.open(sealed)).transpose()
    }
}

/// Asks for another round.
pub(crate) fn need<'a>(questions: impl IntoIterator<Item = (&'a str, InputRequest)>, state: Option<String>) -> Round {
    let questions: InputRequests = questions.into_iter().map(|(key, question)| (key.to_owned(), question)).collect();
    Ok(InputRequiredResult::new(Some(questions), state).into())
}
