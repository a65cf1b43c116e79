//! The MCP servers a fleet can run.

use std::str::FromStr;

/// One of the fleet's MCP servers; several replicas of it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Stock data and orders.
    Fininfo,
    /// The gateway's own tools.
    Mcpgw,
    /// The time.
    Currenttime,
    /// The fixtures of the official conformance suite.
    Everything,
}

impl Server {
    /// Every server, in the order they start.
    pub(crate) const ALL: [Self; 4] = [Self::Fininfo, Self::Mcpgw, Self::Currenttime, Self::Everything];

    /// The name in arguments, in replica names and in the MCP server information.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fininfo => "fininfo",
            Self::Mcpgw => "mcpgw",
            Self::Currenttime => "currenttime",
            Self::Everything => "everything",
        }
    }

    /// The `instructions` in the MCP server information.
    pub(crate) fn instructions(self) -> &'static str {
        match self {
            Self::Fininfo => "Synthetic stock market data, an order book and a model to train.",
            Self::Mcpgw => "Finds the services and tools of this fleet, and shows how a request arrived.",
            Self::Currenttime => "The current time in a time zone.",
            Self::Everything => "Every feature of the protocol, as the official conformance suite expects it.",
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
            .ok_or_else(|| format!("there is no server {name:?}: use one of {known}"))
    }
}
