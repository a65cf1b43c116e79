//! The integration tests: the real edge between real clients and real servers, all on ephemeral loopback ports.

mod admin;
mod authentication;
mod clocks;
mod config;
mod corpus;
mod harness;
mod hostile;
mod identity;
mod import;
mod keys;
mod lifecycle;
mod limits;
mod lookups;
mod mcp;
mod pages;
mod policy;
mod relay;
mod reload;
mod revocation;
mod routing;
mod sessions;
mod streaming;
mod tls;
mod upstreams;
