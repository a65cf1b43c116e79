//! Clients of both eras with servers of both eras.

use super::*;
use crate::harness::eventually;
use std::sync::atomic::Ordering;

const ERAS: [Speaks; 2] = [Speaks::Sessions, Speaks::Stateless];

#[tokio::test]
async fn every_client_can_use_the_tools_of_every_server() {
    let old = Server::start("old", Speaks::Sessions, &["get", "put"]).await;
    let new = Server::start("new", Speaks::Stateless, &["get", "del"]).await;
    let edge = start(&[&old, &new], &["old", "new"], "", "servers: [old, new]").await;
    for speaks in ERAS {
        let client = Client::of(&edge, "", speaks).await;
        assert_eq!(client.hello["capabilities"]["tools"]["listChanged"], true, "{}", client.hello);
        assert_eq!(client.hello["instructions"], "# old\n\nUse old.", "{}", client.hello);
        assert_eq!(client.tools().await, ["old_get", "old_put", "new_get", "new_del"], "{speaks:?}");
        for (tool, expected) in [("old_put", r#"old:put:{"x":1}"#), ("new_del", r#"new:del:{"x":1}"#)] {
            assert_eq!(client.call(tool).await.as_deref(), Ok(expected), "{speaks:?}");
        }
        // Unknown fields of results pass as they are.
        let answer = client.ask("tools/call", json!({"name": "new_get"})).await;
        assert_eq!(answer["result"]["_meta"], json!({"own": [1, 2]}));
        let error = client.call("old_nothing").await.expect_err("there is no such tool");
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!(-32602), &json!("Unknown tool: nothing")),
            "it is the server's"
        );
        for unknown in ["other_get", "get", "old", ""] {
            let error = client.call(unknown).await.expect_err("there is no such tool");
            assert_eq!(error["code"], -32602, "{unknown}: {error}");
            assert_eq!(error["message"], format!("Unknown tool: {unknown}"), "it is the gateway's");
        }
    }
    // A server of the other era knows the client by what it said.
    let (_, call) = new.last("tools/call");
    assert_eq!(call["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "test");
}

#[tokio::test]
async fn each_era_has_its_own_errors() {
    let server = Server::start("one", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&server], &["one"], "", "servers: [one]").await;
    let client = Client::stateless(&edge, "").await;
    let reply = client.post(&message("1", "no/method", "{}")).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!(-32601)), "{reply:?}");
    let old = client.text(&message("1", "tools/list", "{}")).replace("2026-07-28", "2099-01-01");
    let reply = exchange(edge.address, old).await;
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status, &error["code"], &error["data"]["requested"]),
        (400, &json!(-32022), &json!("2099-01-01"))
    );
    assert!(error["data"]["supported"].as_array().is_some_and(|all| all.contains(&json!("2026-07-28"))), "{error}");
    assert_eq!(client.bare("GET").await.status, 404, "an empty session id is unknown");

    let client = Client::open(&edge, "").await;
    let reply = client.post(&message("1", "no/method", "{}")).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (200, &json!(-32601)), "{reply:?}");
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
    let batch = format!("[{},{}]", message("1", "ping", "{}"), message("2", "ping", "{}"));
    let mut without_version = client.clone();
    without_version.session = None;
    let reply = without_version.post(&batch).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(-32600)), "{reply:?}");
    let reply = without_version.post(&message("1", "tools/list", "{}")).await;
    assert_eq!(reply.status, 400, "a session is needed: {reply:?}");
}

