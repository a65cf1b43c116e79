//! The MCP servers of the fleet: their tools, and the handlers of their requests.

pub(crate) mod catalog;
pub(crate) mod currenttime;
pub(crate) mod everything;
pub(crate) mod fininfo;
pub(crate) mod handler;
pub(crate) mod mcpgw;
pub(crate) mod offset;
pub(crate) mod order;
pub(crate) mod stock;
