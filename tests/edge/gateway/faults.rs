//! The fault matrix of gateways (numbers 87 to 92).

use super::*;
use crate::harness::eventually;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Fault 87.
#[tokio::test]
async fn a_server_that_is_down_hangs_or_sends_junk_affects_no_other() {
    for mood in [Mood::Hangs, Mood::SendsJunk] {
        let good = Server::start("good", Speaks::Sessions, &["get"]).await;
        let bad = Server::start("bad", Speaks::Sessions, &["get"]).await;
        let edge = start(&[&good, &bad], &["good", "bad"], "", "servers: [good, bad]").await;
        bad.mood(mood);
        let begun = Instant::now();
        let client = Client::open(&edge, "").await;
        assert_eq!(client.hello["_meta"]["mcp-edge/unavailable"], json!(["bad"]), "{mood:?}: {}", client.hello);
        let list = client.ask("tools/list", json!({})).await;
        assert_eq!(list["result"]["_meta"]["mcp-edge/unavailable"], json!(["bad"]), "{mood:?}: {list}");
        assert_eq!(list["result"]["tools"].as_array().map(Vec::len), Some(1));
        assert!(client.call("good_get").await.is_ok());
        assert!(begun.elapsed() < PATIENCE, "nobody waits for the bad server for long");
        let error = client.call("bad_get").await.expect_err("it gives no answer");
        let text = error["message"].as_str().unwrap_or_default();
        assert!(text.contains("`bad`") && error["code"].is_i64(), "{mood:?}: {error}");
        bad.mood(Mood::Fine);
        eventually("it comes back by itself", async || client.tools().await.len() == 2).await;
        assert!(client.call("bad_get").await.is_ok());
    }
}

/// Fault 87: a server that cannot be reached at all, and one that goes away later.
#[tokio::test]
async fn the_last_list_is_shown_while_a_server_is_away() {
    let good = Server::start("good", Speaks::Sessions, &["get"]).await;
    let bad = Server::start("bad", Speaks::Stateless, &["get"]).await;
    let gateway = "servers: [good, bad]";
    let edge = start(&[&good, &bad], &["good", "bad"], "", gateway).await;
    let client = Client::open(&edge, "").await;
    assert_eq!(client.tools().await.len(), 2);
    let mut events = client.get().await;
    eventually("the stream is open", async || bad.script.streams.load(Ordering::SeqCst) == 1).await;
    bad.script.events.send(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).expect("a stream");
    assert_eq!(events.next().await["method"], "notifications/tools/list_changed");
    drop(bad);
    assert_eq!(client.tools().await, ["good_get", "bad_get"], "its last list");
    let error = client.call("bad_get").await.expect_err("it is away");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("`bad`")), "{error}");
    assert!(client.call("good_get").await.is_ok());
}

#[tokio::test]
async fn a_gateway_may_fail_as_a_whole() {
    let good = Server::start("good", Speaks::Sessions, &["get"]).await;
    let bad = Server::start("bad", Speaks::Sessions, &["get"]).await;
    bad.mood(Mood::SendsJunk);
    let gateway = "servers: [good, bad], when_server_down: fail";
    let edge = start(&[&good, &bad], &["good", "bad"], "", gateway).await;
    let client = Client::open(&edge, "").await;
    let list = client.ask("tools/list", json!({})).await;
    assert!(list["error"]["message"].as_str().is_some_and(|text| text.contains("`bad`")), "{list}");
    good.mood(Mood::SendsJunk);
    let nobody = Client::new(&edge, "/mcp", "", false);
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = nobody.ask("initialize", params).await;
    // The good server is known from before, so the session begins.
    assert!(hello["result"]["capabilities"]["tools"].is_object(), "{hello}");
    let fresh = start(&[&good, &bad], &["good", "bad"], "", gateway).await;
    let nobody = Client { address: fresh.address, ..nobody };
    let hello = nobody.ask("initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert!(
        hello["error"]["message"].as_str().is_some_and(|text| text.contains("`good`")),
        "never an empty success: {hello}"
    );
}

/// Fault 91.
#[tokio::test]
async fn a_reload_adds_and_removes_servers_under_open_sessions() {
    let one = Server::start("one", Speaks::Sessions, &["get"]).await;
    let two = Server::start("two", Speaks::Stateless, &["get"]).await;
    let three = Server::start("three", Speaks::Sessions, &["get"]).await;
    let (all, names) = ([&one, &two, &three], ["one", "two", "three"]);
    let edge = start(&all, &names, "", "servers: [one, two]").await;
    let client = Client::open(&edge, "").await;
    assert_eq!(client.tools().await, ["one_get", "two_get"]);
    let mut events = client.get().await;
    eventually("the stream is open", async || one.script.streams.load(Ordering::SeqCst) == 1).await;
    edge.reload(&yaml(&all, &names, "", "servers: [one, three]")).await.expect("it is valid");
    for expected in ["tools", "prompts", "resources"] {
        assert_eq!(events.next().await["method"], format!("notifications/{expected}/list_changed"));
    }
    assert_eq!(client.tools().await, ["one_get", "three_get"], "the session goes on");
    assert!(client.call("three_get").await.is_ok() && client.call("two_get").await.is_err());
    eventually("the streams follow", async || {
        three.script.streams.load(Ordering::SeqCst) == 1 && two.script.streams.load(Ordering::SeqCst) == 0
    })
    .await;
    // A reload that changes nothing here is not told, and the streams go on.
    let gets = one.gets();
    edge.reload(&(yaml(&all, &names, "", "servers: [one, three]") + "  - {path: /more/, upstream: one, auth: none}\n"))
        .await
        .expect("valid");
    let mark = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
    one.script.events.send(mark.clone()).expect("the stream is open still");
    assert_eq!(events.next().await, mark);
    assert_eq!(one.gets(), gets);
}
