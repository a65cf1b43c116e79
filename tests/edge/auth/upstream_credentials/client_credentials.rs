//! Tokens of the edge itself (RFC 6749 section 4.4).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::*;
use crate::harness::{Idp, eventually};

#[tokio::test]
async fn all_callers_share_the_edges_token() {
    let (issuer, origin) = (issuer(r#", "expires_in": 600"#).await, upstream().await);
    let credential = grant("client_credentials", &issuer, ", resource: 'urn:example:a', scopes: [b, a]");
    let yaml = yaml(&origin, &credential)
        + &format!("  - {{path: /open/, upstream: a, auth: none, credential: {{{credential}}}}}\n");
    let edge = TestEdge::start_with(&yaml, &[SECRET]).await;
    for (index, path) in ["/mcp/", "/http/", "/open/"].into_iter().enumerate() {
        for subject in ["alice", "bob"] {
            assert_eq!(send(&edge, path, &Tokens::token(subject, "")).await.status, 200);
            assert_eq!(origin.last().headers("authorization"), [format!("Bearer issued-{}", index + 1)], "{path}");
            let user = (path != "/open/").then_some(subject);
            assert_eq!(origin.last().header("x-user"), user, "{path}");
        }
        assert_eq!(issuer.count(), index + 1, "{path}");
        let asked = issuer.last();
        let basic = format!("Basic {}", STANDARD.encode("my+edge:hunter2+%26+more"));
        assert_eq!(asked.headers("authorization"), [basic.as_str()]);
        let expected = [("grant_type", "client_credentials"), ("resource", "urn:example:a"), ("scope", "a b")];
        assert_eq!(form(&asked), pairs(&expected), "{path}: the token request contains nothing of a caller");
    }
}

/// A caller cannot be the reason that the edge gets no token of its own. So callers get 503.
#[tokio::test]
async fn a_token_endpoint_that_refuses_the_edge_is_an_outage() {
    let origin = upstream().await;
    for (status, code) in [
        ("400 Bad Request", "invalid_scope"),
        ("400 Bad Request", "invalid_grant"),
        ("401 Unauthorized", "invalid_client"),
        ("403 Forbidden", "access_denied"),
    ] {
        let issuer = Origin::answering(move |_| refused(status, code)).await;
        let yaml = yaml(&origin, &grant("client_credentials", &issuer, ""));
        let edge = TestEdge::start_with(&yaml, &[SECRET]).await;
        for path in WAYS {
            let reply = send(&edge, path, &Tokens::token("alice", "")).await;
            assert_eq!(reply.status, 503, "{code}: {}", reply.body);
        }
    }
    assert_eq!(origin.connections(), 0);
}

/// Health checks belong to the upstream, which several routes may share. So they do not use the credential of a route.
#[tokio::test]
async fn probes_request_no_token() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let yaml = yaml(&origin, &grant("client_credentials", &issuer, ""))
        .replace("{connect: 20s}}}", "{connect: 20s}, health: {http: {path: /health}, interval: 50ms}}}");
    let edge = TestEdge::start_with(&yaml, &[SECRET]).await;
    eventually("the upstream is probed", async || origin.count() >= 2).await;
    assert_eq!(issuer.connections(), 0);
    assert!(origin.requests().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(send(&edge, "/http/", &Tokens::token("alice", "")).await.status, 200);
    assert_eq!(issuer.count(), 1);
}

#[tokio::test]
async fn the_edge_authenticates_with_a_signed_assertion() {
    let (issuer, origin) = (issuer("").await, upstream().await);
    let key = include_str!("../../../fixtures/config/files/one.key");
    let address = issuer.address;
    let credential = |key: &str| {
        format!(
            "client_credentials: {{token_url: 'http://{address}/token', client_id: edge, private_key: {{file: edge.key{key}}}}}"
        )
    };
    for (more, audience, id) in [
        ("", format!("http://{address}/token"), None),
        (", id: k1, audience: 'https://idp.example'", "https://idp.example".to_owned(), Some("k1")),
    ] {
        let edge = TestEdge::start_with(&yaml(&origin, &credential(more)), &[("edge.key", key)]).await;
        assert_eq!(send(&edge, "/http/", &Tokens::token("alice", "")).await.status, 200);
        let asked = issuer.last();
        assert_eq!(asked.header("authorization"), None);
        let form = form(&asked);
        assert_eq!((form["grant_type"].as_str(), form["client_id"].as_str()), ("client_credentials", "edge"));
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let parts: Vec<Value> = form["client_assertion"]
            .split('.')
            .take(2)
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON"))
            .collect();
        assert_eq!((parts[0]["kid"].as_str(), parts[1]["aud"].as_str()), (id, Some(audience.as_str())));
        assert_eq!((parts[1]["iss"].as_str(), parts[1]["sub"].as_str()), (Some("edge"), Some("edge")));
    }
}

#[tokio::test]
#[ignore = "needs oidc-provider: `make test`"]
async fn a_real_provider_gives_the_edge_a_token_for_the_upstream() {
    const RESOURCE: &str = "https://fininfo.internal/mcp?opaque";
    let (idp, origin) = (Idp::start().await, upstream().await);
    let endpoint = format!("token_url: '{}/token', resource: '{RESOURCE}', scopes: ['fininfo:read']", idp.issuer);
    let key = format!("client_id: edge-key, private_key: {{file: edge.key, id: edge, audience: '{}'}}", idp.issuer);
    for (client, proof) in [("edge", "client_id: edge, client_secret: {file: idp.secret}"), ("edge-key", key.as_str())]
    {
        let yaml = yaml(&origin, &format!("client_credentials: {{{endpoint}, {proof}}}"));
        let files = [("idp.secret", idp.secret.as_str()), ("edge.key", idp.edge_key.as_str())];
        let edge = TestEdge::start_with(&yaml, &files).await;
        let asked = idp.requests("/token").await;
        for _ in 0..3 {
            let reply = send(&edge, "/mcp/", &Tokens::token("alice", "")).await;
            assert_eq!(reply.status, 200, "{client}: {}", reply.body);
        }
        assert_eq!(idp.requests("/token").await, asked + 1);
        let seen = origin.last();
        let token = seen.header("authorization").and_then(|field| field.strip_prefix("Bearer ")).expect("a token");
        let known = idp.introspect(token).await;
        assert_eq!((&known["active"], &known["client_id"]), (&true.into(), &client.into()));
        assert_eq!((&known["aud"], &known["scope"]), (&"https://fininfo.internal/mcp".into(), &"fininfo:read".into()));
    }
}
