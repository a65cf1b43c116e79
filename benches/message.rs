//! The cost of the steps for one MCP message: reading the message, sealing and opening the session id, and scanning the
//! answer. The exchange with the upstream is not included.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mcp_edge::mcp::{Era, EventScan, KeyRing, MessageScan, Messages, SessionOwner, SessionTarget, filter_list};
use mcp_edge::types::{Principal, ScopeSet, Secret};

fn call(argument_bytes: usize) -> String {
    let text = "x".repeat(argument_bytes);
    format!(
        r#"{{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{{"name":"get_stock_aggregates","arguments":{{"ticker":"ACME","note":"{text}"}},"_meta":{{"progressToken":7}}}}}}"#
    )
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    let headers = http::HeaderMap::new();
    for size in [40, 2_000, 60_000] {
        let body = call(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("read and compare, {} bytes", body.len()), |bencher| {
            bencher.iter(|| {
                let messages = Messages::read(black_box(body.as_bytes())).expect("a message");
                let era = Era::check(&headers, &messages).expect("the message is valid");
                (era, messages.operations().count())
            });
        });
    }
    group.finish();
}

fn sessions(criterion: &mut Criterion) {
    let ring = KeyRing::new(&[Secret::new(vec![7; 32])]).expect("a key");
    let alice = Principal::new("alice", ScopeSet::default(), "corp".into(), None).expect("legal");
    let owner = SessionOwner { route: "/fininfo/", principal: Some(&alice) };
    let endpoint = "10.0.1.11:8000".parse().expect("an address");
    let target = SessionTarget { endpoint, id: "5f0c954e-6c11-4d0a-9c1e-3f4f1f1b6c1d".to_owned() };
    let sealed = ring.seal(&target, b"", owner).expect("sealed");
    let mut group = criterion.benchmark_group("session");
    group.bench_function("seal", |bencher| bencher.iter(|| ring.seal(black_box(&target), b"", owner)));
    group.bench_function("open", |bencher| bencher.iter(|| ring.open(black_box(&sealed), owner)));
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    let text = "y".repeat(100);
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":42,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    );
    let event = format!("id: 7\ndata: {answer}\n\n");
    group.bench_function("scan JSON, 200 bytes", |bencher| {
        bencher.iter(|| {
            let mut scan = MessageScan::default();
            scan.push(black_box(answer.as_bytes()));
            scan.finish()
        });
    });
    group.bench_function("scan an event, 200 bytes", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            EventScan::default().push(black_box(event.as_bytes()), &mut |_| count += 1);
            count
        });
    });
    let tools: Vec<String> = (0..100)
        .map(|index| {
            format!(r#"{{"name":"tool_{index}","description":"{text}","inputSchema":{{"type":"object","properties":{{}}}}}}"#)
        })
        .collect();
    let list = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#, tools.join(","));
    group.bench_function("filter a list of 100 tools", |bencher| {
        bencher.iter(|| filter_list(black_box(list.as_bytes()), &mut |_, name| name.ends_with('7'), true));
    });
    group.finish();
}

criterion_group!(benches, reading, sessions, answers);
criterion_main!(benches);
