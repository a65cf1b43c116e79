//! Row 30: forged tokens are refused (RFC 8725), and the edge does not connect to addresses in tokens.

mod inputs;

use std::time::Instant;

use serde_json::json;

use crate::harness::{Claims, Origin, Signer, TestEdge, Tokens, eventually, ok};
use inputs::{claims, hostile, object};

const HEADER: &str = r#"{"alg":"RS256","kid":"rsa"}"#;

/// Serves the keys of `signer` and the metadata of its own issuer, and answers each introspection with `active: false`.
async fn key_server(signer: &Signer) -> Origin {
    let jwks = signer.jwks();
    Origin::answering(move |request| {
        let own = format!("http://{}", request.header("host").unwrap_or_default());
        match request.line().split(' ').nth(1) {
            Some("/jwks") => ok(&jwks),
            Some("/introspect") => ok(r#"{"active": false}"#),
            _ => ok(&json!({"issuer": own, "jwks_uri": format!("{own}/jwks")}).to_string()),
        }
    })
    .await
}

/// The routes. All of them accept tokens.
const ROUTES: &[&str] = &["/", "/both/", "/asked/", "/found/"];

/// Route `/` has only public keys. `/both/` also has the shared secret of another issuer. `/asked/` also has an
/// introspection endpoint, for tokens that are not JWTs of the first issuer. `/found/` finds its keys through the
/// issuer's metadata.
async fn edge(keys: &Origin, origin: &Origin) -> TestEdge {
    TestEdge::start(&format!(
        "auth:
  providers:
    public: {{jwt: {{issuer: '{}', audiences: [mcp-edge], algorithms: [RS256, ES256], jwks: {{url: 'http://{}/jwks'}}}}}}
    {}
    opaque: {{introspection: {{url: 'http://{keys}/introspect', client_id: edge, client_secret: {{file: issuer.secret}},
                              audiences: [mcp-edge]}}}}
    found: {{jwt: {{issuer: 'http://{keys}', audiences: [mcp-edge], algorithms: [RS256, ES256]}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /, upstream: a, auth: {{providers: [public]}}}}
  - {{path: /both/, upstream: a, auth: {{providers: [public, local]}}}}
  - {{path: /asked/, upstream: a, auth: {{providers: [public, opaque]}}}}
  - {{path: /found/, upstream: a, auth: {{providers: [found]}}}}
",
        Signer::ISSUER,
        keys.address,
        Tokens::PROVIDER,
        origin.address,
        keys = keys.address
    ))
    .await
}

#[tokio::test]
async fn forged_tokens_are_401_and_no_address_in_them_is_connected_to() {
    let (signer, origin, canary) = (Signer::new(), Origin::saying("in").await, Origin::saying("{}").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    let good = signer.token("alice");
    eventually("the keys are loaded", async || edge.get_as(&good, "/").await.status == 200).await;
    let fetches = || keys.requests().iter().filter(|request| request.line().starts_with("GET /jwks ")).count();
    let found = signer.rsa(HEADER, claims(&[("iss", &format!("\"http://{}\"", keys.address))]));
    eventually("the keys of the other issuer are loaded", async || edge.get_as(&found, "/found/").await.status == 200)
        .await;
    let (let_in, fetched, started) = (origin.count(), fetches(), Instant::now());
    let table = hostile(&signer, &canary.address.to_string());
    assert!(table.len() >= 40);
    let mut wrong = Vec::new();
    for (name, token) in &table {
        for path in ROUTES {
            let reply = edge.get_as(token, path).await;
            let challenged = reply.header("www-authenticate").is_some_and(|text| text.contains("invalid_token"));
            if reply.status != 401 || !challenged {
                wrong.push(format!("{name} on {path}: {}", reply.status));
            }
        }
    }
    assert!(wrong.is_empty(), "of {}:\n{}", table.len(), wrong.join("\n"));
    assert_eq!(origin.count(), let_in, "no request reached the origin");
    assert_eq!(canary.connections(), 0);
    let most = fetched + 2 * (1 + started.elapsed().as_secs() as usize / 10);
    assert!(fetches() <= most, "unknown keys cause at most one fetch for each provider in 10 s");
    // The content of a token does not change the introspection request, except for the token itself.
    let asked: Vec<_> = keys.requests().into_iter().filter(|request| request.line().starts_with("POST ")).collect();
    assert!(asked.len() >= 10, "tokens without a known issuer are introspected: {}", asked.len());
    for question in asked {
        let form: Vec<_> = form_urlencoded::parse(&question.body).into_owned().collect();
        let [(token, sent), (hint, _)] = &form[..] else { panic!("{form:?}") };
        assert_eq!(
            (question.line(), token.as_str(), hint.as_str()),
            ("POST /introspect HTTP/1.1", "token", "token_type_hint")
        );
        assert!(table.iter().any(|(_, token)| token == sent), "{sent}");
    }
    assert_eq!(edge.get_as(&signer.token("bob"), "/").await.status, 200);
}

/// These tokens are unusual but valid. Unknown header fields and claims must be ignored (RFC 7515 section 4, RFC 7519
/// section 4).
#[tokio::test]
async fn unusual_but_valid_tokens_are_accepted_and_no_address_in_them_is_connected_to() {
    let (signer, origin, canary) = (Signer::new(), Origin::saying("in").await, Origin::saying("{}").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    eventually("the keys are loaded", async || edge.get_as(&signer.token("alice"), "/").await.status == 200).await;
    let now = mcp_edge::types::unix_now();
    let url = format!("\"http://{}/\"", canary.address);
    let header = |members: &[(&str, &str)]| {
        signer.rsa(&object(&[&[("alg", "\"RS256\""), ("kid", "\"rsa\"")], members].concat()), claims(&[]))
    };
    for (name, token) in [
        ("a fraction", signer.rsa(HEADER, claims(&[("exp", &format!("{}.5", now + 600))]))),
        ("an exponent", signer.rsa(HEADER, claims(&[("exp", "9.9e9")]))),
        ("several audiences", signer.rsa(HEADER, claims(&[("aud", "[\"other\",\"mcp-edge\"]")]))),
        ("no kid, and one key that fits", signer.rsa(r#"{"alg":"RS256"}"#, claims(&[]))),
        ("the elliptic key", signer.ec(r#"{"alg":"ES256","kid":"ec"}"#, claims(&[]))),
        ("addresses", header(&[("jku", &url), ("x5u", &url)])),
        ("an embedded key", header(&[("jwk", &Signer::new().ec_jwk().to_string())])),
        ("unknown fields", header(&[("x", "{\"a\":[1]}")])),
        ("a full media type", header(&[("typ", "\"application/at+jwt\"")])),
        ("another case of typ", header(&[("typ", "\"AT+JWT\"")])),
    ] {
        assert_eq!(edge.get_as(&token, "/").await.status, 200, "{name}");
    }
    assert_eq!(canary.connections(), 0);
}

/// A route has two providers. A token that is signed with the key of one issuer and names the other issuer is refused.
#[tokio::test]
async fn a_key_of_one_issuer_cannot_sign_for_another_issuer() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    eventually("the keys are loaded", async || edge.get_as(&signer.token("alice"), "/both/").await.status == 200).await;
    assert_eq!(edge.get_as(&Tokens::token("alice", ""), "/both/").await.status, 200);
    let borrowed = Tokens::sign(&Claims::good("eve", "").with("iss", json!(Signer::ISSUER)).0);
    assert_eq!(edge.get_as(&borrowed, "/both/").await.status, 401);
    let lent = signer.rsa(HEADER, claims(&[("iss", &format!("\"{}\"", Tokens::ISSUER))]));
    assert_eq!(edge.get_as(&lent, "/both/").await.status, 401);
    assert_eq!(
        edge.get_as(&Tokens::token("alice", ""), "/").await.status,
        401,
        "that route does not have the provider"
    );
}

/// These requests break rules or limits of HTTP, so they are refused before a token is read.
#[tokio::test]
async fn requests_that_http_forbids_are_refused_before_authentication() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    let token = signer.token("alice");
    for (value, status) in [
        // The header section is larger than its limit.
        (format!("Bearer {}", "A".repeat(64 << 10)), 431),
        // Bytes that are not allowed in a field value (RFC 9110 section 5.5).
        (format!("Bearer {token}\0"), 400),
        (format!("Bearer {}\0{}", &token[..50], &token[50..]), 400),
        (format!("Bearer {}\r{}", &token[..50], &token[50..]), 400),
        (format!("Bearer {}\r\n {}", &token[..50], &token[50..]), 400),
    ] {
        let reply = edge.get("/", &[("Authorization", &value)]).await;
        assert_eq!(reply.status, status, "{:?}", &value[..value.len().min(80)]);
    }
    assert_eq!(origin.count(), 0);
}
