//! Assertions of the edge about callers, verified as an upstream verifies them.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::harness::Claims;

const AUDIENCE: &str = "https://fininfo.internal";

const CREDENTIAL: &str = "assertion: {audience: 'https://fininfo.internal'}";

/// Private keys as PEM files, one key in each file.
fn keys() -> [(&'static str, String); 3] {
    let random = SystemRandom::new();
    let pem =
        |der: &[u8]| format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    let ecdsa = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("randomness");
    let edwards = Ed25519KeyPair::generate_pkcs8(&random).expect("randomness");
    let rsa = include_str!("../../../fixtures/keys/rsa.pem").to_owned();
    [("ec.pem", pem(ecdsa.as_ref())), ("ed.pem", pem(edwards.as_ref())), ("rsa.pem", rsa)]
}

fn with_keys(origin: &Origin, credential: &str, keys: &str) -> String {
    format!("assertions: {{issuer: 'https://edge.example', keys: [{keys}]}}\n{}", yaml(origin, credential))
}

/// The key set that the admin listener publishes.
async fn key_set(edge: &TestEdge) -> JwkSet {
    let reply = edge.admin_get("/jwks.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/jwk-set+json")));
    for key in reply.json()["keys"].as_array().expect("a list") {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{key}");
        }
    }
    serde_json::from_value(reply.json()).expect("a key set")
}

/// The JWT in the last request to the upstream.
fn shown(origin: &Origin) -> String {
    let seen = origin.last();
    assert_eq!(seen.headers("authorization").len(), 1);
    seen.header("authorization").and_then(|field| field.strip_prefix("Bearer ")).expect("a token").to_owned()
}

/// The claims of `token`, if it is for this upstream and a key of `set` verifies it.
fn verified(token: &str, set: &JwkSet) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).expect("a JWT");
    assert_eq!(header.typ.as_deref(), Some("JWT"));
    let key = set.find(header.kid.as_deref().expect("a kid"))?;
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&["https://edge.example"]);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    validation.validate_nbf = true;
    let key = DecodingKey::from_jwk(key).expect("a key that can be used");
    Some(jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?.claims)
}

#[tokio::test]
async fn an_upstream_can_verify_who_called() {
    let origin = upstream().await;
    let files = keys();
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    for (file, algorithm) in [("ec.pem", Algorithm::ES256), ("ed.pem", Algorithm::EdDSA), ("rsa.pem", Algorithm::RS256)]
    {
        let yaml = with_keys(&origin, CREDENTIAL, &format!("{{file: {file}}}"));
        let edge = TestEdge::start_with(&yaml, &files).await;
        let set = key_set(&edge).await;
        assert_eq!(set.keys.len(), 1);
        let mut ids = HashSet::new();
        for path in WAYS {
            for subject in ["alice", "bob"] {
                let before = mcp_edge::types::unix_now();
                let token = Tokens::token(subject, "fininfo:read base");
                assert_eq!(send(&edge, path, &token).await.status, 200);
                let assertion = shown(&origin);
                assert_ne!(assertion, token);
                assert_eq!(jsonwebtoken::decode_header(&assertion).expect("a JWT").alg, algorithm);
                let claims = verified(&assertion, &set).expect("the key of the assertion is published");
                let issued = claims["iat"].as_u64().expect("a number");
                assert!((before..=mcp_edge::types::unix_now()).contains(&issued), "{claims}");
                let id = claims["jti"].as_str().expect("text");
                assert!(id.len() >= 22 && ids.insert(id.to_owned()), "each request has its own assertion");
                let expected = json!({
                    "iss": "https://edge.example", "sub": subject, "provider": "local", "aud": AUDIENCE, "scope": "base fininfo:read",
                    "iat": issued, "nbf": issued, "exp": issued + 60, "jti": id,
                });
                assert_eq!(claims, expected);
            }
        }
        let assertion = shown(&origin);
        let parts: Vec<&str> = assertion.split('.').collect();
        let claims =
            json!({"iss": "https://edge.example", "sub": "mallory", "aud": AUDIENCE, "nbf": 1, "exp": 1u64 << 40});
        let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
        assert!(verified(&assertion, &set).is_some() && verified(&forged, &set).is_none());
    }
}

