//! The edge with a real identity provider. `scripts/test` runs these tests if Node and the provider are installed or
//! can be installed. Otherwise it reports the tests as skipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::harness::{Idp, Origin, TestEdge, Tokens, eventually, exchange, request};

const RESOURCE: &str = "http://edge.example/fininfo/mcp";
const NEIGHBOUR: &str = "http://edge.example/mcpgw/mcp";

async fn edge(idp: &Idp, origin: &Origin) -> TestEdge {
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{{}}}}}
upstreams: {{fininfo: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /fininfo/, upstream: fininfo, auth: {{providers: [idp], scopes: ['fininfo:read']}}}}]
",
        idp.provider(RESOURCE),
        origin.address
    ))
    .await;
    eventually("the keys are fetched", async || idp.requests("/jwks").await > 0).await;
    edge
}

/// An edge with two routes. Both have a public URL and the same providers, which list no audiences.
async fn bound_edge(idp: &Idp, origin: &Origin, client: &str, ttl: &str) -> TestEdge {
    let (found, opaque) = (idp.discovered(), idp.introspection(client));
    let yaml = format!(
        "auth:
  cache: {{ttl: {ttl}}}
  outbound: {{allow: [127.0.0.0/8]}}
  providers:
    {found}
    {opaque}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /fininfo/, upstream: a, auth: {{providers: [found, opaque], public_url: '{RESOURCE}', scopes: ['fininfo:read']}}}}
  - {{path: /mcpgw/, upstream: a, auth: {{providers: [found, opaque], public_url: '{NEIGHBOUR}'}}}}
",
        origin.address
    );
    TestEdge::start_with(&yaml, &idp.files()).await
}

#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn a_token_for_this_resource_gets_in_and_one_for_another_does_not() {
    let (idp, origin) = (Idp::start().await, Origin::saying("in").await);
    let edge = edge(&idp, &origin).await;
    let token = idp.token(RESOURCE, "fininfo:read fininfo:trade").await;
    assert_eq!(edge.get_as(&token, "/fininfo/mcp").await.status, 200);
    assert_eq!(origin.last().headers("x-user"), ["agent"]);
    assert_eq!(origin.last().headers("x-scopes"), ["fininfo:read fininfo:trade"]);
    let neighbour = idp.token(NEIGHBOUR, "fininfo:read").await;
    let reply = edge.get_as(&neighbour, "/fininfo/mcp").await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").is_some_and(|challenge| challenge.contains("invalid_token")));
    let poor = idp.token(RESOURCE, "fininfo:trade").await;
    assert_eq!(edge.get_as(&poor, "/fininfo/mcp").await.status, 403);
    let opaque = idp.opaque_token(RESOURCE, "fininfo:read").await;
    assert_eq!(edge.get_as(&opaque, "/fininfo/mcp").await.status, 401, "an opaque token is not a JWT");
    assert_eq!(origin.count(), 1);
}

/// Row 20: the provider rotates its keys. Key fetches are 10 s apart, so this test takes 20 s.
#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn a_new_key_is_fetched_once_and_an_unpublished_key_is_refused() {
    let (idp, origin) = (Idp::start().await, Origin::saying("in").await);
    let edge = edge(&idp, &origin).await;
    let token = async || idp.token(RESOURCE, "fininfo:read").await;
    let status = async |token: &str| edge.get_as(token, "/fininfo/mcp").await.status;
    let (first, second, third) = (token().await, token().await, token().await);
    eventually("the keys are loaded", async || status(&first).await == 200).await;
    let fetched = idp.requests("/jwks").await;
    idp.rotate().await;
    eventually("the new key is known", async || status(&token().await).await == 200).await;
    assert_eq!(idp.requests("/jwks").await, fetched + 1, "one fetch, however many tokens came");
    assert_eq!(status(&second).await, 200, "the old key is still published");
    idp.rotate().await;
    idp.retire().await;
    eventually("the third key is known", async || status(&token().await).await == 200).await;
    assert_eq!(idp.requests("/jwks").await, fetched + 2);
    assert_eq!(status(&third).await, 401, "the key of the token is no longer published");
    assert_eq!(status(&second).await, 200, "a validated token stays in the cache for the ttl");
}

