//! Opaque tokens: the edge asks an introspection endpoint whether they are valid (RFC 7662).

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{EdgeProcess, Origin, TestEdge, Tokens, exchange, ok, request};

const SECRET: (&str, &str) = ("edge.secret", "hunter2 & more\n");

const BASIC: &str = "client_secret: {file: edge.secret}";

fn yaml(server: &Origin, origin: &Origin, proof: &str) -> String {
    format!(
        "auth:
  providers:
    {}
    opaque:
      introspection: {{url: 'http://{}/introspect?x=1', client_id: 'my edge', {proof},
                       issuer: 'https://idp.example', audiences: [mcp-edge], timeout: 500ms}}
      groups: {{analysts: ['fininfo:read']}}
upstreams: {{fininfo: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /fininfo/, upstream: fininfo, auth: {{providers: [opaque], scopes: ['fininfo:read']}}}}
  - {{path: /both/, upstream: fininfo, auth: {{providers: [local, opaque]}}}}
",
        Tokens::PROVIDER,
        server.address,
        origin.address
    )
}

fn active(more: Value) -> String {
    let mut answer = json!({"active": true, "sub": "alice", "scope": "a fininfo:read", "aud": ["mcp-edge"]});
    answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    answer.to_string()
}

async fn server(answer: String) -> Origin {
    Origin::answering(move |_| ok(&answer)).await
}

/// The form in a request's body.
fn form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

#[tokio::test]
async fn a_token_is_introspected_once_and_the_answer_names_the_caller() {
    let exp = mcp_edge::types::unix_now() + 600;
    let server =
        server(active(json!({"exp": exp, "token_type": "Bearer", "groups": ["analysts"], "scope": "a"}))).await;
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start_with(&yaml(&server, &origin, BASIC), &[SECRET]).await;
    for _ in 0..3 {
        assert_eq!(edge.get_as("opaque~+/.x", "/fininfo/mcp?q=1").await.status, 200);
    }
    assert_eq!(server.count(), 1, "the answer is cached");
    let asked = server.last();
    assert_eq!(asked.line(), "POST /introspect?x=1 HTTP/1.1");
    assert_eq!(asked.headers("content-type"), ["application/x-www-form-urlencoded"]);
    let basic = format!("Basic {}", STANDARD.encode("my+edge:hunter2+%26+more"));
    assert_eq!(asked.headers("authorization"), [basic.as_str()], "RFC 6749 section 2.3.1");
    let expected = [("token", "opaque~+/.x"), ("token_type_hint", "access_token")];
    assert_eq!(form(&asked.body), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(origin.last().headers("x-user"), ["alice"]);
    assert_eq!(origin.last().headers("x-scopes"), ["a fininfo:read"], "the caller's groups add scopes");
    assert_eq!(origin.last().header("authorization"), None);
    let metadata = edge.get("/.well-known/oauth-protected-resource/fininfo/mcp", &[]).await.json();
    assert_eq!(metadata["authorization_servers"], json!(["https://idp.example"]));
}

#[tokio::test]
async fn the_edge_authenticates_with_a_signed_assertion() {
    let (server, origin) = (server(active(json!({}))).await, Origin::saying("in").await);
    let key = include_str!("../../fixtures/config/files/one.key");
    let proof = "private_key: {file: edge.key, id: k1}";
    let edge = TestEdge::start_with(&yaml(&server, &origin, proof), &[("edge.key", key)]).await;
    let mut ids = HashSet::new();
    for token in ["one", "two"] {
        assert_eq!(edge.get_as(token, "/fininfo/").await.status, 200);
        let asked = server.last();
        assert_eq!(asked.header("authorization"), None);
        let form = form(&asked.body);
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((field("token"), field("client_id")), (Some(token), Some("my edge")));
        assert_eq!(field("client_assertion_type"), Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        let parts: Vec<Value> = field("client_assertion")
            .expect("an assertion")
            .split('.')
            .take(2)
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON"))
            .collect();
        assert_eq!(parts[0], json!({"typ": "JWT", "alg": "ES256", "kid": "k1"}));
        let claims = &parts[1];
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("my edge"), &json!("my edge")));
        assert_eq!(claims["aud"], "https://idp.example");
        let lifetime = claims["exp"].as_u64().expect("a number") - claims["iat"].as_u64().expect("a number");
        assert!(lifetime <= 60, "{lifetime}");
        assert!(ids.insert(claims["jti"].as_str().expect("text").to_owned()), "each assertion has an id of its own");
    }
}