/// Fault 89, and cancellation.
#[tokio::test]
async fn two_servers_ask_with_one_id_and_each_gets_its_own_answer() {
    let one = Server::start("one", Speaks::Sessions, &["ask"]).await;
    let two = Server::start("two", Speaks::Sessions, &["ask"]).await;
    let edge = start(&[&one, &two], &["one", "two"], "", "servers: [one, two]").await;
    let client = Client::open(&edge, "").await;
    let ask = async |tool: &str, id: &str| {
        let call = message(id, "tools/call", &json!({"name": tool, "arguments": {}}).to_string());
        client.stream(client.text(&call)).await
    };
    let (mut first, mut second) = (ask("one_ask", "7").await, ask("two_ask", "8").await);
    let (asked_one, asked_two) = (first.next().await, second.next().await);
    assert_eq!((&asked_one["params"]["message"], &asked_two["params"]["message"]), (&json!("one"), &json!("two")));
    assert_ne!(asked_one["id"], asked_two["id"], "{asked_one} {asked_two}");
    assert_ne!(asked_one["params"]["_meta"]["progressToken"], asked_two["params"]["_meta"]["progressToken"]);
    for (asked, text) in [(&asked_two, "b"), (&asked_one, "a")] {
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"text": text}});
        let reply = client.post(&answer.to_string()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    let text = |done: Value| done["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    let (done_one, done_two) = (first.next().await, second.next().await);
    assert_eq!((&done_one["id"], &done_two["id"]), (&json!(7), &json!(8)));
    assert_eq!((text(done_one).as_str(), text(done_two).as_str()), ("one heard \"a\"", "two heard \"b\""));

    let made_up = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    assert_eq!(client.post(&made_up.to_string()).await.status, 400, "nobody has asked that");

    // Progress with the server's own token, and a cancellation with the client's own id.
    let token = &asked_one["params"]["_meta"]["progressToken"];
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    assert_eq!(client.post(&progress.to_string()).await.status, 202);
    assert_eq!(one.last("notifications/progress").1["params"]["progressToken"], 1);
    assert_eq!(two.calls("notifications/progress"), 0);
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    assert_eq!(client.post(&cancel.to_string()).await.status, 202);
    for server in [&one, &two] {
        assert_eq!(server.last("notifications/cancelled").1["params"]["requestId"], 7);
    }
}

#[tokio::test]
async fn one_stream_carries_what_all_servers_say() {
    let old = Server::start("old", Speaks::Sessions, &["get"]).await;
    let new = Server::start("new", Speaks::Stateless, &["get"]).await;
    let edge = start(&[&old, &new], &["old", "new"], "", "servers: [old, new]").await;
    let client = Client::open(&edge, "").await;
    let mut events = client.get().await;
    let streams = |server: &Server| server.script.streams.load(Ordering::SeqCst);
    eventually("both servers have a stream", async || streams(&old) == 1 && streams(&new) == 1).await;
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x\ny"}});
    old.script.events.send(log.clone()).expect("there is a stream");
    assert_eq!(events.next().await, log);
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
    old.script.events.send(question).expect("there is a stream");
    let asked = events.next().await;
    assert_eq!(asked["method"], "roots/list");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}});
    assert_eq!(client.post(&answer.to_string()).await.status, 202);
    let answered = old.origin.requests().into_iter().rev().find_map(|request| {
        serde_json::from_slice::<Value>(&request.body).ok().filter(|body| body["result"]["roots"].is_array())
    });
    assert_eq!(answered.map(|body| body["id"].clone()), Some(json!("q")));
    drop(events);
    eventually("the streams end with the client", async || streams(&old) == 0 && streams(&new) == 0).await;
}

#[tokio::test]
async fn a_subscription_hears_of_lists_and_resources() {
    let new = Server::start("new", Speaks::Stateless, &["get"]).await;
    new.script.resources.lock().expect("no panic").push(json!({"uri": "a://1", "name": "one"}));
    let other = Server::start("other", Speaks::Stateless, &["get"]).await;
    let edge = start(&[&new, &other], &["new", "other"], "", "servers: [new, other]").await;
    let client = Client::stateless(&edge, "").await;
    let filter = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["a://1"]}});
    let listen = message("\"sub\"", "subscriptions/listen", &filter.to_string());
    let mut events = client.stream(client.text(&listen)).await;
    let first = events.next().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"], filter["notifications"]);
    assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    eventually("both servers have a stream", async || {
        new.script.streams.load(Ordering::SeqCst) == 1 && other.script.streams.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(new.last("subscriptions/listen").1["params"]["notifications"], filter["notifications"]);
    assert_eq!(other.last("subscriptions/listen").1["params"]["notifications"], json!({"toolsListChanged": true}));
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "a://1"}});
    new.script.events.send(updated).expect("there is a stream");
    let heard = events.next().await;
    assert_eq!(
        (&heard["method"], &heard["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("a://1"))
    );
    assert_eq!(heard["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    other
        .script
        .events
        .send(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
        .expect("a stream");
    let heard = events.next().await;
    assert_eq!(heard["method"], "notifications/tools/list_changed");
    assert_eq!(heard["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
}

/// What a server has said to a client of one era is not what it does for clients of the other.
#[tokio::test]
async fn a_server_of_both_eras_speaks_to_each_client_in_its_own() {
    let both = Server::start("both", Speaks::Both, &["get", "ask"]).await;
    let edge = start(&[&both], &["both"], "", "servers: [both]").await;
    let new = Client::stateless(&edge, "").await;
    assert!(new.call("both_get").await.is_ok());
    assert_eq!(both.calls("initialize"), 0);
    let old = Client::open(&edge, "").await;
    assert_eq!(both.calls("initialize"), 1);
    let call = message("7", "tools/call", &json!({"name": "both_ask", "arguments": {}}).to_string());
    let mut events = old.stream(old.text(&call)).await;
    let asked = events.next().await;
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"text": "x"}});
    assert_eq!(old.post(&answer.to_string()).await.status, 202);
    assert_eq!(events.next().await["id"], 7);
    assert!(new.call("both_get").await.is_ok());
    assert_eq!(both.calls("initialize"), 1, "the new client needs no session");
}
