//! The requests of a session go to the endpoint that opened the session, and no other caller can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{
    CALL, Caller, INITIALIZE, KEY, LIST, WITH_KEY, addresses, answer, kill, method, methods, respond, rpc, server,
    start, take_home, yaml,
};
use crate::harness::{EdgeProcess, Fleet, Origin, TestEdge, Tokens, eventually, ok, request};

/// A real client with a session. It can tell which replica answers.
pub(super) struct Client(rmcp::service::RunningService<rmcp::RoleClient, ()>);

impl Client {
    pub(super) async fn connect(edge: &TestEdge) -> Self {
        let url = format!("http://{}/currenttime/mcp", edge.address);
        // The client must not hide a 404 by opening another session.
        let config = StreamableHttpClientTransportConfig::with_uri(url).reinit_on_expired_session(false);
        Self(().serve(StreamableHttpClientTransport::from_config(config)).await.expect("a session"))
    }

    /// The replica that answers a call; `None` when the call fails.
    pub(super) async fn replica(&self) -> Option<String> {
        let arguments = serde_json::json!({"tz_name": "UTC"}).as_object().cloned().expect("an object");
        let request = CallToolRequestParams::new("current_time_by_timezone").with_arguments(arguments);
        let result = self.0.call_tool(request).await.ok()?;
        Some(result.meta?.get("replica")?.as_str()?.to_owned())
    }
}

pub(super) async fn fleet_edge(fleet: &Fleet, route: &str) -> TestEdge {
    TestEdge::start(&format!(
        "upstreams: {{currenttime: {{endpoints: [{}], balance: round_robin}}}}
routes: [{{path: /currenttime/, upstream: currenttime, protocol: mcp, auth: none{route}}}]\n",
        fleet.endpoints("currenttime")
    ))
    .await
}

#[tokio::test]
async fn fifty_calls_of_a_session_are_answered_by_one_of_three_replicas() {
    let fleet = Fleet::start(&["currenttime", "currenttime", "currenttime"]).await;
    let edge = fleet_edge(&fleet, "").await;
    let client = Client::connect(&edge).await;
    let home = client.replica().await.expect("an answer");
    for _ in 0..49 {
        assert_eq!(client.replica().await.as_ref(), Some(&home));
    }
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(Client::connect(&edge).await);
    }
    let mut homes = BTreeSet::new();
    for other in &others {
        let home = other.replica().await.expect("an answer");
        assert_eq!(other.replica().await.as_ref(), Some(&home));
        homes.insert(home);
    }
    assert_eq!(homes.len(), 3, "sessions are balanced: {homes:?}");
    assert_eq!(client.replica().await, Some(home), "and do not disturb each other");
}

