//! The `everything` server. It has everything that the server scenarios of the official conformance suite expect, under
//! the expected names.

mod backend;
mod content;
mod dialogue;
mod jobs;
mod narration;
mod prompts;
mod question;
mod resources;
mod rounds;
mod samples;
mod seal;

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::model::*;
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool_handler};
use serde_json::json;

use crate::server::Server;
use crate::vitals::Vitals;
pub(crate) use backend::Backend;
use backend::Feed;

/// Answers the requests of one session, or one request of the protocol without sessions.
pub(crate) struct Everything {
    vitals: Arc<Vitals>,
    backend: Arc<Backend>,
    sessions: Arc<LocalSessionManager>,
    tools: Arc<ToolRouter<Self>>,
    /// The changes since the request arrived, so that no change is missed while a subscription is being acknowledged.
    changes: Feed,
    /// The least severe log level that the session's client wants.
    level: AtomicU8,
}

impl Everything {
    /// Makes the handlers of a replica's requests. `sessions` are the MCP sessions of this replica.
    pub(crate) fn factory(
        vitals: Arc<Vitals>,
        backend: Arc<Backend>,
        sessions: Arc<LocalSessionManager>,
    ) -> impl Fn() -> Self + Send + Sync + 'static {
        let tools = Arc::new(Self::tools());
        move || Self {
            vitals: vitals.clone(),
            backend: backend.clone(),
            sessions: sessions.clone(),
            tools: tools.clone(),
            changes: backend.feed(),
            level: AtomicU8::new(0),
        }
    }

    /// The server's tools.
    pub(crate) fn tools() -> ToolRouter<Self> {
        Self::content() + Self::narration() + Self::dialogue() + Self::rounds() + Self::jobs()
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Everything {
    #[expect(deprecated, reason = "logging, up to 2025-11-25")]
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(Server::Everything.name(), env!("CARGO_PKG_VERSION")))
            .with_instructions(Server::Everything.instructions())
    }

    /// Calls the tool and signs its result with the replica's name.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let _running = self.vitals.calls.enter();
        let response = self.tools.call(ToolCallContext::new(self, request, context)).await?;
        Ok(self.vitals.sign(response))
    }

    #[expect(deprecated, reason = "logging, up to 2025-11-25")]
    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.prefer(request.level);
        Ok(())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = &request.argument.value;
        let values = ["paris", "park", "party", "test"].into_iter().filter(|value| value.starts_with(begun));
        let values = values.map(str::to_owned).collect();
        CompletionInfo::with_all_values(values)
            .map(CompleteResult::new)
            .map_err(|error| ErrorData::internal_error(error, None))
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::all()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request)
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(resources::all()))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(vec![resources::template()]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Ok(ReadResourceResult::new(vec![found(&request.uri)?]).into())
    }

    /// The resources never change, so a subscription is not stored.
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        found(&request.uri).map(|_| ())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        found(&request.uri).map(|_| ())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        tokio::select! {
            () = context.cancelled() => {}
            () = self.changes.clone().announce(context.sink()) => {}
        }
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.backend.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.backend.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.backend.tasks.cancel_task(&request.task_id)
    }
}

fn found(uri: &str) -> Result<ResourceContents, ErrorData> {
    resources::read(uri).ok_or_else(|| ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri }))))
}

/// A tool's result with one text.
fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}