/// Rows 16, 18 and 19: what a client gets for each answer of the endpoint.
#[tokio::test]
async fn each_answer_of_an_introspection_endpoint_leads_to_its_status() {
    let origin = Origin::saying("in").await;
    let canary = Origin::saying("{}").await;
    let now = mcp_edge::types::unix_now();
    let with_status = |status: &str, more: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let said = |body: &str| with_status("200 OK", "", body);
    let good = active(json!({}));
    let location = format!("Location: http://{}/\r\n", canary.address);
    let huge = active(json!({"padding": "x".repeat(300 << 10)}));
    for (name, answer, status) in [
        ("good", said(&good), 200),
        ("inactive", said(r#"{"active": false, "sub": "alice"}"#), 401),
        ("expired", said(&active(json!({"exp": now - 60}))), 401),
        ("early", said(&active(json!({"nbf": now + 60}))), 401),
        ("another audience", said(&active(json!({"aud": "other"}))), 401),
        ("no audience", said(&active(json!({"aud": null}))), 401),
        ("another issuer", said(&active(json!({"iss": "https://evil.example"}))), 401),
        ("another type", said(&active(json!({"token_type": "DPoP"}))), 401),
        ("a subject that splits a header", said(&active(json!({"sub": "eve\r\nX-Admin: 1"}))), 401),
        ("no scope", said(&active(json!({"scope": ""}))), 403),
        ("`active` is a text", said(&active(json!({"active": "true"}))), 503),
        ("`active` is a number", said(&active(json!({"active": 1}))), 503),
        ("an empty object", said("{}"), 503),
        ("a list", said("[]"), 503),
        ("junk", said("active=true"), 503),
        ("nothing", said(""), 503),
        ("a date as text", said(&active(json!({"exp": "never"}))), 503),
        ("huge", said(&huge), 503),
        ("unsupported token type", with_status("400 Bad Request", "", r#"{"error": "unsupported_token_type"}"#), 401),
        ("an invalid request", with_status("400 Bad Request", "", r#"{"error": "invalid_request"}"#), 503),
        ("an invalid request with junk", with_status("400 Bad Request", "", r#""unsupported_token_type""#), 503),
        (
            "the edge's credentials are wrong",
            with_status("401 Unauthorized", "", r#"{"error": "invalid_client"}"#),
            503,
        ),
        ("the edge is forbidden", with_status("403 Forbidden", "", &good), 503),
        ("created", with_status("201 Created", "", &good), 503),
        ("broken", with_status("500 Internal Server Error", "", &good), 503),
        ("redirected", with_status("307 Temporary Redirect", &location, &good), 503),
        ("silent", String::new(), 503),
    ] {
        let answer = answer.into_bytes();
        let server = Origin::answering(move |_| answer.clone()).await;
        let edge = TestEdge::start_with(&yaml(&server, &origin, BASIC), &[SECRET]).await;
        for _ in 0..2 {
            let reply = edge.get_as("opaque", "/fininfo/").await;
            assert_eq!(reply.status, status, "{name}: {}", reply.body);
            assert_eq!(reply.header("retry-after").is_some(), status == 503, "{name}");
        }
        assert_eq!(server.count() == 2, status == 503, "outages are not cached: {name}");
    }
    assert_eq!((canary.count(), origin.count()), (0, 2));
}

/// A token for one route is refused on another route. A token without an audience is refused on all routes, or accepted
/// on all routes with `audience_optional`. Each answer is cached once, for all routes.
#[tokio::test]
async fn tokens_of_a_provider_without_audiences_are_bound_to_the_route() {
    let origin = Origin::saying("in").await;
    let (one, two) = ("https://edge.example/one/mcp", "https://edge.example/two/mcp");
    for (aud, statuses) in [
        (json!(one), [200, 401, 200]),
        (json!([two, "other"]), [401, 200, 401]),
        (json!([one, two]), [200, 200, 200]),
        (json!("shared"), [401, 401, 200]),
        (json!("mcp-edge"), [401, 401, 401]),
        (json!("https://edge.example/one/"), [401, 401, 401]),
        (json!([]), [401, 401, 401]),
        (json!(7), [401, 401, 401]),
        (json!(null), [401, 401, 401]),
    ] {
        for optional in [false, true] {
            let server = server(active(json!({"aud": aud}))).await;
            let yaml = format!(
                "auth: {{providers: {{opaque: {{introspection: {{url: 'http://{}/', client_id: edge, {BASIC},
                                                                  audience_optional: {optional}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /one/, upstream: a, auth: {{providers: [opaque], public_url: '{one}'}}}}
  - {{path: /two/, upstream: a, auth: {{providers: [opaque], public_url: '{two}'}}}}
  - {{path: /both/, upstream: a, auth: {{providers: [opaque], audiences: [shared, '{one}']}}}}
",
                server.address, origin.address
            );
            let edge = TestEdge::start_with(&yaml, &[SECRET]).await;
            let statuses = if optional && aud.is_null() { [200; 3] } else { statuses };
            for (path, status) in ["/one/", "/two/", "/both/"].into_iter().zip(statuses) {
                assert_eq!(edge.get_as("opaque", path).await.status, status, "{aud} at {path}, optional: {optional}");
            }
            assert_eq!(server.count(), 1, "{aud}");
        }
    }
}

/// A credential is sent only to the provider that it is for.
#[tokio::test]
async fn only_opaque_tokens_are_introspected() {
    let (server, origin) = (server(active(json!({}))).await, Origin::saying("in").await);
    let edge = TestEdge::start_with(&yaml(&server, &origin, BASIC), &[SECRET]).await;
    assert_eq!(edge.get_as(&Tokens::token("bob", ""), "/both/").await.status, 200);
    assert_eq!((origin.last().headers("x-user"), server.count()), (vec!["bob"], 0));
    let bad = Tokens::token("bob", "") + "x";
    // A repeated token goes to the same provider again.
    for _ in 0..3 {
        assert_eq!(edge.get_as(&bad, "/both/").await.status, 401);
    }
    assert_eq!(server.count(), 0, "a bad token of a known issuer is not sent to another provider");
    for _ in 0..3 {
        assert_eq!(edge.get_as("opaque", "/both/").await.status, 200);
        assert_eq!((origin.last().headers("x-user"), server.count()), (vec!["alice"], 1));
    }
    assert_eq!(edge.get("/both/", &[("X-Api-Key", "opaque")]).await.status, 401);
    assert_eq!(server.count(), 1);
}

/// Row 70: the endpoint refuses the edge's own credentials. The log says so, without the credentials and without the
/// token.
#[tokio::test]
async fn refused_credentials_of_the_edge_are_logged_without_secrets() {
    let server = Origin::answering(|_| b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = yaml(&server, &origin, BASIC);
    let listeners = "listeners: [{address: '127.0.0.1:0'}]\nadmin: {address: '127.0.0.1:0'}\n";
    for (name, text) in [("edge.yaml", (listeners.to_owned() + &yaml).as_str()), SECRET, Tokens::SECRET_FILE] {
        std::fs::write(folder.path().join(name), text).expect("the folder is fresh");
    }
    let mut edge = EdgeProcess::start(&folder.path().join("edge.yaml")).await;
    let headers = [("Authorization", "Bearer canary-token")];
    let reply = exchange(edge.address, request("GET", "/fininfo/", &headers, "")).await;
    assert_eq!(reply.status, 503);
    let mut lines = vec![reply.body];
    while !lines.last().is_some_and(|line| line.contains("auth_unavailable") && line.contains("/fininfo/")) {
        lines.push(edge.line().await.expect("the edge is running"));
    }
    let text = lines.join("\n");
    assert!(text.contains("refuses the edge's own credentials with status 401: check `client_id`"), "{text}");
    for secret in ["hunter2", "canary-token", "my+edge", &STANDARD.encode("my+edge:hunter2+%26+more")] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