#[tokio::test]
async fn the_client_gets_a_sealed_id_and_the_server_gets_its_own_id() {
    let origin = server("only").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let sealed = caller.id();
    assert!(sealed.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{sealed}");
    assert!(!sealed.contains("only-1"));
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(sealed).expect("base64url");
    assert!(!bytes.windows(6).any(|window| window == b"only-1"), "it is encrypted, not only encoded");
    assert_eq!(caller.who().await, "only");
    assert_eq!(origin.last().headers("mcp-session-id"), ["only-1"]);
    let again = Caller::open(edge.address, "/a/mcp", "alice").await;
    assert_ne!(again.id(), sealed);
}

#[tokio::test]
async fn a_session_outlives_the_edge_when_the_key_does() {
    let origins = [server("a").await, server("b").await, server("c").await];
    let first = start(WITH_KEY, &addresses(&origins), "", "").await;
    let caller = Caller::open(first.address, "/a/mcp", "alice").await;
    let home = caller.who().await;
    let drained = first.drain_in_background(Duration::from_secs(1));
    drained.await.expect("it ends");
    let second = start(WITH_KEY, &addresses(&origins), "", "").await;
    for _ in 0..6 {
        assert_eq!(caller.at(&second).who().await, home);
    }
}

#[tokio::test]
async fn without_a_key_sessions_end_with_the_edge() {
    let origin = server("a").await;
    let first = start("", &[origin.address], "", "").await;
    let mut caller = Caller::open(first.address, "/a/mcp", "alice").await;
    assert_eq!(caller.who().await, "a");
    // A reload does not end sessions.
    first.reload(&yaml("", &[origin.address], "", ", sse_keepalive: 7s")).await.expect("it reloads");
    assert_eq!(caller.who().await, "a");
    first.drain_in_background(Duration::from_secs(1)).await.expect("it ends");
    let second = start("", &[origin.address], "", "").await;
    caller = caller.at(&second);
    let before = origin.count();
    assert_eq!(caller.post(CALL).await.status, 404);
    assert_eq!(origin.count(), before);
    caller.initialize().await;
    assert_eq!(caller.who().await, "a");
}

#[tokio::test]
async fn the_real_process_restarts_without_losing_a_session() {
    let origins = [server("a").await, server("b").await];
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [KEY, Tokens::SECRET_FILE] {
        std::fs::write(folder.path().join(name), text).expect("the folder is writable");
    }
    let listeners = "listeners: [{address: '127.0.0.1:0', hosts: [localhost]}]\nadmin: {address: '127.0.0.1:0'}\n";
    let path = folder.path().join("edge.yaml");
    std::fs::write(&path, yaml(&format!("{listeners}{WITH_KEY}"), &addresses(&origins), "", "")).expect("written");
    let first = EdgeProcess::start(&path).await;
    let mut caller = Caller::open(first.address, "/a/mcp", "alice").await;
    let home = caller.who().await;
    first.signal("TERM");
    assert_eq!(first.wait().await.code(), Some(0));
    let second = EdgeProcess::start(&path).await;
    caller.address = second.address;
    for _ in 0..4 {
        assert_eq!(caller.who().await, home);
    }
}

#[tokio::test]
async fn edges_with_the_same_key_serve_the_same_sessions() {
    let origins = [server("a").await, server("b").await, server("c").await];
    let edges =
        [start(WITH_KEY, &addresses(&origins), "", "").await, start(WITH_KEY, &addresses(&origins), "", "").await];
    let caller = Caller::open(edges[0].address, "/a/mcp", "alice").await;
    let home = caller.who().await;
    for round in 0..20 {
        assert_eq!(caller.at(&edges[round % 2]).who().await, home);
    }
    let stranger = start("", &addresses(&origins), "", "").await;
    assert_eq!(caller.at(&stranger).post(CALL).await.status, 404, "an edge with another key does not serve them");
}

#[tokio::test]
async fn another_principal_cannot_use_a_session() {
    let origin = server("a").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let alice = Caller::open(edge.address, "/a/mcp", "alice").await;
    let mut bob = Caller::open(edge.address, "/a/mcp", "bob").await;
    bob.session = alice.session.clone();
    let before = origin.count();
    for (method, body) in [("POST", CALL), ("GET", ""), ("DELETE", "")] {
        let reply = bob.send(method, &[], body).await;
        assert_eq!(reply.status, 404, "{method} {body}: {reply:?}");
    }
    assert_eq!(origin.count(), before, "nothing reached the server");
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="unknown_session"}"#).await, 3.0);
    assert_eq!(alice.who().await, "a", "and alice's session lives");
}

/// Case A4: a client that initializes again may still send the id of a session that has ended. It gets a new session, and the server
/// does not see the old id.
#[tokio::test]
async fn an_initialize_opens_a_session_whatever_id_it_carries() {
    let origin = server("a").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let alice = Caller::open(edge.address, "/a/mcp", "alice").await;
    for stale in [alice.session.clone(), Some(String::new()), Some("made-up".to_owned())] {
        let again = Caller { session: stale.clone(), ..alice.clone() };
        let reply = again.post(INITIALIZE).await;
        assert_eq!(reply.status, 200, "{stale:?}: {reply:?}");
        let opened = reply.header("mcp-session-id").map(str::to_owned);
        assert!(opened.is_some() && opened != alice.session, "{stale:?}");
        assert_eq!(origin.last().header("mcp-session-id"), None, "{stale:?}");
    }
    assert_eq!(alice.who().await, "a", "and the first session lives");
}

