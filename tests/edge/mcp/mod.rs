//! MCP: messages, policy, and the exchange with an upstream.

mod messages;
mod policy;
mod relay;
