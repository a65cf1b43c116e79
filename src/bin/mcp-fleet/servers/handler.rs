//! The handler of a replica's MCP requests.

use std::sync::Arc;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::model::{CallToolRequestParams, CallToolResponse, Implementation, ServerCapabilities, ServerConfig, Tool};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool_handler};
use tokio::sync::Mutex;

use super::order::Order;
use crate::server::Server;
use crate::vitals::Vitals;

/// Every replica of the fleet.
pub(crate) type Roster = Arc<[Arc<Vitals>]>;

/// A function that lists the tools of a server. It is passed to a handler as a value, because the tools of most servers
/// are methods of the handler itself.
pub(crate) type Catalog = fn(Server) -> Vec<Tool>;

/// Answers one replica's MCP requests; clones share the replica's state.
#[derive(Clone)]
pub(crate) struct Handler {
    /// The replica that answers.
    pub(crate) vitals: Arc<Vitals>,
    /// The fleet of the replica.
    pub(crate) roster: Roster,
    /// The orders that were placed with the replica.
    pub(crate) orders: Arc<Mutex<Vec<Order>>>,
    /// What all servers of the fleet offer.
    pub(crate) catalog: Catalog,
    tools: Arc<ToolRouter<Self>>,
}

impl Handler {
    /// A handler with its server's tools and no orders.
    pub(crate) fn new(vitals: Arc<Vitals>, roster: Roster, catalog: Catalog, tools: ToolRouter<Self>) -> Self {
        Self { vitals, roster, catalog, orders: Arc::default(), tools: Arc::new(tools) }
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
