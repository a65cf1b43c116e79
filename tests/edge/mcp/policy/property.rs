//! A tool is listed if and only if calling it is allowed.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use mcp_edge::auth::Policy;
use mcp_edge::config::{self, Access, Config, Rule};
use mcp_edge::mcp::{ListKind, Messages, filter_list};
use mcp_edge::types::{Principal, ScopeSet, Target};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::harness::{answer, call, message};

const SCOPES: [&str; 3] = ["x", "y", "z"];

fn scopes() -> impl Strategy<Value = BTreeSet<&'static str>> {
    btree_set(proptest::sample::select(&SCOPES[..]), 0..3)
}

fn access() -> impl Strategy<Value = Access> {
    let scope = |name: &str| name.parse().expect("a scope");
    prop_oneof![
        1 => Just(Access::Deny),
        2 => Just(Access::All([].into_iter().collect())),
        3 => scopes().prop_map(move |all| Access::All(all.into_iter().map(scope).collect())),
        2 => btree_set(proptest::sample::select(&SCOPES[..]), 1..3)
            .prop_map(move |any| Access::Any(any.into_iter().map(scope).collect())),
    ]
}

/// Rules whose patterns come from `pattern`. A rule that an earlier one covers is left out, because the configuration
/// would reject it.
fn rules(pattern: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Rule>> {
    vec((pattern, access()), 0..6).prop_map(|written| {
        let mut rules: Vec<Rule> = Vec::new();
        for (pattern, access) in written {
            let rule = Rule { pattern: pattern.parse().expect("a pattern"), access, timeout: None };
            if !rules.iter().any(|earlier| earlier.pattern.covers(&rule.pattern)) {
                rules.push(rule);
            }
        }
        rules
    })
}

fn policy() -> impl Strategy<Value = config::Policy> {
    let methods = proptest::sample::select(vec![
        "*",
        "tools/*",
        "tools/list",
        "tools/call",
        "*/call",
        "t*s/*",
        "ping",
        "prompts/*",
    ]);
    (
        proptest::option::weighted(0.4, rules(methods.prop_map(str::to_owned))),
        proptest::option::weighted(0.9, rules("[ab*]{1,3}|[ab]\\*|\\*")),
    )
        .prop_map(|(methods, tools)| config::Policy { methods, tools, ..Default::default() })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[ab]{0,3}", 1 => "[abA?\\\\\"é*]{1,3}"]
}

/// The list of these tools, as a server writes it.
fn list_of(names: &BTreeSet<String>) -> String {
    let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "inputSchema": {}})).collect();
    json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": tools}}).to_string()
}

