//! Which header fields upstreams get: from clients, from proxies in front of the edge, and from the edge.

use http::Request;

use crate::harness::http2::{Http2, head, text};
use crate::harness::{Claims, Origin, Recorded, TestEdge, Tokens, answer, call, exchange, ok, post};

const TRUSTED: &str =
    "listeners: [{address: '127.0.0.1:0', hosts: [edge.example], trusted_proxies: [127.0.0.0/8]MORE}]";

/// An edge whose clients are trusted proxies, with a route for each protocol. `more` stands in the listener, in the upstream and
/// in both routes.
async fn edge(origin: &Origin, more: [&str; 3]) -> TestEdge {
    let [listener, upstream, route] = more;
    TestEdge::start(&format!(
        "{}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]{upstream}}}}}
routes:
  - {{path: /mcp, upstream: a, protocol: mcp, auth: none{route}}}
  - {{path: /web/, upstream: a, auth: none{route}}}
",
        TRUSTED.replace("MORE", listener),
        origin.address
    ))
    .await
}

/// What the origin sees of a message with these fields: on both kinds of route, over HTTP/1 and HTTP/2.
async fn seen(edge: &TestEdge, origin: &Origin, fields: &[(&str, &str)]) -> Vec<Recorded> {
    let mut all = Vec::new();
    let body = call("1", "x");
    let mut http2 = Http2::connect(edge.address).await;
    for path in ["/mcp", "/web/mcp"] {
        let reply = exchange(edge.address, post(path, fields, &body)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        all.push(origin.last());
        let mut request = Request::post(format!("http://edge.example{path}"))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (response, mut stream) = http2.send(request.body(()).expect("a request"), false).await;
        stream.send_data(body.clone().into(), true).expect("the stream is open");
        let response = head(response).await;
        assert_eq!(response.status(), 200);
        text(response.into_body()).await;
        all.push(origin.last());
    }
    assert_eq!(all.len(), 4);
    all
}

async fn origin() -> Origin {
    Origin::answering(|_| answer("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await
}

/// Case D8: servers take addresses, users, hosts and paths from these, and many read `_` as `-`.
#[tokio::test]
async fn fields_that_clients_could_lie_in_reach_no_upstream() {
    let origin = origin().await;
    let lies = [
        "Client-IP",
        "Forwarded",
        "Remote-User",
        "True-Client-IP",
        "X-Auth-Request-Email",
        "X-Client-IP",
        "X-Forwarded-Prefix",
        "X-Forwarded-Scheme",
        "X-Forwarded-Ssl",
        "X-Forwarded-User",
        "X-Groups",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-User-Provider",
        "X_Team",
        "content_length",
    ];
    let mut fields: Vec<(&str, &str)> = lies.iter().map(|name| (*name, "lie")).collect();
    fields.push(("X-Harmless", "stays"));
    let strict = edge(&origin, ["", "", ""]).await;
    for request in seen(&strict, &origin, &fields).await {
        let passed: Vec<_> = lies.iter().filter(|name| request.header(name) == Some("lie")).collect();
        assert!(passed.is_empty(), "{passed:?}");
        assert_eq!(request.header("x-harmless"), Some("stays"));
    }
    let keeps = edge(&origin, [", underscores_in_headers: true", "", ""]).await;
    for request in seen(&keeps, &origin, &[("X_Team", "blue"), ("X_Forwarded_For", "lie"), ("X_User", "lie")]).await {
        let found = ["x_team", "x_forwarded_for", "x_user"].map(|name| request.header(name));
        assert_eq!(found, [Some("blue"), None, None]);
    }
    // What a route sets or removes, it sets or removes in both spellings.
    let changes = ", request_headers: {set: {X-Team: red}, remove: [X-Gone]}";
    let keeps = edge(&origin, [", underscores_in_headers: true", "", changes]).await;
    for request in seen(&keeps, &origin, &[("X_Team", "blue"), ("X_Gone", "here")]).await {
        let found = ["x-team", "x_team", "x_gone"].map(|name| request.header(name));
        assert_eq!(found, [Some("red"), None, None]);
    }
}

/// Case D3: SDK servers answer 421 to hosts that they do not know. Case D4 is a unit test of `config::Endpoint`.
#[tokio::test]
async fn mcp_servers_get_a_host_that_they_know_and_are_told_the_public_one() {
    let origin = origin().await;
    let edge = edge(&origin, ["", "", ""]).await;
    let own = origin.address.to_string();
    let hosts: Vec<_> = seen(&edge, &origin, &[])
        .await
        .iter()
        .map(|request| (request.headers("host")[0].to_owned(), request.headers("x-forwarded-host")[0].to_owned()))
        .collect();
    let public = || "edge.example".to_owned();
    let expected = [(own.clone(), public()), (own, public()), (public(), public()), (public(), public())];
    assert_eq!(hosts, expected);
}

/// Case D3: a probe with another `Host` than requests have says nothing about requests.
#[tokio::test]
async fn probes_have_the_host_that_requests_get() {
    for (route, expected) in [
        ("{path: /, upstream: a, auth: none, host: {rewrite: inner.example}}", Some("inner.example")),
        ("{path: /, upstream: a, auth: none, hosts: [edge.example]}", Some("edge.example")),
        ("{path: /, upstream: a, auth: none}", None),
        ("{path: /, upstream: a, auth: none, protocol: mcp, hosts: [edge.example]}", None),
    ] {
        let origin = Origin::saying("ok").await;
        let _edge = TestEdge::start(&format!(
            "upstreams: {{a: {{endpoints: [{{address: '{}'}}], health: {{http: {{}}, interval: 10ms}}}}}}\nroutes: [{route}]\n",
            origin.address
        ))
        .await;
        crate::harness::eventually("a probe", async || origin.count() > 0).await;
        let own = origin.address.to_string();
        assert_eq!(origin.last().headers("host"), [expected.unwrap_or(&own)], "{route}");
    }
}

/// Case D5: a hosted server takes `http` in `X-Forwarded-Proto` for its own scheme.
#[tokio::test]
async fn a_server_of_others_is_not_told_about_the_inside() {
    let origin = origin().await;
    let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
    let told = |request: &Recorded| names.map(|name| request.header(name).is_some());
    let full = edge(&origin, ["", "", ""]).await;
    assert!(seen(&full, &origin, &[]).await.iter().all(|request| told(request) == [true, true, true, false]));
    let none = edge(&origin, ["", ", forwarded: none", ""]).await;
    let lies = [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "http"), ("Forwarded", "for=9.9.9.9")];
    for request in seen(&none, &origin, &lies).await {
        assert_eq!(told(&request), [false; 4]);
        assert!(request.header("x-request-id").is_some());
    }
}

/// Case D6: the edge has judged the page. A server with a list of its own would refuse it again.
#[tokio::test]
async fn the_origin_of_a_page_stays_at_the_edge_on_mcp_routes() {
    let origin = origin().await;
    let cors = ", cors: {origins: ['https://app.example']}";
    let edge = edge(&origin, ["", "", cors]).await;
    let page = "https://app.example";
    let found: Vec<_> = seen(&edge, &origin, &[("Origin", page)])
        .await
        .iter()
        .map(|request| request.header("origin").map(str::to_owned))
        .collect();
    assert_eq!(found, [None, None, Some(page.to_owned()), Some(page.to_owned())]);
}

/// Case D7: the same subject at two providers is two people.
#[tokio::test]
async fn upstreams_are_told_which_provider_knows_the_caller() {
    let origin = Origin::answering(|_| ok("a")).await;
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [local]}}}}]
",
        Tokens::PROVIDER,
        origin.address
    ))
    .await;
    let bearer = format!("Bearer {}", Tokens::token("alice", ""));
    let fields = [("Authorization", bearer.as_str()), ("X-User-Provider", "lie"), ("X_User_Provider", "lie")];
    assert_eq!(edge.get("/", &fields).await.status, 200);
    let request = origin.last();
    assert_eq!((request.headers("x-user"), request.headers("x-user-provider")), (vec!["alice"], vec!["local"]));
    assert_eq!(request.header("x_user_provider"), None);
    for subject in [" alice", "alice ", "\u{3000}alice"] {
        let token = Tokens::sign(&Claims::good(subject, "").0);
        assert_eq!(edge.get_as(&token, "/").await.status, 401, "{subject:?}");
    }
}

/// Case D9.
#[tokio::test]
async fn the_request_id_of_a_trusted_proxy_is_kept_if_it_is_well_formed() {
    let origin = origin().await;
    let trusting = edge(&origin, ["", "", ""]).await;
    for request in seen(&trusting, &origin, &[("X-Request-Id", "Root=1-abc/2")]).await {
        assert_eq!(request.headers("x-request-id"), ["Root=1-abc/2"]);
    }
    let reply = trusting.get("/none", &[("X-Request-Id", "from-proxy")]).await;
    assert_eq!((reply.header("x-request-id"), &reply.json()["request_id"]), (Some("from-proxy"), &"from-proxy".into()));
    for bad in ["a b", "a\"b", &"x".repeat(129)] {
        for request in seen(&trusting, &origin, &[("X-Request-Id", bad)]).await {
            assert_eq!(request.headers("x-request-id")[0].len(), 32, "{bad}");
        }
    }
    let own = TestEdge::start(&format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes: [{{path: /, upstream: a, auth: none}}]\n",
        origin.address
    ))
    .await;
    assert_eq!(own.get("/", &[("X-Request-Id", "from-client")]).await.status, 200);
    assert_ne!(origin.last().headers("x-request-id"), ["from-client"]);
}
