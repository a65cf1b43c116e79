//! Which operations are allowed.

use serde_json::{Value, json};

use super::*;
use crate::harness::{answer, call, message, post_stateless};

/// An origin that answers every request with a result, and records the request.
async fn origin() -> Origin {
    Origin::answering(|_| answer("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await
}

/// Sends a message as a caller with `scopes`. Returns `Ok` when it reaches the server, and otherwise the scopes that would help.
async fn decide(edge: &TestEdge, scopes: &str, method: &str, params: Value) -> Result<(), String> {
    let reply = ask(edge, scopes, &message("1", method, &params.to_string())).await;
    verdict(&reply)
}

fn verdict(reply: &Reply) -> Result<(), String> {
    if is_refused_by_error(reply) {
        return Err(String::new());
    }
    if reply.status == 200 {
        return Ok(());
    }
    assert_eq!(reply.status, 403, "{reply:?}");
    let challenge = reply.header("WWW-Authenticate").expect("a challenge");
    assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
    let scopes = challenge.split_once(r#"scope=""#).and_then(|(_, rest)| rest.split_once('"'));
    Err(scopes.map_or_else(String::new, |(scopes, _)| scopes.to_owned()))
}

fn needs(scopes: &str) -> Result<(), String> {
    Err(scopes.to_owned())
}

#[tokio::test]
async fn a_denial_names_all_scopes_and_repeats_the_id() {
    let origin = origin().await;
    let edge = TestEdge::start(&yaml(
        &origin,
        "{providers: [local], scopes: [base]}",
        "methods: [{match: 'tools/*', scopes: [tools]}], tools: [{match: place, scopes: [read, trade]}]",
    ))
    .await;
    for id in ["7", r#""a\"b""#, "-1.50e3"] {
        let reply = ask(&edge, "base read", &call(id, "place")).await;
        assert_eq!(reply.status, 403);
        let challenge = reply.header("WWW-Authenticate").expect("a challenge");
        let named = challenge.split_once(r#"scope=""#).and_then(|(_, rest)| rest.split_once('"')).expect("scopes").0;
        let mut named: Vec<&str> = named.split(' ').collect();
        named.sort_unstable();
        assert_eq!(
            named,
            ["base", "read", "tools", "trade"],
            "the scopes that the caller has are named as well: {challenge}"
        );
        assert!(challenge.contains(r#"resource_metadata="http://edge.example/.well-known/"#), "{challenge}");
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        assert!(reply.body.contains(&format!(r#""id":{id},"#)), "the id is repeated as it was written: {}", reply.body);
        assert_eq!(reply.json()["jsonrpc"], "2.0");
        assert_eq!(reply.json()["error"]["code"], -32001);
    }
    assert_eq!(origin.count(), 0, "no denied call reached the upstream");
    assert_eq!(ask(&edge, "base read tools trade", &call("7", "place")).await.status, 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn the_first_rule_that_matches_a_tool_decides() {
    let origin = origin().await;
    let edge = edge(
        &origin,
        "tools: [{match: get_secret, deny: true}, {match: 'get_*', scopes: [read]}, \
         {match: '*_report', any_scope: [read, audit]}, {match: free}]",
    )
    .await;
    for (scopes, tool, expected) in [
        ("read", "get_secret", needs("")),
        ("read", "get_secrets", Ok(())),
        ("other", "get_quote", needs("read")),
        ("audit", "get_report", needs("read")),
        ("audit", "a_report", Ok(())),
        ("other", "a_report", needs("read")),
        ("other", "free", Ok(())),
        ("read audit", "freed", needs("")),
        ("read audit", "Get_quote", needs("")),
        ("read audit", "", needs("")),
        ("read audit", "get_*", Ok(())),
        ("other", "get_*", needs("read")),
    ] {
        assert_eq!(decide(&edge, scopes, "tools/call", json!({"name": tool})).await, expected, "{scopes}: {tool}");
    }
    let escaped = message("1", "tools/call", r#"{"name":"get\u005fsecret"}"#);
    assert_eq!(verdict(&ask(&edge, "read", &escaped).await), needs(""), "names are compared as parsers read them");
    let nameless = message("1", "tools/call", "{}");
    assert_eq!(verdict(&ask(&edge, "read", &nameless).await), needs(""));
}

#[tokio::test]
async fn common_methods_are_allowed_unless_a_rule_says_otherwise() {
    let origin = origin().await;
    let rules = "methods: [{match: ping, deny: true}, {match: 'notifications/roots/*', scopes: [roots]}, \
                 {match: 'x/*', scopes: [experiment]}, {match: 'tools/*'}]";
    let edge = edge(&origin, rules).await;
    for (scopes, method, expected) in [
        ("any", "initialize", Ok(())),
        ("any", "server/discover", Ok(())),
        ("any", "logging/setLevel", Ok(())),
        ("any", "notifications/initialized", Ok(())),
        ("any", "notifications/anything/new", Ok(())),
        ("any", "ping", needs("")),
        ("any", "notifications/roots/list_changed", needs("roots")),
        ("roots", "notifications/roots/list_changed", Ok(())),
        ("any", "tools/list", Ok(())),
        ("any", "prompts/list", needs("")),
        ("any", "resources/subscribe", needs("")),
        ("any", "x/new", needs("experiment")),
        ("experiment", "x/new", Ok(())),
        ("any", "y/new", needs("")),
        ("any", "Ping", needs("")),
    ] {
        assert_eq!(decide(&edge, scopes, method, json!({})).await, expected, "{scopes}: {method}");
    }
}

#[tokio::test]
async fn unknown_methods_are_denied_where_there_are_rules() {
    let origin = origin().await;
    let with_rules = edge(&origin, "tools: [{match: '*'}]").await;
    assert_eq!(decide(&with_rules, "any", "tools/destroy", json!({"name": "x"})).await, needs(""));
    assert_eq!(decide(&with_rules, "any", "prompts/list", json!({})).await, Ok(()));
    let without = edge(&origin, "").await;
    assert_eq!(decide(&without, "any", "tools/destroy", json!({"name": "x"})).await, Ok(()));
}

#[tokio::test]
async fn prompts_and_resources_are_matched_by_glob() {
    let origin = origin().await;
    let edge = edge(
        &origin,
        "prompts: [{match: 'daily_*', scopes: [read]}], \
         resources: [{match: 'db://secret/*', scopes: [admin]}, {match: 'db://*', scopes: [read]}, \
         {match: 'http://a/b?c=*'}]",
    )
    .await;
    let prompt = |name: &str| json!({"type": "ref/prompt", "name": name});
    let resource = |uri: &str| json!({"type": "ref/resource", "uri": uri});
    let argument = json!({"name": "a", "value": "b"});
    for (scopes, method, params, expected) in [
        ("read", "prompts/get", json!({"name": "daily_news"}), Ok(())),
        ("other", "prompts/get", json!({"name": "daily_news"}), needs("read")),
        ("read", "prompts/get", json!({"name": "weekly"}), needs("")),
        ("read", "prompts/get", json!({}), needs("")),
        ("read", "resources/read", json!({"uri": "db://a/b/c"}), Ok(())),
        ("read", "resources/read", json!({"uri": "db://secret/c"}), needs("admin")),
        ("admin", "resources/read", json!({"uri": "db://secret/c"}), Ok(())),
        ("read", "resources/read", json!({"uri": "file:///etc/passwd"}), needs("")),
        ("other", "resources/read", json!({"uri": "http://a/b?c=1"}), Ok(())),
        ("other", "resources/read", json!({"uri": "http://a/bxc=1"}), needs("")),
        ("other", "resources/read", json!({"uri": "http://a/b"}), needs("")),
        ("read", "resources/read", json!({}), needs("")),
        ("read", "resources/subscribe", json!({"uri": "db://a"}), Ok(())),
        ("read", "resources/subscribe", json!({"uri": "db://secret/c"}), needs("admin")),
        ("read", "resources/unsubscribe", json!({"uri": "db://secret/c"}), needs("admin")),
        ("read", "resources/directory/read", json!({"uri": "db://secret/c"}), needs("admin")),
        ("read", "completion/complete", json!({"ref": prompt("daily_x"), "argument": argument}), Ok(())),
        ("other", "completion/complete", json!({"ref": prompt("daily_x"), "argument": argument}), needs("read")),
        ("read", "completion/complete", json!({"ref": prompt("weekly"), "argument": argument}), needs("")),
        ("read", "completion/complete", json!({"ref": resource("db://{x}"), "argument": argument}), Ok(())),
        (
            "read",
            "completion/complete",
            json!({"ref": resource("db://secret/{x}"), "argument": argument}),
            needs("admin"),
        ),
        ("read", "completion/complete", json!({"argument": argument}), needs("")),
    ] {
        assert_eq!(decide(&edge, scopes, method, params.clone()).await, expected, "{scopes}: {method} {params}");
    }
}

/// All resources of a subscription must be allowed. A denial names the scopes of all denied resources.
#[tokio::test]
async fn a_subscription_needs_permission_for_all_its_resources() {
    let origin = origin().await;
    let edge = edge(&origin, "resources: [{match: 'a:*', scopes: [a]}, {match: 'b:*', scopes: [b]}]").await;
    for (scopes, uris, expected) in [
        ("a b", vec!["a:1", "b:1"], Ok(())),
        ("a", vec!["a:1", "a:2"], Ok(())),
        ("a", vec!["a:1", "b:1"], needs("b")),
        ("none", vec!["a:1", "b:1"], needs("a b")),
        ("a b", vec!["a:1", "c:1"], needs("")),
        ("none", vec![], Ok(())),
    ] {
        let params = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": uris}});
        let body = message("1", "subscriptions/listen", &params.to_string());
        let request = post_stateless("/mcp", &[("Authorization", &bearer(scopes))], &body);
        assert_eq!(verdict(&exchange(edge.address, request).await), expected, "{scopes}: {uris:?}");
    }
}

#[tokio::test]
async fn an_open_route_denies_by_name() {
    let origin = origin().await;
    let edge = open_edge(&origin, "tools: [{match: 'admin_*', deny: true}, {match: '*'}], prompts: []").await;
    for (body, expected) in [
        (call("1", "get"), 200),
        (call("1", "admin_reset"), -32602),
        (message("1", "prompts/get", r#"{"name":"x"}"#), -32602),
        (message("1", "resources/read", r#"{"uri":"x"}"#), 200),
        (message("1", "evil/method", "{}"), -32601),
    ] {
        let reply = exchange(edge.address, post("/", &[], &body)).await;
        assert_eq!(reply.status, 200, "{body}");
        if expected != 200 {
            assert_eq!(reply.header("WWW-Authenticate"), None, "no credential would help");
            assert_eq!((&reply.json()["id"], &reply.json()["error"]["code"]), (&1.into(), &expected.into()), "{body}");
        }
    }
}

/// All messages of a batch must be allowed.
#[tokio::test]
async fn a_batch_needs_permission_for_all_its_messages() {
    let origin = origin().await;
    let edge = edge(&origin, "tools: [{match: get, scopes: [read]}, {match: put, scopes: [write]}]").await;
    let batch = format!("[{},{}]", call("1", "get"), call("2", "put"));
    let headers = |scopes: &str| [("Authorization", bearer(scopes)), ("MCP-Protocol-Version", "2025-03-26".to_owned())];
    for (scopes, expected) in [("read write", Ok(())), ("read", needs("write")), ("none", needs("read write"))] {
        let headers = headers(scopes);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(verdict(&exchange(edge.address, post("/", &headers, &batch)).await), expected, "{scopes}");
    }
    assert_eq!(origin.count(), 1);
}

/// The SDKs of MCP parse the URI of a resource before they look the resource up. So different texts can mean one
/// resource.
#[tokio::test]
async fn another_spelling_of_a_uri_does_not_bypass_a_rule() {
    let origin = origin().await;
    let edge = edge(
        &origin,
        "resources: [{match: 'FILE:///as/written'}, {match: 'file:///secret/*', deny: true}, {match: 'file:///*'}, \
         {match: '*'}]",
    )
    .await;
    for uri in [
        "file:///public/../secret/key",
        "file:///public/%2e%2e/secret/key",
        "file:///public/%2E./secret/key",
        "file:///secret%2fkey",
        "file:///%73ecret/key",
        "file:////secret/../secret/key",
        "file:///./secret/key",
        "FILE:///secret/key",
        "file:/secret/key",
        "file://localhost/secret/key",
        " file:///secret/key",
        "file:///sec\tret/key",
        "file:\\\\\\secret\\key",
    ] {
        for (method, params) in [
            ("resources/read", json!({"uri": uri})),
            ("resources/subscribe", json!({"uri": uri})),
            ("completion/complete", json!({"ref": {"type": "ref/resource", "uri": uri}})),
            ("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": [uri]}})),
        ] {
            assert_eq!(decide(&edge, "", method, params).await, needs(""), "{method} {uri:?}");
        }
    }
    assert_eq!(origin.count(), 0);
    for uri in
        ["file:///public/key", "file:///public/a%20b", "file:///secrets", "db://x/y?z=../w", "FILE:///as/written"]
    {
        assert_eq!(decide(&edge, "", "resources/read", json!({"uri": uri})).await, Ok(()), "{uri}");
    }
}

/// Cases A1 and A2: many clients end their session at any status but 200. So what no scope would open is refused as a server does that
/// does not have it, and nobody is sent to a login page. `refusals` says otherwise.
#[tokio::test]
async fn what_no_scope_would_open_is_refused_as_by_a_server_that_does_not_have_it() {
    let origin = origin().await;
    for (refusals, never, scoped) in [("", 200, 403), (", refusals: http", 403, 403), (", refusals: jsonrpc", 200, 200)]
    {
        let rules = format!("tools: [{{match: get}}, {{match: trade, scopes: [trade]}}], prompts: []{refusals}");
        let edge = edge(&origin, &rules).await;
        let before = origin.count();
        for (body, status, code) in [
            (call(r#""a""#, "drop"), never, -32602),
            (message(r#""a""#, "prompts/get", r#"{"name":"x"}"#), never, -32602),
            (message(r#""a""#, "evil/method", "{}"), never, -32601),
            (call(r#""a""#, "trade"), scoped, -32602),
        ] {
            let reply = ask(&edge, "any", &body).await;
            assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/json")), "{body}");
            let (error, challenge) = (reply.json(), reply.header("www-authenticate"));
            assert_eq!(error["id"], "a", "{body}: {error}");
            if status == 200 {
                assert_eq!((&error["error"]["code"], challenge), (&code.into(), None), "{body}: {error}");
            } else {
                assert_eq!(challenge.is_some(), body.contains("trade"), "{refusals} {body}: {challenge:?}");
            }
        }
        // Nobody waits for an answer to a notification.
        let notification = r#"{"jsonrpc":"2.0","method":"evil/method"}"#;
        let expected = if refusals.contains("http") { 403 } else { 202 };
        assert_eq!(ask(&edge, "any", notification).await.status, expected, "{refusals}");
        assert_eq!(origin.count(), before, "nothing reaches the server");
        // In 2026-07-28, an unknown method has a status of its own.
        for (body, status) in [(call("1", "drop"), never), (message("1", "evil/method", "{}"), never.max(404))] {
            let request = post_stateless("/", &[("Authorization", &bearer("any"))], &body);
            let reply = exchange(edge.address, request).await;
            let status = if never == 403 { 403 } else { status };
            assert_eq!(reply.status, status, "{refusals} {body}: {reply:?}");
        }
    }
}

/// Case C12: for a server in C, a name or a key ends at NUL.
#[tokio::test]
async fn names_and_keys_with_control_characters_are_refused_under_rules() {
    let origin = origin().await;
    let edge = edge(&origin, "tools: [{match: get_secret, deny: true}, {match: '*'}], methods: [{match: '*'}]").await;
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_secret\u0000"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\u0007b"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\u0085b"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000","params":{"name":"get_secret"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","name\u0000":"get_secret"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000x":"tools/call","params":{"name":"get_secret"}}"#
            .to_owned(),
    ] {
        let reply = ask(&edge, "any", &body).await;
        assert!(reply.status == 400 || is_refused_by_error(&reply), "{body}: {reply:?}");
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(ask(&edge, "any", &call("1", "other")).await.status, 200);
}