#[tokio::test]
async fn a_session_belongs_to_the_route_that_opened_it() {
    let origin = server("a").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let before = origin.count();
    let reply = Caller { path: "/b/mcp".to_owned(), ..caller.clone() }.post(CALL).await;
    assert_eq!((reply.status, origin.count()), (404, before));
    assert_eq!(caller.who().await, "a");
}

#[tokio::test]
async fn an_id_that_the_edge_did_not_make_is_unknown() {
    let origin = server("a").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let before = origin.count();
    let sealed = caller.id().to_owned();
    let flipped = format!("{}{}", if sealed.starts_with('A') { 'B' } else { 'A' }, &sealed[1..]);
    let long = "A".repeat(20_000);
    for made_up in
        ["a-1", "x", "", &sealed[1..], &sealed[..sealed.len() - 4], &format!("{sealed}AAAA"), &flipped, &long]
    {
        let stranger = Caller { session: Some(made_up.to_owned()), ..caller.clone() };
        let reply = stranger.post(CALL).await;
        assert_eq!(reply.status, 404, "{made_up:?}: {reply:?}");
        // A request with an id is answered with an error for that id.
        assert_eq!(reply.json()["id"], 7, "{reply:?}");
    }
    assert_eq!(origin.count(), before, "nothing reached the server");
    assert_eq!(caller.who().await, "a");
}

#[tokio::test]
async fn several_session_fields_are_refused() {
    let origin = server("a").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let before = origin.count();
    for other in [caller.id(), "a-1"] {
        assert_eq!(caller.send("POST", &[("Mcp-Session-Id", other)], CALL).await.status, 400);
    }
    assert_eq!(origin.count(), before);
}

#[tokio::test]
async fn keys_rotate_through_reloads() {
    let origins = [server("a").await, server("b").await];
    let keys = [("old.key", "old old old old old old old old 1"), ("new.key", "new new new new new new new new 1")];
    let config = |keys: &str| yaml(&format!("sessions: {{keys: [{keys}]}}"), &addresses(&origins), "", "");
    let edge = TestEdge::start_with(&config("{file: old.key}"), &keys).await;
    let old = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = old.who().await;
    edge.reload(&config("{file: new.key}, {file: old.key}")).await.expect("it reloads");
    assert_eq!(old.who().await, home, "the old key still opens sessions");
    let new = Caller::open(edge.address, "/a/mcp", "alice").await;
    let only_new = TestEdge::start_with(&config("{file: new.key}"), &keys).await;
    assert_eq!(new.at(&only_new).who().await, new.who().await, "new ids are sealed with the first key");
    assert_eq!(old.at(&only_new).post(CALL).await.status, 404);
    edge.reload(&config("{file: new.key}")).await.expect("it reloads");
    assert_eq!(old.post(CALL).await.status, 404, "the removed key opens no session");
    new.who().await;
}

