//! The integration tests. They run the real edge between real clients and real servers, all on ephemeral loopback
//! ports.
//!
//! A comment such as `Row 16` names a row of the project's fault matrix: the fault that the test causes.

mod auth;
mod config;
mod fuzz_corpus;
mod gateway;
mod harness;
mod http;
mod import;
mod lifecycle;
mod mcp;
mod sessions;
mod upstreams;
