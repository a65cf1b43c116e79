//! mcp-edge: an edge proxy for fleets of MCP servers, on Cloudflare's Pingora.
//!
//! # Map
//!
//! Data flows downward, and a module uses only those below it (and [`types`], which all use):
//!
//! * [`cli`] — arguments to exit code.
//! * [`server`] — build, bind, serve, reload, drain. It owns every background task.
//! * [`admin`] — `/livez`, `/readyz`, `/metrics`, `/status`, `POST /reload`.
//! * [`proxy`] — the data path: Pingora's hooks, each delegating to one file. `request` is the pipeline that a request
//!   goes through before it may go anywhere; `reject` is the only place that knows HTTP statuses.
//! * [`upstream`] — pools of replicas: discovery, health, balance, connections.
//! * [`auth`] — providers, the token cache, challenges.
//! * [`mcp`] — the protocol, without I/O.
//! * [`route`] — host and path to route.
//! * [`metrics`] — Prometheus families with closed label sets.
//! * [`config`] — YAML as written, and the checked [`Config`](config::Config); every bound is in [`config::limits`].
//!
//! Pingora is named only in `server`, `admin`, `proxy` and `upstream`.
//!
//! # Invariants
//!
//! 1. One canonical path ([`types::canonical_path`]) serves routing, authorization and the upstream. What cannot be made
//!    canonical is a 400.
//! 2. Policy hangs on the route. Only a [`types::Permit`] leads to an upstream.
//! 3. A request captures one snapshot at its start and never sees two generations.
//! 4. Authentication fails closed. An outage of a provider is a 503: never an allow, never a cached denial.
//! 5. Responses are never buffered, whatever their content type.
//! 6. A client's token is not sent upstream unless the route says so; identity fields from clients are stripped.
//! 7. Nothing is sent twice that is not known to be safe to repeat.
//! 8. Every queue, cache, body, header, loop and label set is bounded.
//! 9. Metric labels come from the configuration, never from a client.
//! 10. Tokens and secrets appear in no log, metric, admin page, error or panic.

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