#[tokio::test]
async fn a_reload_keeps_a_session_as_long_as_its_endpoint() {
    let mut origins = vec![server("a").await, server("b").await];
    let edge = start(WITH_KEY, &addresses(&origins), "", "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = take_home(&mut origins);
    let name = caller.who().await;
    let (other, third) = (origins.remove(0), server("c").await);
    for endpoints in [
        vec![home.address, other.address, third.address],
        vec![third.address, home.address],
        vec![home.address],
        vec![other.address, third.address, home.address],
    ] {
        edge.reload(&yaml(WITH_KEY, &endpoints, "", "")).await.expect("it reloads");
        for _ in 0..4 {
            assert_eq!(caller.who().await, name, "{endpoints:?}");
        }
    }
    edge.reload(&yaml(WITH_KEY, &[other.address, third.address], "", "")).await.expect("it reloads");
    let before = home.count();
    assert_eq!(caller.post(CALL).await.status, 404, "the session's endpoint was removed");
    assert_eq!(home.count(), before, "the removed endpoint gets no request");
    edge.reload(&yaml(WITH_KEY, &[home.address, other.address], "", "")).await.expect("it reloads");
    assert_eq!(caller.who().await, name, "the endpoint was added again");
}

#[tokio::test]
async fn the_end_of_a_server_ends_its_sessions_and_a_client_that_initializes_again_goes_on() {
    let mut origins = vec![server("a").await, server("b").await];
    let edge = start(WITH_KEY, &addresses(&origins), "", "").await;
    let mut caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    caller.who().await;
    kill(take_home(&mut origins)).await;
    let survivor = origins.remove(0);
    for (method, body) in [("POST", CALL), ("POST", LIST), ("GET", ""), ("DELETE", "")] {
        assert_eq!(caller.send(method, &[], body).await.status, 404, "{method} {body}");
    }
    assert_eq!(survivor.count(), 0, "no request goes to the other server");
    for _ in 0..4 {
        caller.initialize().await;
        caller.who().await;
    }
    assert_eq!(methods(&survivor).iter().filter(|method| *method == "tools/call").count(), 4);
}

#[tokio::test]
async fn a_dead_replica_of_the_fleet_ends_its_sessions() {
    let fleet = Fleet::start(&["currenttime", "currenttime"]).await;
    let edge = fleet_edge(&fleet, "").await;
    let client = Client::connect(&edge).await;
    let home = client.replica().await.expect("an answer");
    let mut raw = Caller::new(edge.address, "/currenttime/mcp", "anybody");
    loop {
        raw.initialize().await;
        if client_replica(&raw).await == Some(home.clone()) {
            break;
        }
    }
    fleet.switch(&home, "dead").await;
    assert_eq!(raw.post(&time_call()).await.status, 404);
    assert_eq!(client.replica().await, None, "the call of the real client fails, too");
    raw.initialize().await;
    let refuge = client_replica(&raw).await.expect("an answer");
    assert_ne!(refuge, home);
    let again = Client::connect(&edge).await;
    assert_eq!(again.replica().await, Some(refuge));
    // The replica comes back without its sessions. The edge passes its refusal on.
    fleet.switch(&home, "ok").await;
    assert_eq!(client.replica().await, None);
}

fn time_call() -> String {
    CALL.replace(r#""who","arguments":{}"#, r#""current_time_by_timezone","arguments":{"tz_name":"UTC"}"#)
}

async fn client_replica(caller: &Caller) -> Option<String> {
    let body = caller.post(&time_call()).await.body;
    // The body is JSON or one event.
    let json = body.lines().find_map(|line| serde_json::from_str::<Value>(line.trim_start_matches("data:")).ok())?;
    Some(json["result"]["_meta"]["replica"].as_str()?.to_owned())
}

#[tokio::test]
async fn an_unhealthy_endpoint_ends_its_sessions_unless_all_are_unhealthy() {
    let down: BTreeMap<&str, Arc<AtomicBool>> = [("a", Arc::default()), ("b", Arc::default())].into();
    let mut origins = BTreeMap::new();
    for (name, down) in down.clone() {
        let opened = AtomicUsize::new(0);
        let origin = Origin::answering(move |request| {
            if !request.line().contains("/health") {
                return answer(name, request, &opened);
            }
            if down.load(Ordering::SeqCst) { respond("500 Internal Server Error", &[], "") } else { ok("up") }
        });
        origins.insert(name, origin.await);
    }
    let endpoints: Vec<_> = origins.values().map(|origin| origin.address).collect();
    let health = ", health: {http: {path: /health}, interval: 50ms, healthy: 1, unhealthy: 1}";
    let edge = start(WITH_KEY, &endpoints, health, "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = caller.who().await;
    let other = if home == "a" { "b" } else { "a" };
    let is = async |name: &str, healthy: bool| {
        let series = format!(r#"mcp_edge_endpoint_healthy{{endpoint="{}",upstream="a"}}"#, origins[name].address);
        edge.metric(&series).await == f64::from(u8::from(healthy))
    };
    let calls = || methods(&origins[home.as_str()]).iter().filter(|method| *method == "tools/call").count();
    assert_eq!(calls(), 1);
    down[home.as_str()].store(true, Ordering::SeqCst);
    eventually("its endpoint is unhealthy", async || is(&home, false).await).await;
    assert_eq!(caller.post(CALL).await.status, 404);
    down[other].store(true, Ordering::SeqCst);
    eventually("both are unhealthy", async || is(other, false).await).await;
    let reply = caller.post(CALL).await;
    assert_eq!(reply.status, 503, "no endpoint could serve a new session: {reply:?}");
    assert!(reply.header("retry-after").is_some());
    assert_eq!(calls(), 1, "an unhealthy endpoint gets nothing");
    down[home.as_str()].store(false, Ordering::SeqCst);
    eventually("its endpoint is healthy", async || is(&home, true).await).await;
    assert_eq!(caller.who().await, home, "the session works again");
}

/// Checks new connections, and connections that have served a request before (`warm`).
#[tokio::test]
async fn a_failure_within_a_session_is_reported_and_no_call_is_sent_twice() {
    let breaking: &[&str] = &["none", "head", "body"];
    for &breaks in breaking {
        for warm in [false, true] {
            let mut origins = Vec::new();
            for name in ["a", "b"] {
                origins.push(breaking_server(name, breaks).await);
            }
            let edge = start(WITH_KEY, &addresses(&origins), "", "").await;
            let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
            let home = take_home(&mut origins);
            for (kind, body) in [("tools/call", CALL), ("tools/list", LIST)] {
                if warm {
                    assert_eq!(caller.post(super::INITIALIZED).await.status, 202);
                } else {
                    // This stream uses the idle connection to its end, so the next request needs a new connection.
                    let _stream = held_stream(&caller).await;
                    eventually("the stream is open", async || home.last().line().starts_with("GET")).await;
                    let reply = caller.post(body).await;
                    check_broken(breaks, kind, &reply);
                    let sent = methods(&home).iter().filter(|method| *method == kind).count();
                    assert_eq!(sent, 1, "{breaks} {kind}: a fresh connection that breaks is a failure");
                    continue;
                }
                let before = methods(&home).iter().filter(|method| *method == kind).count();
                let reply = caller.post(body).await;
                check_broken(breaks, kind, &reply);
                let sent = methods(&home).iter().filter(|method| *method == kind).count() - before;
                // A request that only reads may be repeated at the same server, because the failure of an idle
                // connection does not mean that the server has failed.
                let most = if kind == "tools/list" && breaks != "body" { 2 } else { 1 };
                assert!((1..=most).contains(&sent), "{breaks} {kind}: {sent}");
            }
            assert_eq!(origins[0].count(), 0, "{breaks}: no other server gets the session's requests");
        }
    }
}

fn check_broken(breaks: &str, kind: &str, reply: &crate::harness::Reply) {
    match breaks {
        "body" => assert!(reply.status == 200 && !reply.complete, "{kind}: {reply:?}"),
        _ => assert_eq!(reply.status, 502, "{breaks} {kind}: {reply:?}"),
    }
}

async fn held_stream(caller: &Caller) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(caller.address).await.expect("the edge listens");
    stream.write_all(caller.text("GET", &[], "").as_bytes()).await.expect("it reads");
    stream
}

/// A server that breaks off before, in or after the head of its answers to calls and lists. Its streams are silent and
/// stay open.
async fn breaking_server(name: &'static str, breaks: &'static str) -> Origin {
    let opened = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut stream, recorder| {
        let opened = Arc::clone(&opened);
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                if request.line().starts_with("GET") {
                    std::future::pending::<()>().await;
                }
                if method(&request).starts_with("tools/") {
                    let part: &[u8] = match breaks {
                        "none" => b"",
                        "head" => b"HTTP/1.1 200 OK\r\nContent-Ty",
                        _ => b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\":",
                    };
                    drop(stream.write_all(part).await);
                    return;
                }
                if stream.write_all(&answer(name, &request, &opened)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_error_of_the_server_within_a_session_is_passed_on() {
    for status in ["500 Internal Server Error", "503 Service Unavailable", "400 Bad Request"] {
        let opened = AtomicUsize::new(0);
        let origin = Origin::answering(move |request| match method(request).starts_with("tools/") {
            true => respond(status, &[], r#"{"mine":true}"#),
            false => answer("a", request, &opened),
        })
        .await;
        let other = server("b").await;
        let edge = start(WITH_KEY, &[origin.address, other.address], "", "").await;
        let mut caller = Caller::open(edge.address, "/a/mcp", "alice").await;
        if origin.count() == 0 {
            caller = Caller::open(edge.address, "/a/mcp", "alice").await;
        }
        let (before, others) = (origin.count(), other.count());
        for body in [CALL, LIST] {
            let reply = caller.post(body).await;
            assert_eq!(format!("{} {}", reply.status, reply.body), format!("{} {{\"mine\":true}}", &status[..3]));
        }
        assert_eq!((origin.count(), other.count()), (before + 2, others), "each was sent once");
    }
}

#[tokio::test]
async fn delete_and_streams_follow_the_session() {
    let mut origins = vec![server("a").await, server("b").await, server("c").await];
    let edge = start(WITH_KEY, &addresses(&origins), "", "").await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = take_home(&mut origins);
    let name = caller.who().await;
    for _ in 0..3 {
        let reply = caller.send("GET", &[("Last-Event-ID", "41/x")], "").await;
        assert_eq!((reply.status, reply.body), (200, format!("data: {name}\n\n")));
        let seen = home.last();
        assert_eq!(seen.line(), "GET /mcp HTTP/1.1");
        assert_eq!(seen.headers("mcp-session-id"), [format!("{name}-1")]);
        assert_eq!(seen.headers("last-event-id"), ["41/x"]);
    }
    assert_eq!(caller.send("DELETE", &[], "").await.status, 204);
    let seen = home.last();
    assert_eq!(seen.line(), "DELETE /mcp HTTP/1.1");
    assert_eq!(seen.headers("mcp-session-id"), [format!("{name}-1")]);
    assert!(origins.iter().all(|other| other.count() == 0));
}

#[tokio::test]
async fn the_servers_own_404_passes_unchanged() {
    let opened = AtomicUsize::new(0);
    let origin = Origin::answering(move |request| match method(request).as_str() {
        "initialize" => answer("a", request, &opened),
        _ => respond("404 Not Found", &[("X-Mine", "1")], r#"{ "it": "has expired" }"#),
    })
    .await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let mut caller = Caller::new(edge.address, "/a/mcp", "alice");
    caller.session = caller.post(INITIALIZE).await.header("mcp-session-id").map(str::to_owned);
    let reply = caller.post(CALL).await;
    assert_eq!((reply.status, reply.body.as_str()), (404, r#"{ "it": "has expired" }"#));
    assert_eq!(reply.header("x-mine"), Some("1"));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn an_id_that_is_repeated_in_every_answer_stays_the_same() {
    let origin = Origin::answering(|request| match request.line().starts_with("GET") {
        true => respond("200 OK", &[("Content-Type", "text/event-stream"), ("Mcp-Session-Id", "same")], "data: x\n\n"),
        false => respond("200 OK", &[("Mcp-Session-Id", "same")], &rpc(request, serde_json::json!({}))),
    })
    .await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let mut caller = Caller::new(edge.address, "/a/mcp", "alice");
    caller.session = caller.post(INITIALIZE).await.header("mcp-session-id").map(str::to_owned);
    for (method, body) in [("POST", CALL), ("POST", LIST), ("GET", ""), ("POST", CALL)] {
        let reply = caller.send(method, &[], body).await;
        assert_eq!((reply.status, reply.header("mcp-session-id")), (200, Some(caller.id())), "{method} {body}");
        assert_eq!(origin.last().headers("mcp-session-id"), ["same"]);
    }
}

#[tokio::test]
async fn a_server_without_sessions_is_balanced_per_request() {
    let mut origins = Vec::new();
    for name in ["a", "b", "c"] {
        let result = move |request: &_| rpc(request, serde_json::json!({"content": [{"type": "text", "text": name}]}));
        origins.push(Origin::answering(move |request| respond("200 OK", &[], &result(request))).await);
    }
    let edge = start(WITH_KEY, &addresses(&origins), "", "").await;
    let caller = Caller::new(edge.address, "/a/mcp", "alice");
    let reply = caller.post(INITIALIZE).await;
    assert_eq!((reply.status, reply.header("mcp-session-id")), (200, None));
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        seen.insert(caller.who().await);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[tokio::test]
async fn stateless_requests_are_balanced_and_have_no_session() {
    let mut origins = Vec::new();
    for name in ["a", "b", "c"] {
        // This server mixes the eras: it gives session ids in the newest revision, too.
        let result = move |request: &_| rpc(request, serde_json::json!({"content": [{"type": "text", "text": name}]}));
        origins.push(
            Origin::answering(move |request| respond("200 OK", &[("Mcp-Session-Id", "x")], &result(request))).await,
        );
    }
    let edge = start(WITH_KEY, &addresses(&origins), "", "").await;
    let mut caller = Caller::new(edge.address, "/a/mcp", "alice");
    let sealed = caller.post(INITIALIZE).await.header("mcp-session-id").map(str::to_owned);
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "who")];
    let call = CALL.replace(
        r#""arguments":{}"#,
        r#""arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
    );
    for session in [None, sealed, Some("made up".to_owned())] {
        caller.session = session;
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let reply = caller.send("POST", &headers, &call).await;
            assert_eq!((reply.status, reply.header("mcp-session-id")), (200, None), "{reply:?}");
            seen.insert(reply.json()["result"]["content"][0]["text"].as_str().expect("a text").to_owned());
        }
        assert_eq!(seen.len(), 3, "{:?}: {seen:?}", caller.session);
    }
    let requests = origins.iter().flat_map(Origin::requests);
    assert!(requests.into_iter().all(|request| request.headers("mcp-session-id").is_empty()));
}

/// An invalid session id of the server must not become a session of the client.
#[tokio::test]
async fn an_invalid_session_id_of_the_server_is_502() {
    for id in ["/path", "", "x".repeat(3_000).leak()] {
        let origin = Origin::answering(move |request| {
            respond("200 OK", &[("Mcp-Session-Id", id)], &rpc(request, serde_json::json!({})))
        })
        .await;
        let edge = start(WITH_KEY, &[origin.address], "", "").await;
        let reply = Caller::new(edge.address, "/a/mcp", "alice").post(INITIALIZE).await;
        assert_eq!((reply.status, reply.header("mcp-session-id")), (502, None), "{id:?}");
    }
}

/// Only the `Mcp-Session-Id` field names a session. The edge does not require one, so the server decides.
#[tokio::test]
async fn a_request_without_a_session_id_is_refused_by_the_server() {
    let origin = server("a").await;
    let edge = start(WITH_KEY, &[origin.address], "", "").await;
    let mut caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    caller.session = None;
    let reply = caller.post(CALL).await;
    assert_eq!((reply.status, reply.body.as_str()), (404, r#"{"mine":"no such session"}"#));
    let text = request("POST", "/a/mcp", &[("Content-Type", "application/json"), ("Mcp-Session-Id", "a-1")], CALL);
    assert_eq!(crate::harness::exchange(edge.address, text).await.status, 401, "a session id authenticates nobody");
}

/// Case A4: a dial that fails is repeated elsewhere once.
#[tokio::test]
async fn an_initialize_is_dialed_at_two_endpoints_at_most() {
    let mut addresses = Vec::new();
    for _ in 0..4 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        addresses.push(listener.local_addr().expect("it is bound"));
    }
    let edge = start("", &addresses, "", "").await;
    let caller = Caller::new(edge.address, "/a/mcp", "alice");
    assert_eq!(caller.post(INITIALIZE).await.status, 503);
    let mut dials = 0.0;
    for address in &addresses {
        let series =
            format!(r#"mcp_edge_endpoint_requests_total{{endpoint="{address}",result="connect_error",upstream="a"}}"#);
        dials += edge.metric(&series).await;
    }
    assert_eq!(dials, 2.0);
}
