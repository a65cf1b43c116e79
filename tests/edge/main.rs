//! The integration tests: the real edge between real clients and real servers, all on ephemeral loopback ports.

mod admin;
mod api_keys;
mod authentication;
mod config;
mod discovery;
mod harness;
mod introspection;
mod lifecycle;
mod limits;
mod mcp;
mod mtls;
mod pages;
mod policy;
mod relay;
mod reload;
mod routing;
mod sessions;
mod streaming;
mod tls;
mod upstreams;
