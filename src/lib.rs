//! mcp-edge: an edge proxy for fleets of MCP servers, on Cloudflare's Pingora.
//!
//! # Map
//!
//! Data flows downward, and a module uses only those below it (and [`types`], which all use):
//!
//! * [`cli`] — arguments to exit code; `hash_key` makes API keys.
//! * [`import`] — an nginx configuration and a scope file to YAML.
//! * [`server`] — build, bind, serve, reload, drain. It owns every background task.
//! * [`admin`] — `/livez`, `/readyz`, `/metrics`, `/status`, `/jwks.json`, `POST /reload`.
//! * [`proxy`] — the data path. `front` has the connections: it reads HTTP/1 itself and serves MCP routes at once, and
//!   hands opaque routes, HTTP/2 and whatever is no plain request to Pingora's proxy, whose `hooks` lead to the same files
//!   (a `client_session` is a request of either kind). What followed from a head alone is kept for the next request on its
//!   connection (`last_request`), which mostly has the same one. `request` is the pipeline that a request goes through
//!   before it may go anywhere; `reject` is the only place that knows HTTP statuses. MCP routes take the `exchange`:
//!   `message` reads and judges a body whole, `exchange` chooses the endpoint, which a `session` may have chosen before, and
//!   sends over a `link`; `relay` passes the `answer` on.
//! * [`upstream`] — pools of replicas: discovery, health, balance, connections.
//! * [`auth`] — providers, the token cache, challenges, the `policy`, which decides on every operation, and what upstreams
//!   are shown in place of a client's credential.
//! * `http1` — HTTP/1 messages, without I/O: heads, framing, bodies.
//! * [`mcp`] — the protocol, without I/O: messages, header claims, sealed sessions, scanners and filters of answers.
//! * [`route`] — host and path to route.
//! * [`metrics`] — Prometheus families with closed label sets.
//! * [`config`] — YAML as written, and the checked [`Config`](config::Config); every bound is in [`config::limits`].
//!
//! Pingora is named only in `server`, `admin`, `proxy` and `upstream`; `http1` uses its types of heads.
//!
//! # Invariants
//!
//! 1. One canonical path ([`types::canonical_path`]) serves routing, authorization and the upstream. What cannot be made
//!    canonical is a 400.
//! 2. Policy hangs on the route. One function decides, [`auth::Policy::authorize`], and only the [`auth::Permit`] that it
//!    gives leads to an upstream.
//! 3. A request captures one snapshot at its start and never sees two generations.
//! 4. Authentication fails closed. An outage of a provider is a 503: never an allow, never a cached denial.
//! 5. The bytes of a message that were judged are the bytes that go on. What two JSON parsers could read differently is
//!    refused.
//! 6. Responses are never buffered, whatever their content type, but for lists that the policy filters.
//! 7. A client's token is not sent upstream unless the route says so; identity fields from clients are stripped.
//! 8. A session id authenticates nobody: it opens only for the principal and the route that it was given to.
//! 9. Nothing is sent twice that is not known to be safe to repeat.
//! 10. Every queue, cache, body, header, loop and label set is bounded.
//! 11. Metric labels come from the configuration and from lists that upstreams announced, never from a client.
//! 12. Tokens and secrets appear in no log, metric, admin page, error or panic.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
mod http1;
pub mod import;
pub mod mcp;
pub mod metrics;
pub mod proxy;
pub mod route;
pub mod server;
pub mod types;
pub mod upstream;
