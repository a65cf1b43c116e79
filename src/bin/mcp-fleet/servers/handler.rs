//! What answers the MCP requests of a replica.

use std::sync::Arc;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::model::{CallToolRequestParams, CallToolResponse, Implementation, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool_handler};
use tokio::sync::Mutex;

use super::fininfo::Order;
use crate::replica::vitals::Vitals;

/// Every replica of the fleet.
pub(crate) type Roster = Arc<[Arc<Vitals>]>;

/// Answers one replica's MCP requests; clones share the replica's state.
#[derive(Clone)]
pub(crate) struct Handler {
    /// The replica that answers.
    pub(crate) vitals: Arc<Vitals>,
    /// The fleet it belongs to.
    pub(crate) roster: Roster,
    /// The orders placed with it.
    pub(crate) orders: Arc<Mutex<Vec<Order>>>,
    tools: Arc<ToolRouter<Self>>,
}

impl Handler {
    /// A handler with its server's tools and no orders.
    pub(crate) fn new(vitals: Arc<Vitals>, roster: Roster, tools: ToolRouter<Self>) -> Self {
        Self { vitals, roster, orders: Arc::default(), tools: Arc::new(tools) }
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let server = self.vitals.server;
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(server.name(), env!("CARGO_PKG_VERSION")))
            .with_instructions(server.instructions())
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
}
