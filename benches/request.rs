//! The cost of the small steps of a request: the canonical path and the host, the request id, the decision of the
//! policy, and the metrics. The benches `router`, `token` and `message` measure the other steps, except the access
//! line: it is private to the edge, and only the bench `instructions` includes it.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_edge::metrics::{CallMetrics, CallOutcome, EndpointResult, Metrics, RouteMetrics, UpstreamMetrics};
use mcp_edge::server::{Shared, build};
use mcp_edge::types::{Authority, KnownMethod, Operation, Principal, RequestId, ScopeSet, Target, canonical_path};

fn target(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target");
    for (name, path) in [("path", "/teams/trading/one/mcp"), ("path, escaped", "/teams/%74rading/caf%c3%a9/mcp")] {
        group.bench_function(name, |bencher| bencher.iter(|| canonical_path(black_box(path.as_bytes()))));
    }
    for (name, host) in [("host", "edge.example:8443"), ("host, upper case", "Edge.Example:8443")] {
        group.bench_function(name, |bencher| bencher.iter(|| Authority::parse(black_box(host))));
    }
    group.finish();
}

fn id(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request_id");
    group.bench_function("generate", |bencher| bencher.iter(RequestId::generate));
    let id = RequestId::generate();
    group.bench_function("to_header", |bencher| bencher.iter(|| black_box(&id).to_header()));
    group.finish();
}

/// Two routes: one with 3 rules for tools, and one with 100.
fn yaml() -> String {
    let mut yaml = "\
listeners: [{address: 127.0.0.1:8080}]
auth: {providers: {corp: {jwt: {issuer: 'https://idp.example', audiences: [mcp-edge], algorithms: [HS256],
        secret: {file: secret}}}}}
upstreams: {one: {endpoints: [{address: 127.0.0.1:8000}]}}
routes:
- path: /few/
  upstream: one
  protocol: mcp
  auth: {providers: [corp], scopes: ['one:read']}
  tools: [{match: 'train_*', scopes: ['one:train']}, {match: 'get_*'}, {match: place_order, scopes: ['one:trade']}]
- path: /many/
  upstream: one
  protocol: mcp
  auth: {providers: [corp], scopes: ['one:read']}
  tools:
"
    .to_owned();
    for rule in 0..99 {
        yaml.push_str(&format!("  - {{match: 'tool_{rule}_*', scopes: ['one:trade']}}\n"));
    }
    yaml.push_str("  - {match: 'get_*'}\n");
    yaml
}

fn policy(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    common::write(&folder, "secret", "0123456789abcdef0123456789abcdef");
    let path = common::write(&folder, "edge.yaml", &yaml());
    let shared = Shared::new(1_000).expect("the process can be set up");
    let snapshot = common::runtime().block_on(build(&shared, common::load(&path), None));
    let scopes: ScopeSet = ["one:read", "one:trade"].map(|scope| scope.parse().expect("a scope")).into_iter().collect();
    let alice = Arc::new(Principal::new("alice", scopes, "corp".into(), None).expect("legal"));
    let call = |tool| Operation::Targeted("tools/call", Target::Tool(tool));
    let mut group = criterion.benchmark_group("policy");
    for (name, route, operation, allowed) in [
        ("no message", "/few/", Operation::Request, true),
        ("tool", "/few/", call("get_stock_aggregates"), true),
        ("tool with a scope", "/few/", call("place_order"), true),
        ("tool that is denied", "/few/", call("train_model"), false),
        ("tool of the last of 100 rules", "/many/", call("get_stock_aggregates"), true),
    ] {
        let policy = &snapshot.routes.get(route).expect("the route is in the configuration").route().policy;
        let decide = || policy.authorize(Some(Arc::clone(&alice)), [black_box(operation)]);
        assert_eq!(decide().is_ok(), allowed, "{name}");
        group.bench_function(name, |bencher| bencher.iter(decide));
    }
    group.finish();
}

fn end(criterion: &mut Criterion) {
    let families = Arc::new(Metrics::new().expect("the families are consistent"));
    let route = RouteMetrics::new(&families, &"/one/".into());
    let endpoint = UpstreamMetrics::new(&families, &"one".into()).endpoint("127.0.0.1:8000");
    // The tools that a server lists. A call of another tool has no series of its own.
    let tools: Vec<String> = (0..100).map(|index| format!("tool_{index}")).collect();
    route.calls.learn(tools.iter().map(String::as_str));
    let method = KnownMethod::of("tools/call");
    let took = Duration::from_millis(3);
    let call = |calls: &CallMetrics, tool| calls.finished(method, Some(black_box(tool)), CallOutcome::Ok, took);
    tools.iter().for_each(|tool| call(&route.calls, tool));
    let mut group = criterion.benchmark_group("metrics");
    group.bench_function("call", |bencher| bencher.iter(|| call(&route.calls, "tool_42")));
    group.bench_function("call of an unknown tool", |bencher| bencher.iter(|| call(&route.calls, "nobody_listed_it")));
    group.bench_function("end of a call", |bencher| {
        bencher.iter(|| {
            endpoint.finished(black_box(EndpointResult::Ok));
            route.finished(black_box(200), took);
            call(&route.calls, "tool_42");
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = target, id, policy, end
}
criterion_main!(benches);
