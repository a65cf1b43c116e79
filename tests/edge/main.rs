//! The integration tests: the real edge between real clients and real servers, all on ephemeral loopback ports.

mod auth;
mod config;
mod fuzz_corpus;
mod harness;
mod http;
mod import;
mod lifecycle;
mod mcp;
mod sessions;
mod upstreams;