#[tokio::test]
async fn an_assertion_ends_with_the_callers_credential_and_can_be_sent_in_another_field() {
    let origin = upstream().await;
    let credential = "assertion: {audience: 'https://fininfo.internal', lifetime: 5m}, header: X-Edge-Assertion";
    let files = keys();
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let edge = TestEdge::start_with(&with_keys(&origin, credential, "{file: ec.pem}"), &files).await;
    let set = key_set(&edge).await;
    let now = mcp_edge::types::unix_now();
    for (end, longest) in [(now + 100, now + 100), (now + 900, now + 310)] {
        let token = Tokens::sign(&Claims::good("alice", "").with("exp", end.into()).0);
        assert_eq!(send(&edge, "/mcp/", &token).await.status, 200);
        let seen = origin.last();
        assert_eq!((seen.header("authorization"), seen.headers("x-edge-assertion").len()), (None, 1));
        let claims = verified(seen.header("x-edge-assertion").expect("the field is sent"), &set)
            .expect("the key of the assertion is published");
        let exp = claims["exp"].as_u64().expect("a number");
        assert!(exp <= longest && exp > now + 60, "{claims}");
        assert_eq!(claims["scope"], "");
    }
}

/// First, a new key is published. Then the edge signs with it. The old key stays published until its assertions have
/// expired.
#[tokio::test]
async fn keys_rotate_with_reloads() {
    let origin = upstream().await;
    let files = keys();
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let yaml = |keys: &str| with_keys(&origin, CREDENTIAL, keys);
    let edge = TestEdge::start_with(&yaml("{file: ec.pem}"), &files).await;
    let token = Tokens::token("alice", "");
    let assertion = async || {
        assert_eq!(send(&edge, "/http/", &token).await.status, 200);
        shown(&origin)
    };
    let id = |assertion: &str| jsonwebtoken::decode_header(assertion).expect("a JWT").kid.expect("a kid");
    let (first, only) = (assertion().await, key_set(&edge).await);
    edge.reload(&yaml("{file: ec.pem}, {file: ed.pem}")).await.expect("the configuration is good");
    let (second, both) = (assertion().await, key_set(&edge).await);
    assert_eq!((id(&first), both.keys.len()), (id(&second), 2), "the new key is published and does not sign yet");
    edge.reload(&yaml("{file: ed.pem}, {file: ec.pem}")).await.expect("the configuration is good");
    let third = assertion().await;
    assert_ne!(id(&second), id(&third));
    assert!(verified(&third, &both).is_some(), "the keys that were published before verify it");
    assert!(verified(&third, &only).is_none());
    assert!(verified(&first, &key_set(&edge).await).is_some(), "the old key is still published");
    edge.reload(&yaml("{file: ed.pem}")).await.expect("the configuration is good");
    assert!(verified(&first, &key_set(&edge).await).is_none());
    // A reload with a broken key file fails, and the edge keeps its configuration.
    edge.write("ed.pem", "broken");
    assert!(edge.reload(&yaml("{file: ed.pem}")).await.is_err());
    assert!(verified(&assertion().await, &key_set(&edge).await).is_some());
}

#[tokio::test]
async fn an_edge_without_keys_publishes_none_and_writes_to_the_set_are_refused() {
    let origin = upstream().await;
    let yaml = yaml(&origin, "secret: {file: edge.secret}");
    let edge = TestEdge::start_with(&yaml, &[SECRET]).await;
    assert!(key_set(&edge).await.keys.is_empty());
    let reply =
        exchange(edge.admin, crate::harness::request("POST", "/jwks.json", &[("Host", "localhost")], "{}")).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
}