/// An MCP client that knows only the URL of a server follows RFC 9728 and RFC 8414 to a token for exactly this
/// resource.
#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn a_client_can_follow_the_challenge_to_a_token() {
    let (idp, origin) = (Idp::start().await, Origin::saying("in").await);
    let edge = edge(&idp, &origin).await;
    let reply = edge.get("/fininfo/mcp", &[]).await;
    assert_eq!(reply.status, 401);
    let challenge = reply.header("www-authenticate").expect("a challenge");
    let parameter = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{name}: {challenge}"));
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let url = parameter("resource_metadata");
    let path = url.strip_prefix("http://edge.example").expect("the URL is on the edge");
    let resource = edge.get(path, &[]).await.json();
    assert_eq!(resource["resource"], RESOURCE);
    let issuer = resource["authorization_servers"][0].as_str().expect("an authorization server").to_owned();
    for well_known in ["oauth-authorization-server", "openid-configuration"] {
        let server = idp.get(&format!("{issuer}/.well-known/{well_known}")).await;
        assert_eq!(server["issuer"], issuer.as_str(), "RFC 8414 section 3.3");
        let endpoint = server["token_endpoint"].as_str().expect("a token endpoint");
        let resource = resource["resource"].as_str().expect("a resource");
        let token = idp.token_from(endpoint, resource, &parameter("scope")).await;
        assert_eq!(edge.get_as(&token, "/fininfo/mcp").await.status, 200, "{well_known}");
    }
}

/// Row 23: the authentication server introspects tokens at the identity provider, as such servers behind nginx do.
#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn a_revoked_opaque_token_is_refused_when_its_cached_lookup_ends() {
    let (idp, origin) = (Arc::new(Idp::start().await), Origin::saying("in").await);
    let asked = Arc::clone(&idp);
    let server = Origin::scripted(move |mut stream, recorder| {
        let idp = Arc::clone(&asked);
        async move {
            while let Some(request) = recorder.read(&mut stream).await {
                let token = request.header("authorization").and_then(|field| field.strip_prefix("Bearer "));
                let known = idp.introspect(token.expect("a token")).await;
                let answer = if known["active"] == true {
                    let (subject, scopes) = (known["client_id"].as_str(), known["scope"].as_str());
                    let (subject, scopes) = (subject.expect("a client"), scopes.expect("scopes"));
                    format!("HTTP/1.1 200 OK\r\nX-User: {subject}\r\nX-Scopes: {scopes}\r\nContent-Length: 0\r\n\r\n")
                } else {
                    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
                };
                stream.write_all(answer.as_bytes()).await.expect("the edge is there");
            }
        }
    })
    .await;
    let edge = TestEdge::start(&format!(
        "auth:
  cache: {{ttl: 2s}}
  providers: {{server: {{lookup: {{url: 'http://{}/validate'}}}}}}
upstreams: {{fininfo: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /fininfo/, upstream: fininfo, auth: {{providers: [server], scopes: ['fininfo:read']}}}}]
",
        server.address, origin.address
    ))
    .await;
    let token = idp.opaque_token(RESOURCE, "fininfo:read").await;
    let status = async || edge.get_as(&token, "/fininfo/mcp").await.status;
    assert_eq!(status().await, 200);
    assert_eq!(origin.last().headers("x-user"), ["agent"]);
    let believed = Instant::now();
    idp.revoke(&token).await;
    assert_eq!(idp.introspect(&token).await["active"], false);
    eventually("the token is refused", async || status().await == 401).await;
    assert!(believed.elapsed() < Duration::from_secs(4), "the ttl is 2 s");
}

