//! The sessions of a gateway: without a store, at any edge.

use super::*;

#[tokio::test]
async fn a_session_goes_on_at_another_edge_and_after_its_servers_have_forgotten_it() {
    let one = Server::start("one", Speaks::Sessions, &["get"]).await;
    let two = Server::start("two", Speaks::Stateless, &["get"]).await;
    let (here, there) = (
        start(&[&one, &two], &["one", "two"], "", "servers: [one, two]").await,
        start(&[&one, &two], &["one", "two"], "", "servers: [one, two]").await,
    );
    let client = Client::open(&here, "").await;
    let elsewhere = Client { address: there.address, ..client.clone() };
    assert!(elsewhere.call("one_get").await.is_ok() && elsewhere.call("two_get").await.is_ok());
    assert_eq!(one.calls("initialize"), 1, "the other edge uses the session that is open");
    one.forget();
    for client in [&client, &elsewhere, &client] {
        assert!(client.call("one_get").await.is_ok(), "the gateway opens another session");
    }
    assert_eq!(one.calls("initialize"), 3, "one for each edge");
    let (_, hello) = one.last("initialize");
    assert_eq!(hello["params"]["clientInfo"]["name"], "test", "with what the client has said");
    one.forget();
    assert_eq!(client.tools().await.len(), 2, "lists find a new session too");

    assert_eq!(client.bare("DELETE").await.status, 204);
    assert!(one.origin.requests().iter().any(|request| request.line().starts_with("DELETE ")));
    assert_eq!(client.post(&message("1", "tools/list", "{}")).await.status, 404, "the session has ended");
}

#[tokio::test]
async fn a_session_opens_for_its_caller_at_its_gateway_only() {
    let one = Server::start("one", Speaks::Sessions, &["get"]).await;
    let text = yaml(&[&one], &["one"], "", "servers: [one]")
        + "  - {path: /other, auth: {providers: [local]}, gateway: {servers: [one]}}\n";
    let edge = TestEdge::start_with(&text, &[KEY]).await;
    let client = Client::open(&edge, "").await;
    let list = message("1", "tools/list", "{}");
    assert_eq!(client.post(&list).await.status, 200);
    let mut bob = client.clone();
    bob.authorization = format!("Bearer {}", Tokens::token("bob", ""));
    let made_up = Client { session: Some("made-up".to_owned()), ..client.clone() };
    let path = Client { path: "/one/mcp".to_owned(), ..client.clone() };
    let other = Client { path: "/other".to_owned(), ..client.clone() };
    let mut mixed = Client::new(&edge, "/one/mcp", "", false);
    let hello = mixed.post(&message("0", "initialize", r#"{"protocolVersion":"2025-11-25"}"#)).await;
    mixed.session = hello.header("mcp-session-id").map(str::to_owned);
    mixed.path = "/mcp".to_owned();
    for client in [bob, made_up, path, other, mixed] {
        assert_eq!(client.post(&list).await.status, 404, "{} {:?}", client.path, client.session);
    }
}

/// An `initialize` that is too long for the id stays in the memory of the edge.
#[tokio::test]
async fn a_client_with_much_to_say_has_a_session_too() {
    let one = Server::start("one", Speaks::Sessions, &["get"]).await;
    let edge = start(&[&one], &["one"], "", "servers: [one]").await;
    let mut client = Client::new(&edge, "/mcp", "", false);
    let noise: String = (0..5_000).map(|_| fastrand_letter()).collect();
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"experimental": {"x": {"y": noise}}}, "clientInfo": {"name": "a", "version": "1"}});
    let reply = client.post(&message("0", "initialize", &params.to_string())).await;
    client.session = reply.header("mcp-session-id").map(str::to_owned);
    assert!(client.session.as_ref().is_some_and(|id| id.len() < 4_200));
    one.forget();
    assert!(client.call("one_get").await.is_ok(), "it is opened again from memory");
    assert_eq!(one.last("initialize").1["params"], params);
}

fn fastrand_letter() -> char {
    let digits = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut byte = [0; 1];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte).expect("random bytes");
    char::from(digits[usize::from(byte[0]) % digits.len()])
}
