//! mcp-edge: an edge proxy for fleets of MCP servers.
pub mod cli;
pub mod config;
pub mod types;
