//! mcp-edge: an edge proxy for fleets of MCP servers, built on Cloudflare's Pingora.
//!
//! # Map
//!
//! From top to bottom. A module uses only those below it; `tests/house.rs` checks that.
//!
//! * [`cli`] — the command line, one file for each command.
//! * [`import`] — turns an nginx configuration and a scope file into YAML.
//! * [`server`] — builds, binds, serves, reloads, drains. It owns every background task.
//! * [`admin`] — the admin listener: health, metrics, `/status`, `/catalog`, `/jwks.json`, and what operators may change.
//! * [`proxy`] — the data path: connections of clients, decisions about requests, exchanges with upstreams.
//! * [`upstream`] — pools of replicas: discovery, health, balancing, connections.
//! * [`auth`] — providers, the token cache, challenges, the policy, and what upstreams are shown in place of a credential.
//! * `http1` — HTTP/1 messages, without I/O: heads, framing, bodies.
//! * [`mcp`] — the protocol, without I/O: messages, header fields, sealed sessions, filters of answers.
//! * [`route`] — finds the route for a host and a path.
//! * [`metrics`] — Prometheus metrics with closed label sets.
//! * [`config`] — YAML as written, and the checked [`Config`](config::Config). All limits are in [`config::limits`].
//! * [`types`] — small types that all others use.
//!
//! Pingora is named only in `server`, `admin`, `proxy` and `upstream`; `http1` uses its types of heads.
//! `docs/architecture.md` shows the life of a request.
//!
//! # Invariants
//!
//! 1. One canonical path ([`types::canonical_path`]) is used for routing, for authorization and for the upstream. A path that
//!    cannot be made canonical is a 400.
//! 2. Policy belongs to the route. One function decides, [`auth::Policy::authorize`], and only the [`auth::Permit`] that it
//!    gives leads to an upstream.
//! 3. A request captures one snapshot at its start and never sees two generations.
//! 4. Authentication fails closed. An outage of a provider is a 503: never an allow, never a cached denial.
//! 5. The bytes of a message that were checked are the bytes that are sent on. What two JSON parsers could read differently
//!    is refused.
//! 6. Answers are never buffered, whatever their content type, except for lists that the policy filters.
//! 7. A client's token is not sent upstream unless the route says so. Identity fields from clients are removed.
//! 8. A session id authenticates nobody. It is valid only for the principal and the route that it was given to.
//! 9. Nothing is sent twice unless it is known to be safe to repeat.
//! 10. Every queue, cache, body, header, loop and label set is bounded.
//! 11. Metric labels come from the configuration and from lists that upstreams announced, never from a client.
//! 12. Tokens and secrets appear in no log, metric, admin page, error or panic.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod http1;
pub mod import;
pub mod mcp;
pub mod metrics;
pub mod proxy;
pub mod route;
pub mod server;
pub mod types;
pub mod upstream;
