//! `Upstream::choose` for each balance, with 10 healthy endpoints.

mod common;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_edge::server::{Shared, build};

const BALANCES: [(&str, &str); 4] = [
    ("round_robin", "round_robin"),
    ("least_request", "least_request"),
    ("random", "random"),
    ("hash", "{hash: {header: Mcp-Session-Id}}"),
];

/// One upstream for each balance. All have the same endpoints, with two different weights.
fn yaml() -> String {
    let mut yaml = "listeners: [{address: 127.0.0.1:8080}]\nupstreams:\n".to_owned();
    for (name, balance) in BALANCES {
        yaml.push_str(&format!("  {name}:\n    balance: {balance}\n    endpoints:\n"));
        for endpoint in 1..=10 {
            yaml.push_str(&format!("    - {{address: 10.0.0.{endpoint}:8000, weight: {}}}\n", 1 + endpoint % 2));
        }
    }
    yaml
}

fn choose(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = common::write(&folder, "edge.yaml", &yaml());
    let shared = Shared::new(1_000).expect("the process can be set up");
    let snapshot = common::runtime().block_on(build(&shared, common::load(&path), None));
    // Keys of 1,000 MCP sessions. Without a key, `hash` would balance by least request.
    let keys: Vec<String> = (0..1_000).map(|session| format!("5b0c9a53-6a0d-4a6c-8d43-{session:012x}")).collect();
    let mut group = criterion.benchmark_group("balance");
    for (name, _) in BALANCES {
        let upstream = snapshot.upstreams.get(name).expect("the upstream is in the configuration");
        let mut next = keys.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let key = next.next().expect("a cycle has no end");
                upstream.choose(black_box(Some(key.as_bytes())), black_box(&[])).expect("all are healthy")
            });
        });
    }
    // A second attempt, which skips the endpoint that failed.
    let upstream = snapshot.upstreams.get("least_request").expect("the upstream is in the configuration");
    let tried = [upstream.choose(None, &[]).expect("all are healthy").address()];
    group.bench_function("least_request_again", |bencher| {
        bencher.iter(|| upstream.choose(None, black_box(&tried)).expect("nine are left"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = choose
}
criterion_main!(benches);