/// RFC 8707 and RFC 7662: an opaque token is accepted only for the resource that it was issued for, whether the edge
/// authenticates to the provider with a secret or with a key.
#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn an_opaque_token_is_accepted_only_for_the_resource_that_it_was_issued_for() {
    let (idp, origin) = (Idp::start().await, Origin::saying("in").await);
    for client in ["edge", "edge-key"] {
        let edge = bound_edge(&idp, &origin, client, "5m").await;
        let before = idp.requests("/token/introspection").await;
        let token = idp.opaque_token(RESOURCE, "fininfo:read fininfo:trade").await;
        for _ in 0..3 {
            assert_eq!(edge.get_as(&token, "/fininfo/mcp").await.status, 200, "{client}");
        }
        assert_eq!(origin.last().headers("x-user"), ["agent"]);
        assert_eq!(origin.last().headers("x-scopes"), ["fininfo:read fininfo:trade"]);
        let reply = edge.get_as(&token, "/mcpgw/mcp").await;
        assert_eq!(reply.status, 401, "{client}: {}", reply.body);
        assert_eq!(idp.requests("/token/introspection").await, before + 1, "one introspection serves both routes");
        let neighbour = idp.opaque_token(NEIGHBOUR, "fininfo:read").await;
        assert_eq!(edge.get_as(&neighbour, "/mcpgw/mcp").await.status, 200, "{client}");
        assert_eq!(edge.get_as(&neighbour, "/fininfo/mcp").await.status, 401, "{client}");
        let poor = idp.opaque_token(RESOURCE, "fininfo:trade").await;
        assert_eq!(edge.get_as(&poor, "/fininfo/mcp").await.status, 403, "{client}");
        assert_eq!(edge.get_as("made-up", "/fininfo/mcp").await.status, 401, "{client}");
        let of_nobody = Tokens::token("eve", "fininfo:read");
        assert_eq!(edge.get_as(&of_nobody, "/fininfo/mcp").await.status, 401, "a JWT of another issuer: {client}");
        assert_eq!(idp.requests("/token/introspection").await, before + 5);
    }
}

/// Row 20, with keys that are found through the metadata of the issuer. Key fetches are 10 s apart.
#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn keys_are_found_through_the_metadata_and_follow_a_rotation() {
    let (idp, origin) = (Idp::start().await, Origin::saying("in").await);
    let edge = bound_edge(&idp, &origin, "edge", "5m").await;
    let first = idp.token(RESOURCE, "fininfo:read").await;
    let status = async |token: &str, path: &str| edge.get_as(token, path).await.status;
    eventually("the keys are loaded", async || status(&first, "/fininfo/mcp").await == 200).await;
    assert_eq!(status(&first, "/mcpgw/mcp").await, 401, "the token was issued for another resource");
    let neighbour = idp.token(NEIGHBOUR, "fininfo:read").await;
    assert_eq!(status(&neighbour, "/mcpgw/mcp").await, 200);
    assert_eq!(status(&neighbour, "/fininfo/mcp").await, 401);
    let fetched = idp.requests("/jwks").await;
    idp.rotate().await;
    let rotated = idp.token(RESOURCE, "fininfo:read").await;
    eventually("the new key is known", async || status(&rotated, "/fininfo/mcp").await == 200).await;
    assert_eq!(idp.requests("/jwks").await, fetched + 1);
    let ok = r#"mcp_edge_auth_key_fetches_total{provider="found",result="ok"}"#;
    assert_eq!(edge.metric(ok).await, (fetched + 1) as f64);
    assert_eq!(idp.requests("/token/introspection").await, 0, "a JWT of a known issuer is not introspected");
}

/// Row 23: a token that the provider has revoked is accepted until its cached lookup ends, or until a purge.
#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn a_revoked_token_is_refused_after_the_ttl_and_at_once_after_a_purge() {
    let (idp, origin) = (Idp::start().await, Origin::saying("in").await);
    let (short, long) =
        (bound_edge(&idp, &origin, "edge", "2s").await, bound_edge(&idp, &origin, "edge-key", "1h").await);
    let token = idp.opaque_token(RESOURCE, "fininfo:read").await;
    let other = idp.opaque_token(RESOURCE, "fininfo:read").await;
    let status = async |edge: &TestEdge, token: &str| edge.get_as(token, "/fininfo/mcp").await.status;
    for token in [&token, &other] {
        assert_eq!(status(&long, token).await, 200);
    }
    assert_eq!(status(&short, &token).await, 200);
    let believed = Instant::now();
    idp.revoke(&token).await;
    eventually("the token is refused after the ttl", async || status(&short, &token).await == 401).await;
    assert!(believed.elapsed() < Duration::from_secs(4), "the ttl is 2 s");

    assert_eq!(status(&long, &token).await, 200, "its lookup is cached for an hour");
    let asked = idp.requests("/token/introspection").await;
    let hex: String = digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({"token_sha256": hex}).to_string();
    let purged = exchange(long.admin, request("POST", "/auth/purge", &[("Host", "localhost")], &body)).await;
    assert_eq!((purged.status, &purged.json()["purged"]), (200, &json!(1)));
    assert_eq!(status(&long, &token).await, 401);
    assert_eq!(status(&long, &other).await, 200, "the client's other token is still good");
    assert_eq!(idp.requests("/token/introspection").await, asked + 1, "only the purged token is introspected again");
}
