//! The MCP servers a fleet can run.

use std::str::FromStr;

use rmcp::handler::server::router::tool::ToolRouter;

use crate::handler::Handler;

/// One of the fleet's MCP servers; several replicas of it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Stock data and orders.
    Fininfo,
    /// The gateway's own tools.
    Mcpgw,
    /// The time.
    Currenttime,
}

impl Server {
    /// Every server, in the order they start.
    pub(crate) const ALL: [Self; 3] = [Self::Fininfo, Self::Mcpgw, Self::Currenttime];

    /// The name in arguments, in replica names and in the MCP server information.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fininfo => "fininfo",
            Self::Mcpgw => "mcpgw",
            Self::Currenttime => "currenttime",
        }
    }

    /// What the server tells a client that asks how to use it.
    pub(crate) fn instructions(self) -> &'static str {
        match self {
            Self::Fininfo => "Synthetic stock market data, an order book and a model to train.",
            Self::Mcpgw => "Finds the services and tools of this fleet, and shows how a request arrived.",
            Self::Currenttime => "The current time in a time zone.",
        }
    }

    /// The server's tools.
    pub(crate) fn tools(self) -> ToolRouter<Handler> {
        match self {
            Self::Fininfo => Handler::fininfo(),
            Self::Mcpgw => Handler::mcpgw(),
            Self::Currenttime => Handler::currenttime(),
        }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|server| server.name() == name)
            .ok_or_else(|| format!("no server is named {name:?} (there are {known})"))
    }
}
