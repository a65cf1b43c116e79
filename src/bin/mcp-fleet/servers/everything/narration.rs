//! Tools that send something before their result, or outside of it.

#![expect(deprecated, reason = "logging, up to 2025-11-25")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::request::Parts;
use rmcp::handler::server::tool::Extension;
use rmcp::model::{LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, ProtocolVersion};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, tool, tool_router};

use super::Everything;

/// How long tools wait between two steps.
const STEP: Duration = Duration::from_millis(50);

/// How many streams of a session `test_reconnection` closes at most.
const MAX_STREAMS: u64 = 64;

type Context = RequestContext<RoleServer>;

#[tool_router(router = narration, vis = "pub(crate)")]
impl Everything {
    /// Logs three messages while it runs.
    #[tool]
    async fn test_tool_with_logging(&self, context: Context) -> Result<String, String> {
        self.log(&context, "Tool execution started").await?;
        tokio::time::sleep(STEP).await;
        self.log(&context, "Tool processing data").await?;
        tokio::time::sleep(STEP).await;
        self.log(&context, "Tool execution completed").await?;
        Ok("Logged three messages.".to_owned())
    }

    /// Logs one message, if the client wants any.
    #[tool]
    async fn test_logging_tool(&self, context: Context) -> Result<String, String> {
        self.log(&context, "Tool execution started").await?;
        Ok("Logged one message, if you wanted it.".to_owned())
    }

    /// Reports its progress, if the client wants it.
    #[tool]
    async fn test_tool_with_progress(&self, context: Context) -> Result<String, String> {
        let token = context.meta.get_progress_token();
        for percent in [0.0, 50.0, 100.0] {
            if percent > 0.0 {
                tokio::time::sleep(STEP).await;
            }
            if let Some(token) = token.clone() {
                let progress = ProgressNotificationParam::new(token, percent).with_total(100.0);
                context.peer.notify_progress(progress).await.map_err(|error| error.to_string())?;
            }
        }
        Ok("Made progress.".to_owned())
    }

    /// Closes the stream of its call before it has a result, which the client gets when it resumes the stream.
    #[tool]
    async fn test_reconnection(&self, Extension(parts): Extension<Parts>) -> Result<String, String> {
        self.hang_up(&parts).await;
        tokio::time::sleep(2 * STEP).await;
        Ok("You came back.".to_owned())
    }

    /// Tells all subscribers that the list of tools has changed, although it has not.
    #[tool]
    fn test_trigger_tool_change(&self) -> String {
        self.backend.change(|changes| changes.tools += 1);
        "Told.".to_owned()
    }

    /// Tells all subscribers that the list of prompts has changed, although it has not.
    #[tool]
    fn test_trigger_prompt_change(&self) -> String {
        self.backend.change(|changes| changes.prompts += 1);
        "Told.".to_owned()
    }
}

impl Everything {
    /// Sets the least severe level that the session's client wants to see.
    pub(crate) fn prefer(&self, level: LoggingLevel) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    async fn log(&self, context: &Context, message: &str) -> Result<(), String> {
        let level = LoggingLevel::Info;
        let wanted = match context.protocol_version() {
            // Without sessions, each request says which level it wants. If it does not, it gets no messages.
            Some(version) if version >= ProtocolVersion::V_2026_07_28 => {
                context.meta.log_level().is_some_and(|wanted| wanted as u8 <= level as u8)
            }
            _ => self.level.load(Ordering::Relaxed) <= level as u8,
        };
        if !wanted {
            return Ok(());
        }
        let message = LoggingMessageNotificationParam::new(level, message.into()).with_logger("everything");
        context.peer.notify_logging_message(message).await.map_err(|error| error.to_string())
    }

    /// Closes all streams of the MCP session, because rmcp does not tell a tool which stream is its own. The client can
    /// resume them.
    async fn hang_up(&self, parts: &Parts) {
        let id = parts.headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
        let Some(id) = id else { return };
        let session = self.sessions.sessions.read().await.get(id).cloned();
        let Some(session) = session else { return };
        for stream in 0..MAX_STREAMS {
            // An error means that there is no such stream.
            let _ = session.close_sse_stream(stream, None).await;
        }
    }
}
