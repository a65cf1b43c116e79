//! `sessions: {resume: true}`: a session goes on when its replica is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::affinity::{Client, fleet_edge};
use super::{
    CALL, Caller, INITIALIZE, INITIALIZED, LIST, WITH_KEY, addresses, answer, kill, method, methods, respond, rpc,
    server, start, take_home,
};
use crate::harness::{Fleet, Origin, Recorded, TestEdge, eventually};

const RESUME: &str = ", sessions: {resume: true}";

async fn servers() -> Vec<Origin> {
    vec![server("a").await, server("b").await]
}

/// A server that answers `initialize` and `notifications/initialized` after 100 ms.
async fn slow(name: &'static str) -> Origin {
    let opened = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut stream, recorder| {
        let opened = Arc::clone(&opened);
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                if matches!(method(&request).as_str(), "initialize" | "notifications/initialized") {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if stream.write_all(&answer(name, &request, &opened)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// A server that sends only `begun` of its answer to the requests that `is_such` names, and is silent then.
async fn silent_after(name: &'static str, is_such: fn(&Recorded) -> bool, begun: &'static str) -> Origin {
    let opened = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut stream, recorder| {
        let opened = Arc::clone(&opened);
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                if is_such(&request) {
                    stream.write_all(begun.as_bytes()).await.expect("the edge reads");
                    std::future::pending::<()>().await;
                }
                if stream.write_all(&answer(name, &request, &opened)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// Opens a session at one of two servers, and ends this server. Returns the edge, the client and the other server.
async fn lose(mut origins: Vec<Origin>, route: &str) -> (TestEdge, Caller, Origin) {
    let edge = start(WITH_KEY, &addresses(&origins), "", route).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    caller.who().await;
    kill(take_home(&mut origins)).await;
    (edge, caller, origins.remove(0))
}

#[tokio::test]
async fn without_the_setting_a_lost_session_is_unknown() {
    for route in ["", ", sessions: {resume: false}"] {
        let (_edge, caller, survivor) = lose(servers().await, route).await;
        assert_eq!(caller.post(CALL).await.status, 404);
        assert_eq!(survivor.count(), 0);
    }
}

#[tokio::test]
async fn the_next_call_goes_on_at_another_server_after_the_clients_own_initialize() {
    let (_edge, caller, survivor) = lose(servers().await, RESUME).await;
    let reply = caller
        .send(
            "POST",
            &[
                ("MCP-Protocol-Version", "2025-11-25"),
                ("Mcp-Method", "tools/call"),
                ("Mcp-Name", "who"),
                ("X-Mine", "1"),
            ],
            CALL,
        )
        .await;
    assert_eq!((reply.status, reply.json()["id"].as_i64()), (200, Some(7)));
    let seen = survivor.requests();
    assert_eq!(methods(&survivor), ["initialize", "notifications/initialized", "tools/call"]);
    assert_eq!(String::from_utf8_lossy(&seen[0].body), INITIALIZE, "byte for byte");
    assert_eq!(seen[2].body, CALL.as_bytes());
    for request in &seen {
        assert_eq!(request.line(), "POST /mcp HTTP/1.1");
        assert_eq!(request.headers("content-type"), ["application/json"]);
        assert_eq!(request.headers("accept"), ["application/json, text/event-stream"]);
        assert_eq!(request.headers("content-length"), [request.body.len().to_string()]);
        assert_eq!(request.headers("x-mine"), ["1"], "the client's other fields are sent, too");
        assert!(request.headers("authorization").is_empty());
    }
    assert!(seen[0].headers("mcp-session-id").is_empty(), "there is no session yet");
    assert!(seen[0].headers("mcp-protocol-version").is_empty(), "there is no negotiated version yet");
    for (request, method) in seen.iter().zip([None, None, Some("tools/call")]) {
        assert_eq!(request.header("mcp-method"), method, "fields about the call are sent only with the call");
        assert_eq!(request.header("mcp-name"), method.map(|_| "who"));
    }
    let new = seen[1].header("mcp-session-id").expect("an id").to_owned();
    assert!(new == "a-1" || new == "b-1", "{new}");
    assert_eq!(seen[1].headers("mcp-protocol-version"), ["2025-06-18"], "the version that was negotiated");
    assert_eq!(seen[2].headers("mcp-session-id"), [new.as_str()]);
    // From now on the session lives at the other server, and the client keeps its id.
    for (method, body) in [("POST", LIST), ("GET", ""), ("POST", CALL)] {
        assert_eq!(caller.send(method, &[], body).await.status, 200);
        assert_eq!(survivor.last().headers("mcp-session-id"), [new.as_str()]);
    }
    assert_eq!(survivor.count(), 6, "the session was opened once");
}

#[tokio::test]
async fn streams_and_lists_go_on_too() {
    for (method, body) in [("GET", ""), ("POST", LIST)] {
        let (_edge, caller, survivor) = lose(servers().await, RESUME).await;
        let reply = caller.send(method, &[("Last-Event-ID", "4")], body).await;
        assert_eq!(reply.status, 200, "{method} {reply:?}");
        let seen = survivor.requests();
        assert_eq!(methods(&survivor)[..2], ["initialize", "notifications/initialized"]);
        assert!(seen[..2].iter().all(|request| request.line() == "POST /mcp HTTP/1.1"));
        assert!(seen[..2].iter().all(|request| request.headers("last-event-id").is_empty()));
        assert_eq!(seen[0].headers("content-type"), ["application/json"]);
        assert!(seen[2].line().starts_with(method) && seen.len() == 3);
    }
}

#[tokio::test]
async fn a_real_client_does_not_notice_that_its_replica_is_lost() {
    let fleet = Fleet::start(&["currenttime", "currenttime", "currenttime"]).await;
    let edge = fleet_edge(&fleet, RESUME).await;
    let client = Client::connect(&edge).await;
    let mut homes = vec![client.replica().await.expect("an answer")];
    for _ in 0..2 {
        fleet.switch(homes.last().expect("one"), "dead").await;
        // Requests that are open at this moment break. Requests that the client sends later succeed.
        let home = client.replica().await.expect("an answer");
        assert!(!homes.contains(&home), "{homes:?} {home}");
        for _ in 0..5 {
            assert_eq!(client.replica().await.as_ref(), Some(&home));
        }
        homes.push(home);
    }
}

#[tokio::test]
async fn calls_that_come_together_open_one_session() {
    let (_edge, caller, survivor) = lose(vec![slow("a").await, slow("b").await], RESUME).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let caller = caller.clone();
        calls.spawn(async move { caller.post(CALL).await.status });
    }
    assert_eq!(calls.join_all().await, [200; 20]);
    let count = |wanted| methods(&survivor).iter().filter(|method| *method == wanted).count();
    assert_eq!((count("initialize"), count("notifications/initialized"), count("tools/call")), (1, 1, 20));
    assert_eq!(
        methods(&survivor)[..2],
        ["initialize", "notifications/initialized"],
        "the calls wait for the new session"
    );
}

/// A server that reads a call and closes the connection while `dies` is set, as if it were killed in the middle of its
/// work.
async fn dying(name: &'static str, dies: Arc<AtomicBool>) -> Origin {
    let opened = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut stream, recorder| {
        let (opened, dies) = (Arc::clone(&opened), Arc::clone(&dies));
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                if method(&request).starts_with("tools/") && dies.load(Ordering::SeqCst) {
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
async fn a_request_that_may_have_run_is_not_repeated() {
    let dies = Arc::new(AtomicBool::new(false));
    let mut origins = vec![dying("a", Arc::clone(&dies)).await, dying("b", Arc::clone(&dies)).await];
    let edge = start(WITH_KEY, &addresses(&origins), "", RESUME).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = take_home(&mut origins);
    dies.store(true, Ordering::SeqCst);
    let call = CALL.replace('7', "77");
    let reply = caller.post(&call).await;
    assert_eq!((reply.status, reply.json()["id"].as_i64()), (502, Some(77)), "{reply:?}");
    let sent = home.requests().iter().filter(|request| request.body == call.as_bytes()).count();
    assert_eq!((sent, origins[0].count()), (1, 0), "it was sent once, and nowhere else");
    // A request that only reads is not sent elsewhere either, because for the edge the session still lives at its
    // server.
    assert_eq!(caller.post(LIST).await.status, 502);
    assert_eq!(origins[0].count(), 0);
    dies.store(false, Ordering::SeqCst);
    caller.who().await;
    assert_eq!(methods(&home).last().map(String::as_str), Some("tools/call"), "the session has not moved");
    // The next request cannot connect, so nothing of it was sent, and it may go elsewhere.
    kill(home).await;
    caller.who().await;
    assert_eq!(methods(&origins[0]), ["initialize", "notifications/initialized", "tools/call"]);
}

#[tokio::test]
async fn deleting_a_lost_session_is_404() {
    let (_edge, caller, survivor) = lose(servers().await, RESUME).await;
    assert_eq!(caller.send("DELETE", &[], "").await.status, 404);
    assert_eq!(survivor.count(), 0, "no session is opened only to be deleted");
}

#[tokio::test]
async fn a_session_that_the_client_has_ended_does_not_come_back() {
    let mut origins = servers().await;
    let edge = start(WITH_KEY, &addresses(&origins), "", RESUME).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    assert_eq!(caller.send("DELETE", &[], "").await.status, 204);
    kill(take_home(&mut origins)).await;
    assert_eq!(caller.post(CALL).await.status, 404);
    assert_eq!(origins[0].count(), 0);
}

/// Its old server still has the stream open, but nothing comes on it any more.
#[tokio::test]
async fn the_stream_of_a_moved_session_ends_so_that_the_client_opens_another_one() {
    let is_get = |request: &Recorded| request.line().starts_with("GET");
    let begun =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n:hi\n\r\n";
    let origins = vec![silent_after("a", is_get, begun).await, silent_after("b", is_get, begun).await];
    let all = addresses(&origins);
    let edge = start(WITH_KEY, &all, "", RESUME).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = caller.who().await;
    let stream = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send("GET", &[("Accept", "text/event-stream")], "").await }
    });
    eventually("the stream is open", async || edge.metric(r#"mcp_edge_streams_open{route="/a/"}"#).await == 1.0).await;
    let others: Vec<_> = all.iter().zip(["a", "b"]).filter(|(_, name)| **name != *home).map(|(all, _)| *all).collect();
    edge.reload(&super::yaml(WITH_KEY, &others, "", RESUME)).await.expect("legal");
    assert_ne!(caller.who().await, home, "the session has moved");
    let reply = tokio::time::timeout(crate::harness::PATIENCE, stream).await.expect("it ends").expect("no panic");
    assert_eq!((reply.status, reply.body.as_str(), reply.complete), (200, ":hi\n", true), "it ends cleanly");
}

/// The server at which it began comes back, and knows it still.
#[tokio::test]
async fn a_moved_session_that_the_client_has_ended_is_not_found_where_it_began() {
    let origins = servers().await;
    let all = addresses(&origins);
    let edge = start(WITH_KEY, &all, "", RESUME).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = caller.who().await;
    let others: Vec<_> = all.iter().zip(["a", "b"]).filter(|(_, name)| **name != *home).map(|(all, _)| *all).collect();
    edge.reload(&super::yaml(WITH_KEY, &others, "", RESUME)).await.expect("legal");
    assert_ne!(caller.who().await, home, "the session has moved");
    edge.reload(&super::yaml(WITH_KEY, &all, "", RESUME)).await.expect("legal");
    assert_ne!(caller.who().await, home, "it stays there");
    assert!(caller.send("DELETE", &[], "").await.status < 300);
    assert_eq!(caller.post(CALL).await.status, 404);
}

#[tokio::test]
async fn a_lost_session_is_unknown_if_the_other_server_does_not_open_one() {
    type Answer = fn(&crate::harness::Recorded) -> Vec<u8>;
    let refusals: [(&str, Answer); 6] = [
        ("an error", |_| respond("500 Internal Server Error", &[], "{}")),
        ("a refusal", |_| respond("403 Forbidden", &[], "{}")),
        ("no session", |request| {
            respond("200 OK", &[], &rpc(request, serde_json::json!({"protocolVersion": "2025-06-18"})))
        }),
        ("no version", |request| respond("200 OK", &[("Mcp-Session-Id", "x")], &rpc(request, serde_json::json!({})))),
        ("no JSON", |_| respond("200 OK", &[("Mcp-Session-Id", "x")], "never mind")),
        ("a JSON-RPC error", |_| {
            respond(
                "200 OK",
                &[("Mcp-Session-Id", "x")],
                r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#,
            )
        }),
    ];
    for (what, refusal) in refusals {
        // The first `initialize` opens the session. The next one is refused, whichever server gets it.
        let mut origins = Vec::new();
        let begun = Arc::new(AtomicBool::new(false));
        for name in ["a", "b"] {
            let (opened, begun) = (AtomicUsize::new(0), Arc::clone(&begun));
            origins.push(
                Origin::answering(move |request| {
                    let again = method(request) == "initialize" && begun.swap(true, Ordering::SeqCst);
                    if again { refusal(request) } else { answer(name, request, &opened) }
                })
                .await,
            );
        }
        let (_edge, caller, survivor) = lose(origins, RESUME).await;
        assert_eq!(caller.post(CALL).await.status, 404, "{what}");
        assert_eq!(methods(&survivor), ["initialize"], "{what}: nothing else was sent");
    }
}

/// A server that answers the first `initialize` as other servers do. The answer to any further one is an event stream
/// that does not end.
async fn streaming(name: &'static str, begun: Arc<AtomicBool>) -> Origin {
    let opened = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut stream, recorder| {
        let (opened, begun) = (Arc::clone(&opened), Arc::clone(&begun));
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                let mut answered = answer(name, &request, &opened);
                if method(&request) == "initialize" && begun.swap(true, Ordering::SeqCst) {
                    let result = rpc(&request, serde_json::json!({"protocolVersion": "2025-03-26"}));
                    let events = format!("id: 1\ndata:\n\nid: 2\ndata: {result}\n\n");
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: {name}-1\r\n\
                         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n",
                        events.len()
                    );
                    answered = head.into_bytes();
                }
                if stream.write_all(&answered).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_answer_to_the_repeated_initialize_may_be_a_stream() {
    let begun = Arc::new(AtomicBool::new(false));
    let origins = vec![streaming("a", Arc::clone(&begun)).await, streaming("b", begun).await];
    let (_edge, caller, survivor) = lose(origins, RESUME).await;
    caller.who().await;
    assert_eq!(survivor.requests()[1].headers("mcp-protocol-version"), ["2025-03-26"]);
}

#[tokio::test]
async fn a_second_loss_is_survived_like_the_first() {
    let mut origins = vec![server("a").await, server("b").await, server("c").await];
    let edge = start(WITH_KEY, &addresses(&origins), "", RESUME).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    for left in [2, 1] {
        kill(take_home(&mut origins)).await;
        let home = caller.who().await;
        assert_eq!(caller.who().await, home);
        assert_eq!(origins.len(), left);
    }
    let last = take_home(&mut origins);
    assert_eq!(methods(&last), ["initialize", "notifications/initialized", "tools/call", "tools/call"]);
    kill(last).await;
    assert_eq!(caller.post(CALL).await.status, 404, "there is no server left");
}

/// The time limit of a request includes its wait for the attempts of other requests.
#[tokio::test]
async fn a_server_that_does_not_answer_the_initialize_holds_nobody_for_long() {
    let mut origins = Vec::new();
    let begun = Arc::new(AtomicBool::new(false));
    for name in ["a", "b"] {
        let (opened, begun) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&begun));
        origins.push(
            Origin::scripted(move |mut stream, recorder| {
                let (opened, begun) = (Arc::clone(&opened), Arc::clone(&begun));
                async move {
                    while let Some(request) = recorder.read(&mut stream).await {
                        if method(&request) == "initialize" && begun.swap(true, Ordering::SeqCst) {
                            std::future::pending::<()>().await;
                        }
                        drop(stream.write_all(&answer(name, &request, &opened)).await);
                    }
                }
            })
            .await,
        );
    }
    let (_edge, caller, survivor) = lose(origins, RESUME).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let caller = caller.clone();
        // `post` panics after 20 s. The time limit is 10 s.
        calls.spawn(async move { caller.post(CALL).await.status });
    }
    assert_eq!(calls.join_all().await, [404; 4]);
    assert!(methods(&survivor).iter().all(|method| method == "initialize"));
}

/// The list was sent on an idle connection, which breaks. The edge may repeat it at the same server, but this server is
/// gone.
#[tokio::test]
async fn a_list_that_may_have_run_is_not_repeated_elsewhere() {
    let is_list = |request: &Recorded| method(request) == "tools/list";
    for route in ["", RESUME] {
        let mut origins = vec![silent_after("a", is_list, "").await, silent_after("b", is_list, "").await];
        let edge = start(WITH_KEY, &addresses(&origins), "", route).await;
        let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
        let home = take_home(&mut origins);
        let connections = home.connections();
        let list = tokio::spawn({
            let caller = caller.clone();
            async move { caller.post(LIST).await.status }
        });
        eventually("the server has read it", async || methods(&home).last().is_some_and(|last| last == "tools/list"))
            .await;
        assert_eq!(home.connections(), connections, "it came on the connection that was idle");
        kill(home).await;
        assert_eq!(list.await.expect("no panic"), 404, "{route}");
        assert_eq!(origins[0].count(), 0, "{route}");
    }
}

#[tokio::test]
async fn an_endpoint_that_has_left_or_is_unhealthy_is_lost_too() {
    let mut origins = servers().await;
    let edge = start(WITH_KEY, &addresses(&origins), "", RESUME).await;
    let caller = Caller::open(edge.address, "/a/mcp", "alice").await;
    let home = take_home(&mut origins);
    let before = home.count();
    edge.reload(&super::yaml(WITH_KEY, &addresses(&origins), "", RESUME)).await.expect("it reloads");
    caller.who().await;
    assert_eq!(home.count(), before);
    assert_eq!(methods(&origins[0]), ["initialize", "notifications/initialized", "tools/call"]);
    // When all endpoints are unhealthy, the session is not lost, because the servers may come back.
    let health = ", health: {http: {path: /health, status: 299}, interval: 50ms, unhealthy: 1}";
    edge.reload(&super::yaml(WITH_KEY, &addresses(&origins), health, RESUME)).await.expect("it reloads");
    eventually("it is unhealthy", async || caller.post(CALL).await.status == 503).await;
}

#[tokio::test]
async fn a_large_initialize_is_not_kept() {
    // The edge keeps an `initialize` of at most 16 KiB.
    for (size, status) in [(16 << 10, 200), ((16 << 10) + 1, 404)] {
        let mut origins = servers().await;
        let edge = start(WITH_KEY, &addresses(&origins), "", RESUME).await;
        let mut caller = Caller::new(edge.address, "/a/mcp", "alice");
        let padding = " ".repeat(size - INITIALIZE.len());
        let reply = caller.post(&format!("{INITIALIZE}{padding}")).await;
        caller.session = reply.header("mcp-session-id").map(str::to_owned);
        caller.who().await;
        kill(take_home(&mut origins)).await;
        assert_eq!(caller.post(CALL).await.status, status, "{size}");
        assert_eq!(origins[0].count(), if status == 200 { 3 } else { 0 });
    }
}

#[tokio::test]
async fn only_the_caller_of_a_lost_session_can_resume_it() {
    let (edge, caller, survivor) = lose(servers().await, RESUME).await;
    let mut bob = Caller::new(edge.address, "/a/mcp", "bob");
    bob.session = caller.session.clone();
    assert_eq!(bob.post(CALL).await.status, 404);
    let elsewhere = Caller { path: "/b/mcp".to_owned(), ..caller.clone() };
    assert_eq!(elsewhere.post(CALL).await.status, 404);
    assert_eq!(survivor.count(), 0, "no other caller resumes the session");
    let spoofed = [("X-User", "root"), ("X-Forwarded-For", "6.6.6.6")];
    assert_eq!(caller.send("POST", &spoofed, CALL).await.status, 200);
    for request in survivor.requests() {
        assert_eq!(request.headers("x-user"), ["alice"]);
        assert_eq!(request.headers("x-scopes"), ["read write"]);
        assert_eq!(request.headers("x-forwarded-for"), ["127.0.0.1"]);
    }
    let count = survivor.count();
    assert_eq!(bob.post(CALL).await.status, 404, "no other caller can use the resumed session");
    assert_eq!(survivor.count(), count);
}

#[tokio::test]
async fn the_other_server_gets_the_host_and_the_token_that_the_route_sets() {
    let (_edge, caller, survivor) =
        lose(servers().await, ", sessions: {resume: true}, host: endpoint, forward_token: true").await;
    caller.who().await;
    assert_eq!(survivor.count(), 3);
    for request in survivor.requests() {
        assert_eq!(request.headers("host"), [survivor.address.to_string()], "{}", request.head);
        assert_eq!(request.headers("authorization"), [caller.authorization.as_str()]);
    }
}

/// What the client's `initialize` said travels in the id.
#[tokio::test]
async fn another_edge_can_resume_a_session() {
    let origins = servers().await;
    let all = addresses(&origins);
    let (_edge, caller, survivor) = lose(origins, RESUME).await;
    let other = start(WITH_KEY, &all, "", RESUME).await;
    assert_eq!(caller.at(&other).post(CALL).await.status, 200);
    assert_eq!(methods(&survivor), ["initialize", "notifications/initialized", "tools/call"]);
    assert_eq!(survivor.requests()[0].body, INITIALIZE.as_bytes(), "byte for byte");
}

/// What is too long for the id stays in the memory of the edge that saw it.
#[tokio::test]
async fn another_edge_cannot_resume_a_session_whose_client_said_too_much() {
    let mut origins = servers().await;
    let all = addresses(&origins);
    let edge = start(WITH_KEY, &all, "", RESUME).await;
    let other = start(WITH_KEY, &all, "", RESUME).await;
    let mut bytes = [0; 3_000];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("random bytes");
    let noise: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let long = INITIALIZE.replace("\"version\":\"1\"", &format!("\"version\":\"{noise}\""));
    let mut caller = Caller::new(edge.address, "/a/mcp", "alice");
    caller.session = caller.post(&long).await.header("mcp-session-id").map(str::to_owned);
    kill(take_home(&mut origins)).await;
    assert_eq!(caller.at(&other).post(CALL).await.status, 404);
    caller.who().await;
}

/// The server may be lost before the client sends `notifications/initialized`.
#[tokio::test]
async fn a_notification_can_be_the_first_to_find_the_server_lost() {
    let mut origins = servers().await;
    let edge = start(WITH_KEY, &addresses(&origins), "", RESUME).await;
    let mut caller = Caller::new(edge.address, "/a/mcp", "alice");
    caller.session = caller.post(INITIALIZE).await.header("mcp-session-id").map(str::to_owned);
    kill(take_home(&mut origins)).await;
    assert_eq!(caller.post(INITIALIZED).await.status, 202);
    caller.who().await;
    assert_eq!(methods(&origins[0])[0], "initialize");
}

/// The `initialize` that the edge repeats has the route's credential, as every request of the route has.
#[tokio::test]
async fn a_resumed_session_shows_the_routes_credential() {
    let given = AtomicUsize::new(0);
    let issuer = Origin::answering(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        crate::harness::ok(&format!(r#"{{"access_token": "issued-{number}", "token_type": "Bearer"}}"#))
    })
    .await;
    let credential = format!(
        "{RESUME}, credential: {{exchange: {{token_url: 'http://{}/', client_id: edge, client_secret: {{file: session.key}}}}}}",
        issuer.address
    );
    let (_edge, caller, survivor) = lose(servers().await, &credential).await;
    assert_eq!(caller.post(CALL).await.status, 200);
    assert_eq!(methods(&survivor), ["initialize", "notifications/initialized", "tools/call"]);
    for request in survivor.requests() {
        assert_eq!(request.headers("authorization"), ["Bearer issued-1"]);
    }
    assert_eq!(issuer.count(), 1);
}

/// A token that the new server refuses is not used again.
#[tokio::test]
async fn a_token_that_is_refused_when_resuming_is_not_used_again() {
    let given = AtomicUsize::new(0);
    let issuer = Origin::answering(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        crate::harness::ok(&format!(r#"{{"access_token": "issued-{number}", "token_type": "Bearer"}}"#))
    })
    .await;
    let credential = format!(
        "{RESUME}, credential: {{exchange: {{token_url: 'http://{}/', client_id: edge, client_secret: {{file: session.key}}}}}}",
        issuer.address
    );
    let begun = Arc::new(AtomicUsize::new(0));
    let mut origins = Vec::new();
    for name in ["a", "b"] {
        let (begun, opened) = (Arc::clone(&begun), AtomicUsize::new(0));
        let server = Origin::answering(move |request| {
            // The first token opens only the first session.
            let again = method(request) == "initialize" && begun.fetch_add(1, Ordering::SeqCst) > 0;
            match again && request.headers("authorization") == ["Bearer issued-1"] {
                true => respond("401 Unauthorized", &[], "{}"),
                false => answer(name, request, &opened),
            }
        });
        origins.push(server.await);
    }
    let (_edge, caller, survivor) = lose(origins, &credential).await;
    assert_eq!(caller.post(CALL).await.status, 404);
    assert_eq!((methods(&survivor), issuer.count()), (vec!["initialize".to_owned()], 1));
    assert_eq!(caller.post(CALL).await.status, 200);
    assert_eq!((survivor.last().headers("authorization"), issuer.count()), (vec!["Bearer issued-2"], 2));
}
