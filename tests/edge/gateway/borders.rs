//! What must not pass through a gateway, and what must pass as it is.

use std::collections::HashSet;
use std::time::Instant;

use super::*;

/// SDK servers find the stream of an answer by the id of the request.
#[tokio::test]
async fn ids_are_never_twice_under_way_in_one_session() {
    let old = Server::start("old", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&old], &["old"], "", "servers: [old]").await;
    let (one, two) = (Client::stateless(&edge, "").await, Client::stateless(&edge, "").await);
    for client in [&one, &two] {
        let call = message("\"a\\\"b\"", "tools/call", &json!({"name": "old_get"}).to_string());
        let reply = client.post(&call).await;
        assert_eq!((reply.status, &reply.json()["id"]), (200, &json!("a\"b")), "{reply:?}");
        client.tools().await;
        client.list("resources/list", "resources", "uri").await;
    }
    let ids: Vec<String> = old
        .origin
        .requests()
        .iter()
        .filter_map(|request| {
            let body: Value = serde_json::from_slice(&request.body).ok()?;
            (body["method"] != "notifications/initialized" && body["id"].is_string()).then(|| body["id"].to_string())
        })
        .collect();
    assert!(ids.len() >= 5, "{ids:?}");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
}

#[tokio::test]
async fn cookies_and_keys_stay_between_a_client_and_no_server() {
    let one = Server::start("one", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&one], &["one"], "", "servers: [one]").await;
    let client = Client::open(&edge, "").await;
    let call = message("1", "tools/call", &json!({"name": "one_get", "arguments": {}}).to_string());
    let extra = "\r\nCookie: a=1\r\nX-Api-Key: k\r\nX-User: root\r\nTraceparent: t\r\nMcp-Param-Region: eu\r\nAccept-Language: de\r\n";
    let text = client.text(&call).replacen("\r\n", extra, 1);
    let reply = exchange(edge.address, text).await;
    assert_eq!(
        (reply.status, reply.header("set-cookie"), reply.header("mcp-session-id")),
        (200, None, None),
        "{reply:?}"
    );
    let (request, _) = one.last("tools/call");
    for (name, expected) in [
        ("cookie", None),
        ("x-api-key", None),
        ("authorization", None),
        ("x-user", Some("alice")),
        ("traceparent", Some("t")),
        ("mcp-param-region", Some("eu")),
        ("accept-language", Some("de")),
    ] {
        assert_eq!(request.header(name), expected, "{name}");
    }
}

/// Clients would get tokens there, and show them.
#[tokio::test]
async fn a_server_cannot_send_clients_to_another_authorization_server() {
    let open = Server::start("open", Speaks::Stateless, &["get"]).await;
    let text = yaml(&[&open], &["open"], "", "servers: [open]").replacen("auth: {providers: [local]}", "auth: none", 1);
    let edge = TestEdge::start_with(&text, &[KEY]).await;
    let client = Client::open(&edge, "").await;
    open.mood(Mood::Refuses);
    let call = message("1", "tools/call", &json!({"name": "open_get"}).to_string());
    let reply = client.post(&call).await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, None), "{reply:?}");
}

/// Clients take a 404 for the end of their session.
#[tokio::test]
async fn a_server_without_sessions_does_not_end_the_session_of_a_client() {
    let new = Server::start("new", Speaks::Stateless, &["get"]).await;
    new.script.resources.lock().expect("no panic").push(json!({"uri": "a://1", "name": "one"}));
    let edge = start(&[&new], &["new"], "", "servers: [new]").await;
    let client = Client::open(&edge, "").await;
    assert_eq!(client.hello["capabilities"]["resources"]["subscribe"], Value::Null, "{}", client.hello);
    let answer = client.ask("resources/subscribe", json!({"uri": "a://1"})).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    let stray = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"get"}}"#;
    assert_eq!(client.post(stray).await.status, 400, "a request needs an id");
    assert_eq!(new.calls("tools/call"), 0);
}

