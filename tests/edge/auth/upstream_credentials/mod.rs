//! Credentials that upstreams get in place of the client's: exchanged tokens, tokens of the edge itself, and
//! assertions.

mod assertion;
mod client_credentials;
mod crowds;
mod exchange;
mod lifetime;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Origin, Recorded, Reply, TestEdge, Tokens, answer, call, exchange, ok, post};

const SECRET: (&str, &str) = ("edge.secret", "hunter2 & more\n");

const IS_JSON: &str = "application/json";

/// A token endpoint that issues `issued-1`, `issued-2` and so on. `more` is added to its answers.
async fn issuer(more: &'static str) -> Origin {
    let given = AtomicUsize::new(0);
    Origin::answering(move |_| issued(&format!("issued-{}", given.fetch_add(1, Ordering::SeqCst) + 1), more)).await
}

fn issued(token: &str, more: &str) -> Vec<u8> {
    ok(&format!(r#"{{"access_token": "{token}", "token_type": "Bearer"{more}}}"#))
}

/// The answer of a token endpoint that refuses to issue a token.
fn refused(status: &str, code: &str) -> Vec<u8> {
    answer(status, IS_JSON, &format!(r#"{{"error": "{code}", "error_description": "canary-description"}}"#))
}

/// An upstream for MCP and for anything else.
async fn upstream() -> Origin {
    Origin::answering(|_| answer("200 OK", IS_JSON, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await
}

/// `exchange` or `client_credentials` at `issuer`.
fn grant(kind: &str, issuer: &Origin, more: &str) -> String {
    let address = issuer.address;
    format!(
        "{kind}: {{token_url: 'http://{address}/token?x=1', client_id: 'my edge', client_secret: {{file: edge.secret}}{more}}}"
    )
}

/// The routes `/mcp/` and `/http/`, both with `credential`. Callers need tokens. Only the tool `get` may be called.
fn yaml(origin: &Origin, credential: &str) -> String {
    format!(
        "auth: {{cache: {{negative_ttl: 0s}}, providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}], timeouts: {{connect: 20s}}}}}}
routes:
  - {{path: /mcp/, upstream: a, protocol: mcp, auth: {{providers: [local]}}, tools: [{{match: get}}], credential: {{{credential}}}}}
  - {{path: /http/, upstream: a, auth: {{providers: [local]}}, credential: {{{credential}}}}}
",
        Tokens::PROVIDER,
        origin.address
    )
}

/// An edge that exchanges its callers' tokens at `issuer`.
async fn edge(origin: &Origin, issuer: &Origin, more: &str) -> TestEdge {
    TestEdge::start_with(&yaml(origin, &grant("exchange", issuer, more)), &[SECRET]).await
}

/// The paths of the two routes: one for MCP, one for HTTP.
const WAYS: [&str; 2] = ["/mcp/", "/http/"];

/// Calls the tool `get` with `token`.
async fn send(edge: &TestEdge, path: &str, token: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let body = call("1", "get");
    exchange(edge.address, post(path, &[("Authorization", &authorization)], &body)).await
}

/// The form in a request's body. Each field must occur only once.
fn form(request: &Recorded) -> BTreeMap<String, String> {
    let mut form = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(&request.body).into_owned() {
        assert!(form.insert(name.clone(), value).is_none(), "{name}");
    }
    form
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// How many token requests of a route have had this result.
async fn counted(edge: &TestEdge, route: &str, result: &str) -> f64 {
    edge.metric(&format!(r#"mcp_edge_upstream_token_requests_total{{result="{result}",route="{route}"}}"#)).await
}

/// A server whose answer can be changed.
async fn changing(first: Vec<u8>) -> (Origin, Arc<std::sync::Mutex<Vec<u8>>>) {
    let now = Arc::new(std::sync::Mutex::new(first));
    let answers = Arc::clone(&now);
    (Origin::answering(move |_| answers.lock().expect("no test panics while it holds the lock").clone()).await, now)
}