fn names_in(list: &str) -> BTreeSet<String> {
    let list: Value = serde_json::from_str(list).expect("JSON");
    let tools = list["result"]["tools"].as_array().expect("a list").iter();
    tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

fn call_of(name: &str) -> String {
    message("7", "tools/call", &json!({"name": name}).to_string())
}

fn some_route() -> &'static config::Route {
    static ROUTE: OnceLock<config::Route> = OnceLock::new();
    ROUTE.get_or_init(|| {
        let text = "listeners: [{address: '127.0.0.1:0'}]\nupstreams: {a: {endpoints: [{address: '127.0.0.1:1'}]}}\n\
                    routes: [{path: /, upstream: a, protocol: mcp, auth: none}]\n";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("edge.yaml");
        std::fs::write(&path, text).expect("the folder is writable");
        let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        config.routes[0].as_ref().clone()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Uses the edge's own functions to read a call, to decide about it, and to filter a list.
    #[test]
    fn a_tool_is_listed_if_and_only_if_calling_it_is_allowed(
        policy in policy(),
        held in proptest::option::weighted(0.8, scopes()),
        names in btree_set(name(), 1..12),
    ) {
        // Open routes have no principals.
        let auth = held.as_ref().map(|_| config::Authentication {
            providers: Vec::new(), scopes: Default::default(), public_url: None,
            audiences: config::RouteAudiences::OfProviders,
            open_streams: config::OpenStreams::Close,
        });
        let policy = Policy::new(&config::Route { policy, auth, ..some_route().clone() });
        let principal = held.map(|held| {
            let held: ScopeSet = held.into_iter().map(|scope| scope.parse().expect("a scope")).collect();
            Arc::new(Principal::new("alice", held, "test".into(), None).expect("a subject"))
        });
        let authorize = |body: &str| {
            policy.authorize(principal.clone(), Messages::read(body.as_bytes()).expect("a message").operations())
        };
        // A caller that may not request the list gets no list.
        if let Ok(permit) = authorize(&message("7", "tools/list", "{}")) {
            let callable: BTreeSet<String> = names.iter().filter(|name| authorize(&call_of(name)).is_ok()).cloned().collect();
            let whole = list_of(&names);
            let mut shows = |kind, name: &str| {
                assert_eq!(kind, ListKind::Tools);
                policy.shows(&permit, Target::Tool(name))
            };
            let filtered = filter_list(whole.as_bytes(), &mut shows, false).expect("a list");
            let filtered = filtered.map_or(whole, |bytes| String::from_utf8(bytes).expect("UTF-8"));
            prop_assert_eq!(names_in(&filtered), callable.clone());
            prop_assert!(
                callable.len() == names.len() || policy.filters(Target::Tool("")),
                "the edge would not filter this list at all"
            );
        }
    }
}

/// Rules as an operator writes them.
fn written(rules: &[Rule]) -> String {
    let rules = rules.iter().map(|rule| {
        let access = match &rule.access {
            Access::Deny => ", deny: true".to_owned(),
            Access::All(scopes) if scopes.is_empty() => String::new(),
            Access::All(scopes) => {
                format!(", scopes: {:?}", scopes.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            Access::Any(scopes) => {
                format!(", any_scope: {:?}", scopes.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
        };
        format!("{{match: '{}'{access}}}", rule.pattern)
    });
    format!("[{}]", rules.collect::<Vec<_>>().join(", "))
}

/// One route for each policy. On every second route the server answers with events, on the others with JSON.
fn routes(origin: &Origin, policies: &[config::Policy]) -> String {
    let mut yaml = format!(
        "auth: {{providers: {{{}}}}}\nupstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes:\n",
        Tokens::PROVIDER,
        origin.address
    );
    for (index, policy) in policies.iter().enumerate() {
        let form = if index % 2 == 0 { "json" } else { "events" };
        yaml += &format!(
            "  - path: /{index}/\n    upstream: a\n    protocol: mcp\n    rewrite: {{prefix: /{form}/}}\n    auth: {{providers: [local]}}\n"
        );
        for (key, rules) in [("methods", &policy.methods), ("tools", &policy.tools)] {
            if let Some(rules) = rules {
                yaml += &format!("    {key}: {}\n", written(rules));
            }
        }
    }
    yaml
}

/// Compares lists and calls for all policies, holders and names. Returns how many tools were listed, and how many were
/// not.
async fn compare(
    policies: Vec<config::Policy>,
    holders: Vec<BTreeSet<&'static str>>,
    names: BTreeSet<String>,
) -> (usize, usize) {
    let whole = list_of(&names);
    let origin = Origin::answering(move |request| {
        if request.line().starts_with("POST /events/") {
            answer("200 OK", "text/event-stream", &format!("id: 1\ndata: {whole}\n\n"))
        } else {
            answer("200 OK", "application/json", &whole)
        }
    })
    .await;
    let edge = TestEdge::start(&routes(&origin, &policies)).await;
    let (mut listed_tools, mut hidden_tools) = (0, 0);
    for (index, policy) in policies.iter().enumerate() {
        for held in &holders {
            let authorization = bearer(&held.iter().copied().collect::<Vec<_>>().join(" "));
            let ask = async |body: &str| {
                let headers = [("Authorization", authorization.as_str())];
                exchange(edge.address, post(&format!("/{index}/mcp"), &headers, body)).await
            };
            let list = ask(&message("7", "tools/list", "{}")).await;
            if list.status == 403 || is_refused_by_error(&list) {
                assert!(list.json().get("result").is_none());
                continue;
            }
            assert_eq!(list.status, 200, "{list:?}");
            let data = list.body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&list.body);
            let listed = names_in(data);
            for name in &names {
                let reply = ask(&call_of(name)).await;
                let refused = reply.status == 403 || is_refused_by_error(&reply);
                assert!(refused || reply.status == 200, "{reply:?}");
                assert_eq!(listed.contains(name), !refused, "{name:?} for {held:?} under {policy:?}");
            }
            listed_tools += listed.len();
            hidden_tools += names.len() - listed.len();
        }
    }
    (listed_tools, hidden_tools)
}

/// The same through the edge, with its configuration, tokens and both forms of answers.
#[test]
fn through_the_edge_a_tool_is_listed_if_and_only_if_calling_it_is_allowed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let config =
        ProptestConfig { cases: 3, failure_persistence: None, max_shrink_iters: 20, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let cases = (vec(policy(), 20), vec(scopes(), 3), btree_set(name(), 4..8));
    let run = runner.run(&cases, |(policies, holders, names)| {
        let (listed, hidden) = runtime.block_on(compare(policies, holders, names));
        assert!(listed > 0 && hidden > 0, "the cases do not test both directions: {listed} listed, {hidden} hidden");
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    // The edge can read the messages that the harness writes.
    assert!(Messages::read(call("7", "a").as_bytes()).is_ok());
}
