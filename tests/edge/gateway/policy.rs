//! Fault 92: path route and gateway decide in the same way about the same operation.

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;

const SCOPES: [&str; 3] = ["x", "y", "z"];
const TOOLS: [&str; 6] = ["a", "b", "ab", "ba", "bb", "aab"];

fn scopes() -> impl Strategy<Value = BTreeSet<&'static str>> {
    btree_set(proptest::sample::select(&SCOPES[..]), 0..3)
}

/// One list of rules, as an operator writes it.
fn rules(patterns: &'static [&'static str]) -> impl Strategy<Value = String> {
    let access = prop_oneof![
        1 => Just(", deny: true".to_owned()),
        2 => Just(String::new()),
        3 => scopes().prop_map(|all| format!(", scopes: {:?}", all.into_iter().collect::<Vec<_>>())),
        2 => btree_set(proptest::sample::select(&SCOPES[..]), 1..3)
            .prop_map(|any| format!(", any_scope: {:?}", any.into_iter().collect::<Vec<_>>())),
    ];
    // Each pattern once, and the widest last: other rules would never be reached.
    vec(proptest::option::of(access), patterns.len()).prop_map(move |chosen| {
        let rules = patterns.iter().zip(chosen);
        let rules = rules.filter_map(|(pattern, access)| Some(format!("{{match: '{pattern}'{}}}", access?)));
        format!("[{}]", rules.collect::<Vec<_>>().join(", "))
    })
}

/// The settings of a server's route.
fn route() -> impl Strategy<Value = String> {
    let methods = rules(&["tools/call", "tools/list", "initialize", "tools/*", "*"]);
    let tools = rules(&["ab", "b", "a*", "*b", "*"]);
    let required = proptest::option::weighted(0.3, scopes());
    let refusals = proptest::sample::select(&["auto", "http", "jsonrpc"][..]);
    (proptest::option::weighted(0.4, methods), proptest::option::weighted(0.9, tools), required, refusals).prop_map(
        |(methods, tools, required, refusals)| {
            let scopes = required.map(|all| format!(", scopes: {:?}", all.into_iter().collect::<Vec<_>>()));
            let mut text = format!("auth: {{providers: [local]{}}}, refusals: {refusals}", scopes.unwrap_or_default());
            for (key, rules) in [("methods", methods), ("tools", tools)] {
                text += &rules.map(|rules| format!(", {key}: {rules}")).unwrap_or_default();
            }
            text
        },
    )
}

/// What a caller is told: the status, the challenge without the URL of the metadata, and the JSON-RPC error. When a
/// caller lacks scopes that a path route asks of every request, the route has not read the message, and does not answer with a JSON-RPC error.
fn told(reply: &Reply) -> (u16, Option<String>, Option<(Value, String)>) {
    let challenge = reply.header("www-authenticate").map(|challenge| {
        challenge.split(", ").filter(|part| !part.starts_with("resource_metadata")).collect::<Vec<_>>().join(", ")
    });
    let error = reply.json()["error"].clone();
    let rpc = error.is_object().then(|| (error["code"].clone(), error["message"].to_string().replace("p_", "")));
    (reply.status, challenge, rpc)
}

/// Compares lists, calls and refusals of the route `/INDEX/` with those of a gateway with this server alone. Returns how many calls
/// were allowed, and how many were not.
async fn compare(routes: &[String], holders: &[BTreeSet<&'static str>]) -> (usize, usize) {
    let server = Server::start("s", Speaks::Stateless, &TOOLS).await;
    let mut yaml = format!(
        "auth: {{providers: {{{}}}}}\nupstreams: {{s: {{endpoints: [{{address: '{}'}}]}}}}\nroutes:\n",
        Tokens::PROVIDER,
        server.origin.address
    );
    for (index, route) in routes.iter().enumerate() {
        let refusals = route.split("refusals: ").nth(1).and_then(|rest| rest.split(',').next()).expect("it has some");
        yaml += &format!("  - {{path: /{index}/, upstream: s, protocol: mcp, {route}}}\n");
        yaml += &format!(
            "  - {{path: /g{index}, auth: {{providers: [local]}}, refusals: {refusals}, gateway: {{servers: [{{route: '{index}', prefix: p}}]}}}}\n"
        );
    }
    let edge = TestEdge::start(&yaml).await;
    let (mut allowed, mut refused) = (0, 0);
    for (index, route) in routes.iter().enumerate() {
        for held in holders {
            let held = held.iter().copied().collect::<Vec<_>>().join(" ");
            let of_route = Client::new(&edge, &format!("/{index}/mcp"), &held, true);
            let of_gateway = Client::new(&edge, &format!("/g{index}"), &held, true);
            let list = of_route.post(&message("1", "tools/list", "{}")).await;
            let listed = |reply: &Reply| -> BTreeSet<String> {
                let json = reply.json();
                let tools = json["result"]["tools"].as_array().cloned().unwrap_or_default();
                tools
                    .iter()
                    .map(|tool| tool["name"].as_str().expect("a name").trim_start_matches("p_").to_owned())
                    .collect()
            };
            let of_route_listed = listed(&list);
            let list = of_gateway.post(&message("1", "tools/list", "{}")).await;
            let of_gateway_listed = listed(&list);
            // Where a caller may not begin or list, the gateway shows nothing of the server, too.
            for tool in TOOLS {
                let call = |name: &str| message("1", "tools/call", &json!({"name": name}).to_string());
                let (direct, through) =
                    (of_route.post(&call(tool)).await, of_gateway.post(&call(&format!("p_{tool}"))).await);
                let is_ok = |reply: &Reply| reply.status == 200 && reply.json()["result"].is_object();
                let what = format!("{tool} for `{held}` under {}", route);
                if is_ok(&direct) {
                    assert!(is_ok(&through), "{what}: {through:?}");
                    allowed += 1;
                } else {
                    let (told, mut expected) = (told(&through), told(&direct));
                    expected.2 = expected.2.or(told.2.clone());
                    assert_eq!(told, expected, "{what}");
                    refused += 1;
                }
            }
            assert_eq!(of_gateway_listed, of_route_listed, "`{held}` under {}", route);
        }
    }
    (allowed, refused)
}

#[test]
fn path_route_and_gateway_decide_alike() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let config =
        ProptestConfig { cases: 3, failure_persistence: None, max_shrink_iters: 20, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&(vec(route(), 12), vec(scopes(), 3)), |(routes, holders)| {
        let (allowed, refused) = runtime.block_on(compare(&routes, &holders));
        assert!(
            allowed > 0 && refused > 0,
            "the cases do not test both directions: {allowed} allowed, {refused} refused"
        );
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