#[tokio::test]
async fn which_server_gets_a_call_does_not_depend_on_which_one_is_up() {
    let first = Server::start("first", Speaks::Sessions, &["delete"]).await;
    let second = Server::start("second", Speaks::Sessions, &["delete", "other"]).await;
    let gateway = "servers: [{route: first, prefix: ''}, {route: second, prefix: ''}]";
    let edge = start(&[&first, &second], &["first", "second"], "", gateway).await;
    first.mood(Mood::SendsJunk);
    let client = Client::open(&edge, "").await;
    for tool in ["delete", "other"] {
        let error = client.call(tool).await.expect_err("the first server may have it");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("`first`")), "{error}");
    }
    assert_eq!(second.calls("tools/call"), 0);
    first.mood(Mood::Fine);
    assert_eq!(client.call("delete").await, Ok(r#"first:delete:{"x":1}"#.to_owned()));
    assert_eq!(client.call("other").await, Ok(r#"second:other:{"x":1}"#.to_owned()));
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_one_client_and_not_all() {
    let good = Server::start("good", Speaks::Sessions, &["get"]).await;
    let bad = Server::start("bad", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&good, &bad], &["good", "bad"], "", "servers: [good, bad]").await;
    bad.mood(Mood::Hangs);
    Client::open(&edge, "").await;
    let before = bad.origin.count();
    let begun = Instant::now();
    for _ in 0..5 {
        let client = Client::open(&edge, "").await;
        assert_eq!(client.tools().await, ["good_get"]);
    }
    assert_eq!(bad.origin.count(), before, "it is left alone for a while, which took {:?}", begun.elapsed());
}

/// What one client says about itself does not change how its gateway speaks with a server for others.
#[tokio::test]
async fn a_client_whose_initialize_a_server_refuses_affects_no_other() {
    let server = Server::start("one", Speaks::Both, &["get"]).await;
    let edge = start(&[&server], &["one"], "", "servers: [one]").await;
    let odd = Client::new(&edge, "/mcp", "", false);
    let hello = odd.ask("initialize", json!({})).await;
    assert!(hello["result"].is_object(), "{hello}");
    let opened = server.calls("initialize");
    let client = Client::open(&edge, "").await;
    assert_eq!(server.calls("initialize"), opened + 1, "it has a session at the server");
    assert!(client.call("one_get").await.is_ok());
}

/// Every server gets what `initialize` says, and the edge remembers it.
#[tokio::test]
async fn what_initialize_says_is_bounded() {
    let server = Server::start("one", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&server], &["one"], "", "servers: [one]").await;
    let client = Client::new(&edge, "/mcp", "", false);
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x".repeat(70_000)}});
    let reply = client.post(&message("1", "initialize", &params.to_string())).await;
    assert_eq!(reply.json()["error"]["code"], -32602, "{reply:?}");
    assert_eq!(server.origin.count(), 0);
}

/// Nothing but the progress of a server's own request goes back to it by a marked token.
#[tokio::test]
async fn a_marked_token_does_not_make_a_notification_of_a_call() {
    let server = Server::start("one", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&server], &["one"], "", "servers: [{route: one, tools: {exclude: [get]}}]").await;
    let client = Client::open(&edge, "").await;
    for name in ["/one/", "one"] {
        let mark: String =
            mcp_edge::mcp::ServerMark::of_route(name).bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let message = json!({
            "jsonrpc": "2.0", "method": "tools/call",
            "params": {"name": "get", "arguments": {}, "progressToken": format!("edge-{mark}-MQ")},
        });
        let reply = client.post(&message.to_string()).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    assert_eq!(server.calls("tools/call"), 0);
}

/// An answer that its server did not take is not told to be accepted.
#[tokio::test]
async fn an_answer_that_cannot_be_delivered_has_the_status_of_an_error() {
    let server = Server::start("one", Speaks::Sessions, &["ask"]).await;
    let edge = start(&[&server], &["one"], "", "servers: [one]").await;
    let client = Client::open(&edge, "").await;
    let call = message("1", "tools/call", r#"{"name":"one_ask","arguments":{}}"#);
    let mut events = client.stream(client.text(&call)).await;
    let question = events.next().await;
    server.mood(Mood::Refuses);
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "x"}});
    let reply = client.post(&answer.to_string()).await;
    assert!(reply.status >= 400, "{reply:?}");
}

/// Case C13: the work for one message is bounded.
#[tokio::test]
async fn a_listen_for_too_many_bytes_of_uris_is_refused() {
    let server = Server::start("one", Speaks::Stateless, &["get"]).await;
    let edge = start(&[&server], &["one"], "", "servers: [one]").await;
    let client = Client::new(&edge, "/mcp", "", true);
    let uris: Vec<String> = (0..100).map(|number| format!("x://{number}/{}", "a".repeat(2_000))).collect();
    let params = json!({"notifications": {"resourceSubscriptions": uris}});
    let reply = client.post(&message("1", "subscriptions/listen", &params.to_string())).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(-32602)), "{reply:?}");
}
