//! `Router::find` must take at most 1 µs, with 10 routes and with 10,000 routes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mcp_edge::route::Router;
use mcp_edge::types::HostPattern;

/// How many routes each host has, in a router of `routes` routes. There are several hosts, and several paths for each
/// host.
fn per_host(routes: usize) -> usize {
    if routes < 100 { 5 } else { 100 }
}

fn host(index: usize, routes: usize) -> String {
    format!("edge-{}.example", index / per_host(routes))
}

/// A router with `routes` routes on exact hosts, one route on a wildcard host, and one route for any host.
fn router(routes: usize) -> Router<usize> {
    let mut router = Router::default();
    let mut add = |hosts: &[HostPattern], prefix: &str, route| router.insert(hosts, prefix, route).expect("no overlap");
    for index in 0..routes {
        let hosts = [host(index, routes).parse().expect("a legal host")];
        add(&hosts, &format!("/teams/t{}/server-{index}", index % 7), index);
    }
    add(&["*.example".parse().expect("a legal wildcard")], "/shared/tools", routes);
    add(&[], "/.well-known/health", routes + 1);
    router
}

/// Requests for up to 1,000 of the routes, so that a lookup does not use the same cache lines as the lookup before.
fn requests(routes: usize, suffix: &str) -> Vec<(String, String)> {
    let request = |index| (host(index, routes), format!("/teams/t{}/server-{index}{suffix}", index % 7));
    (0..routes).step_by(routes.div_ceil(1_000)).map(request).collect()
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    for routes in [10, 10_000] {
        let router = router(routes);
        let misses = requests(routes, "").into_iter().map(|(host, path)| (host, path.replace("server", "nothing")));
        for (what, found, requests) in [
            ("hit", true, requests(routes, "/mcp")),
            ("hit_deep_path", true, requests(routes, "/mcp/a/rather/long/path/of/many/segments/below/the/prefix")),
            ("miss", false, misses.collect()),
        ] {
            assert!(requests.iter().all(|(host, path)| router.find(host, path).is_some() == found), "{what}");
            let mut next = requests.iter().cycle();
            group.bench_function(BenchmarkId::new(what, routes), |bencher| {
                bencher.iter(|| {
                    let (host, path) = next.next().expect("a cycle has no end");
                    black_box(router.find(black_box(host), black_box(path)))
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = find
}
criterion_main!(benches);
