//! mcp-edge: an edge proxy for fleets of MCP servers.
pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod mcp;
pub mod metrics;
pub mod proxy;
pub mod route;
pub mod server;
pub mod types;
pub mod upstream;
