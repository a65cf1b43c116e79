//! Tools that become tasks, for clients that know the tasks extension of 2026-07-28.

use std::time::Duration;

use rmcp::handler::server::tool::InputResponses;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture, TaskOptions};
use rmcp::{ErrorData, RoleServer, tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Everything, question, rounds, text};

const MAX_SECONDS: u64 = 600;
const TTL_MS: u64 = 60_000;

type Context = RequestContext<RoleServer>;
type CallResult = Result<CallToolResponse, ErrorData>;

#[derive(Deserialize, JsonSchema)]
struct Greeting {
    /// The name to greet.
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct Computation {
    /// How long it takes, at most 600 seconds.
    seconds: u64,
    /// What to call it.
    label: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Deletion {
    /// What would be deleted.
    filename: String,
}

#[tool_router(router = jobs, vis = "pub(crate)")]
impl Everything {
    /// Greets at once, never as a task.
    #[tool]
    fn greet(&self, Parameters(Greeting { name }): Parameters<Greeting>) -> String {
        format!("Hello, {name}!")
    }

    /// Waits for some seconds. Becomes a task, if the client supports tasks and the time is not zero.
    #[tool]
    async fn slow_compute(
        &self,
        Parameters(Computation { seconds, label }): Parameters<Computation>,
        context: Context,
    ) -> CallResult {
        let duration = Duration::from_secs(seconds.min(MAX_SECONDS));
        let done = text(format!("{} took {} s", label.as_deref().unwrap_or("It"), duration.as_secs()));
        if seconds > 0 && supports_tasks(&context) {
            return Ok(self.begin(move |task| Box::pin(async move { wait(&task, duration).await.map(|()| done) })));
        }
        tokio::select! {
            () = tokio::time::sleep(duration) => Ok(done.into()),
            () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
        }
    }

    /// A task that fails after a second, with the error of a tool.
    #[tool]
    fn failing_job(&self, context: Context) -> CallResult {
        need_tasks(&context)?;
        Ok(self.begin(|task| {
            Box::pin(async move {
                wait(&task, Duration::from_secs(1)).await?;
                Ok(CallToolResult::error(vec![ContentBlock::text("This job intentionally fails.")]))
            })
        }))
    }

    /// A task that fails with a protocol error.
    #[tool]
    fn protocol_error_job(&self, context: Context) -> CallResult {
        need_tasks(&context)?;
        Ok(self.begin(|_| {
            Box::pin(async { Err(TaskExit::Error(ErrorData::internal_error("This job intentionally breaks.", None))) })
        }))
    }

    /// A task that asks the user to confirm. Deletes nothing.
    #[tool]
    fn confirm_delete(&self, Parameters(Deletion { filename }): Parameters<Deletion>, context: Context) -> CallResult {
        let confirm = question::field(&format!("Delete {filename}?"), "confirm", "boolean")?;
        if !supports_tasks(&context) {
            return Ok(CallToolResult::error(vec![ContentBlock::text("Only a task can wait for the user.")]).into());
        }
        Ok(self.begin(move |task| {
            Box::pin(async move {
                let answer = task.request_input("confirm", confirm).await?;
                let confirmed = question::accepted(&answer, "confirm").is_some_and(|confirmed| *confirmed == true);
                Ok(text(format!("{filename}: {}", if confirmed { "deleted" } else { "kept" })))
            })
        }))
    }

    /// A task that asks the user two things at once.
    #[tool]
    fn multi_input(&self, context: Context) -> CallResult {
        need_tasks(&context)?;
        let (name, confirm) = (question::name()?, question::field("Is that all?", "confirm", "boolean")?);
        Ok(self.begin(|task| {
            Box::pin(async move {
                tokio::try_join!(task.request_input("name", name), task.request_input("confirm", confirm))?;
                Ok(text("Both inputs are here."))
            })
        }))
    }

    /// Asks the user for a name, and greets them in a task.
    #[tool]
    fn test_tool_with_task(&self, InputResponses(answers): InputResponses, context: Context) -> CallResult {
        need_tasks(&context)?;
        let name = question::filled(answers.as_ref(), "user_name", "name").and_then(|name| name.as_str());
        let Some(name) = name else { return rounds::need([("user_name", question::name()?)], None) };
        let greeting = text(format!("Hello, {name}!"));
        Ok(self.begin(|_| Box::pin(async { Ok(greeting) })))
    }
}

impl Everything {
    fn begin(&self, work: impl FnOnce(TaskContext) -> TaskFuture) -> CallToolResponse {
        let options = TaskOptions::default().with_ttl_ms(TTL_MS).with_poll_interval_ms(200);
        CreateTaskResult::new(self.backend.tasks.spawn(options, work)).into()
    }
}

fn supports_tasks(context: &Context) -> bool {
    context.client_capabilities().is_some_and(|declared| declared.supports_tasks())
}

fn need_tasks(context: &Context) -> Result<(), ErrorData> {
    if supports_tasks(context) {
        return Ok(());
    }
    let required = ClientCapabilities::builder().enable_tasks().build();
    Err(ErrorData::missing_required_client_capability(required))
}

async fn wait(task: &TaskContext, duration: Duration) -> Result<(), TaskExit> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        () = task.cancelled() => Err(TaskExit::Cancelled),
    }
}
