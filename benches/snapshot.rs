//! A configuration of 1,000 routes with 10 endpoints each: loading it, building its first snapshot, and building a
//! snapshot as a reload does. A reload (loading and building) must take at most 100 ms.

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mcp_edge::server::{Shared, build};

const ROUTES: usize = 1_000;
const ENDPOINTS: usize = 10;
const CACHE_CAPACITY: u64 = 100_000;

/// A configuration as an operator would write it, with health checks and scopes.
fn yaml() -> String {
    let mut yaml = "\
listeners: [{address: 127.0.0.1:8080}]
auth:
  providers:
    idp:
      jwt:
        issuer: https://idp.example
        audiences: [mcp-edge]
        algorithms: [ES256]
        jwks: {url: https://idp.example/jwks}
upstreams:
"
    .to_owned();
    for upstream in 0..ROUTES {
        yaml.push_str(&format!("  server-{upstream}:\n    health: {{mcp: {{path: /mcp}}}}\n    endpoints:\n"));
        for endpoint in 0..ENDPOINTS {
            let (high, low) = (upstream / 250, upstream % 250);
            yaml.push_str(&format!("    - address: 10.{high}.{low}.{endpoint}:8000\n"));
        }
    }
    yaml.push_str("routes:\n");
    for route in 0..ROUTES {
        yaml.push_str(&format!("- path: /server-{route}\n  upstream: server-{route}\n  protocol: mcp\n"));
        yaml.push_str(&format!("  auth: {{providers: [idp], scopes: ['server-{route}:read']}}\n"));
    }
    yaml
}

fn reload(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = common::write(&folder, "edge.yaml", &yaml());
    let runtime = common::runtime();
    let shared = || Shared::new(CACHE_CAPACITY).expect("the process can be set up");
    let mut group = criterion.benchmark_group("snapshot");

    group.bench_function("load", |bencher| bencher.iter_with_large_drop(|| common::load(black_box(&path))));

    // Each round has new metrics. Otherwise, the series would exist already and would not be made.
    let config = common::load(&path);
    group.bench_function("build_from_nothing", |bencher| {
        let build = async |shared: Shared| {
            let snapshot = build(&shared, Arc::clone(&config), None).await;
            (snapshot, shared)
        };
        bencher.to_async(&runtime).iter_batched(shared, build, BatchSize::PerIteration);
    });

    let shared = shared();
    let previous = runtime.block_on(build(&shared, config, None));
    assert_eq!((previous.routes.len(), previous.upstreams.len()), (ROUTES, ROUTES));
    // The configuration is loaded again, so it is equal to the first one but shares no object with it.
    let config = common::load(&path);
    group.bench_function("build_after_same", |bencher| {
        let build = async || build(&shared, Arc::clone(&config), Some(&previous)).await;
        bencher.to_async(&runtime).iter_with_large_drop(build);
    });

    group.bench_function("load_and_build_after_same", |bencher| {
        let reload = async || build(&shared, common::load(black_box(&path)), Some(&previous)).await;
        bencher.to_async(&runtime).iter_with_large_drop(reload);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = reload
}
criterion_main!(benches);
