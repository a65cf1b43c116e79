//! Issuers whose keys are found through their metadata, and the types and claims that their tokens must have.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::harness::{Claims, Origin, Recorded, TestEdge, eventually, ok};

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// A key of an issuer.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("there is randomness");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &SystemRandom::new());
        Self(pair.expect("the key was just generated"))
    }

    fn set(&self) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": part(x), "y": part(y)}]}).to_string()
    }

    fn sign(&self, typ: &str, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "1", "typ": typ})), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).expect("the key can sign");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A server. `answer` gets the server's own origin and the path of a request. It returns the body, or `None` for a 404.
async fn server(answer: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static) -> Origin {
    Origin::answering(move |request: &Recorded| {
        let own = format!("http://{}", request.header("host").unwrap_or_default());
        let path = request.line().split(' ').nth(1).unwrap_or_default();
        answer(&own, path).map_or(NOT_FOUND.to_vec(), |body| ok(&body))
    })
    .await
}

async fn edge(issuer: &str, more: &str, origin: &Origin) -> TestEdge {
    TestEdge::start(&format!(
        "auth: {{providers: {{idp: {{jwt: {{issuer: '{issuer}', audiences: [mcp-edge], algorithms: [ES256]{more}}}}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [idp]}}}}]
",
        origin.address
    ))
    .await
}

fn claims(issuer: &str) -> Value {
    Claims::good("alice", "").with("iss", json!(issuer)).0
}

#[tokio::test]
async fn keys_are_found_through_either_kind_of_metadata_in_the_background() {
    let origin = Origin::saying("in").await;
    for (below, place) in [
        ("", "/.well-known/openid-configuration"),
        ("", "/.well-known/oauth-authorization-server"),
        ("/realms/a", "/realms/a/.well-known/openid-configuration"),
        ("/realms/a", "/.well-known/oauth-authorization-server/realms/a"),
    ] {
        let key = Key::new();
        let set = key.set();
        let idp = server(move |own, path| match path {
            "/keys" => Some(set.clone()),
            _ if path == place => {
                Some(json!({"issuer": format!("{own}{below}"), "jwks_uri": format!("{own}/keys")}).to_string())
            }
            _ => None,
        })
        .await;
        let issuer = format!("http://{}{below}", idp.address);
        let edge = edge(&issuer, "", &origin).await;
        let token = key.sign("at+jwt", &claims(&issuer));
        eventually("the keys are loaded", async || edge.get_as(&token, "/").await.status == 200).await;
        let asked = idp.count();
        assert!(asked <= 3, "{asked} requests for {place}");
        for _ in 0..20 {
            let other = Key::new().sign("at+jwt", &claims(&issuer));
            assert_eq!(edge.get_as(&other, "/").await.status, 401);
        }
        assert_eq!(idp.count(), asked, "requests of clients cause no fetch");
    }
}

/// Metadata that names another issuer and keys at another origin are not used. Without keys, a token is not denied:
/// clients get 503.
#[tokio::test]
async fn metadata_of_another_issuer_or_with_keys_elsewhere_is_not_used() {
    let origin = Origin::saying("in").await;
    let key = Key::new();
    let set = key.set();
    let canary = server(move |_, _| Some(set.clone())).await;
    let elsewhere = format!("http://{}/keys", canary.address);
    for (suffix, keys) in [("/", "/keys".to_owned()), ("", elsewhere), ("", "ftp://x/".to_owned())] {
        let set = key.set();
        let idp = server(move |own, path| match path {
            "/keys" => Some(set.clone()),
            _ => {
                let keys = if keys.starts_with('/') { format!("{own}{keys}") } else { keys.clone() };
                Some(json!({"issuer": format!("{own}{suffix}"), "jwks_uri": keys}).to_string())
            }
        })
        .await;
        let issuer = format!("http://{}", idp.address);
        let edge = edge(&issuer, "", &origin).await;
        eventually("the metadata is read", async || idp.count() > 0).await;
        for _ in 0..5 {
            assert_eq!(edge.get_as(&key.sign("at+jwt", &claims(&issuer)), "/").await.status, 503);
        }
        assert_eq!(idp.count(), 1, "the edge fetches neither other metadata nor keys");
        let invalid = r#"mcp_edge_auth_key_fetches_total{provider="idp",result="invalid"}"#;
        assert_eq!(edge.metric(invalid).await, 1.0, "row 22 requires a metric for an alert");
        let never = "mcp_edge_auth_keys_last_success_timestamp_seconds{provider=\"idp\"} 0\n";
        assert!(edge.admin_get("/metrics").await.body.contains(never));
    }
    assert_eq!((canary.count(), origin.count()), (0, 0));
}

/// Row 30, wrong `typ`: RFC 9068 section 2.1 and draft-ietf-oauth-identity-assertion-authz-grant.
#[tokio::test]
async fn tokens_of_another_type_or_without_required_claims_are_refused() {
    let origin = Origin::saying("in").await;
    let key = Key::new();
    let set = key.set();
    let idp = server(move |own, path| match path {
        "/keys" => Some(set.clone()),
        _ => Some(json!({"issuer": own, "jwks_uri": format!("{own}/keys")}).to_string()),
    })
    .await;
    let issuer = format!("http://{}", idp.address);
    let edge = edge(&issuer, ", typ: [at+jwt], required_claims: {client_id: [web, cli], tenant: acme}", &origin).await;
    let with = |client: &str, tenant: Value| {
        let mut claims = claims(&issuer);
        claims["client_id"] = json!(client);
        claims["tenant"] = tenant;
        claims
    };
    let good = with("web", json!("acme"));
    let token = key.sign("at+jwt", &good);
    eventually("the keys are loaded", async || edge.get_as(&token, "/").await.status == 200).await;
    let allowed = origin.count();
    for typ in ["JWT", "id_token+jwt", "oauth-id-jag+jwt", "application/oauth-id-jag+jwt", ""] {
        assert_eq!(edge.get_as(&key.sign(typ, &good), "/").await.status, 401, "{typ}");
    }
    for claims in [with("evil", json!("acme")), with("web", json!("other")), with("web", json!(null)), claims(&issuer)]
    {
        assert_eq!(edge.get_as(&key.sign("at+jwt", &claims), "/").await.status, 401, "{claims}");
    }
    assert_eq!(origin.count(), allowed);
    assert_eq!(edge.get_as(&key.sign("at+jwt", &with("cli", json!(["acme", "other"]))), "/").await.status, 200);
}
