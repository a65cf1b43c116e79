//! Who may use which methods, tools, prompts and resources, and what lists show of them.

mod lists;
mod property;
mod rules;
mod servers;

use crate::harness::{Origin, Reply, TestEdge, Tokens, exchange, is_refused_by_error, post};

/// An edge with a route `/` to `origin` that has these rules and needs a token.
async fn edge(origin: &Origin, rules: &str) -> TestEdge {
    TestEdge::start(&yaml(origin, "{providers: [local]}", rules)).await
}

/// An edge with the same route, but without authentication.
async fn open_edge(origin: &Origin, rules: &str) -> TestEdge {
    TestEdge::start(&yaml(origin, "none", rules)).await
}

fn yaml(origin: &Origin, auth: &str, rules: &str) -> String {
    format!(
        "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /, upstream: a, protocol: mcp, auth: {auth}, body_bytes: 16MiB, {rules}}}
",
        Tokens::PROVIDER,
        origin.address
    )
}

fn bearer(scopes: &str) -> String {
    format!("Bearer {}", Tokens::token("alice", scopes))
}

/// POSTs `body` as a caller with `scopes`.
async fn ask(edge: &TestEdge, scopes: &str, body: &str) -> Reply {
    exchange(edge.address, post("/mcp", &[("Authorization", &bearer(scopes))], body)).await
}
