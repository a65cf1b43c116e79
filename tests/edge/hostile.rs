//! Row 30: tokens that should open nothing (RFC 8725), and addresses in them that should not be visited.

use std::time::Instant;

use ring::hmac;
use ring::signature::{RSA_PKCS1_SHA384, RSA_PSS_SHA256};
use serde_json::json;

use crate::harness::signer::{encode, message};
use crate::harness::{Claims, Origin, Signer, TestEdge, Tokens, eventually, ok};

const HEADER: &str = r#"{"alg":"RS256","kid":"rsa"}"#;

/// Serves the keys of `signer`, metadata of an issuer of its own, and answers to introspection: that no token is active.
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

/// The routes that take tokens.
const ROUTES: &[&str] = &["/", "/both/", "/asked/", "/found/"];

/// Route `/` with public keys only, `/both/` with a shared secret of another issuer beside them, `/asked/` with a server beside
/// them that is asked about what is no JWT of theirs, `/found/` with keys that the issuer's metadata leads to.
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

/// Good claims as text, with some replaced by other JSON; those replaced by nothing are taken out.
fn claims(changes: &[(&str, &str)]) -> String {
    let end = mcp_edge::types::unix_now() + 600;
    let mut claims = vec![
        ("iss", format!("\"{}\"", Signer::ISSUER)),
        ("aud", "\"mcp-edge\"".to_owned()),
        ("sub", "\"alice\"".to_owned()),
        ("exp", end.to_string()),
    ];
    for (name, json) in changes {
        claims.retain(|(known, _)| known != name);
        if !json.is_empty() {
            claims.push((name, (*json).to_owned()));
        }
    }
    object(&claims.iter().map(|(name, json)| (*name, json.as_str())).collect::<Vec<_>>())
}

fn object(members: &[(&str, &str)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Names, and tokens that are signed with the right key wherever that is possible, and wrong in one thing.
fn hostile(signer: &Signer, canary: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_owned(), token));
    let good = claims(&[]);
    let header = |members: &[(&str, &str)]| signer.rsa(&object(members), &good);

    // Algorithms.
    for alg in ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "RS256\\u0000", "HS256", "RS384", "PS256"] {
        let text = object(&[("alg", &format!("\"{alg}\"")), ("kid", "\"rsa\"")]);
        add(&format!("alg `{alg}`, signed with RS256"), signer.rsa(&text, &good));
        add(&format!("alg `{alg}`, no signature"), format!("{}.", message(&text, good.as_bytes())));
    }
    for alg in ["null", "[\"RS256\"]", "{}", "256"] {
        add(&format!("alg {alg}"), header(&[("alg", alg), ("kid", "\"rsa\"")]));
    }
    add("no alg", header(&[("kid", "\"rsa\"")]));
    add("RS384 with the right key", signer.rsa_with(&RSA_PKCS1_SHA384, r#"{"alg":"RS384","kid":"rsa"}"#, &good));
    add("PS256 with the right key", signer.rsa_with(&RSA_PSS_SHA256, r#"{"alg":"PS256","kid":"rsa"}"#, &good));
    let pem = include_str!("../fixtures/keys/rsa.pem");
    let (rsa_jwk, ec_jwk) = (signer.rsa_jwk(), signer.ec_jwk());
    let modulus = rsa_jwk["n"].as_str().expect("a modulus").as_bytes().to_vec();
    for (what, secret) in [
        ("the public key", signer.rsa_public_key().to_vec()),
        ("the key as JSON", rsa_jwk.to_string().into_bytes()),
        ("the modulus", modulus),
        ("the key set", signer.jwks().into_bytes()),
        ("nothing", Vec::new()),
        ("a file", pem.as_bytes().to_vec()),
    ] {
        let message = message(r#"{"alg":"HS256","kid":"rsa"}"#, good.as_bytes());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        add(&format!("HS256 with {what} as the secret"), format!("{message}.{}", encode(tag.as_ref())));
    }
    add(
        "ES256 with zeros",
        format!("{}.{}", message(r#"{"alg":"ES256","kid":"ec"}"#, good.as_bytes()), encode(&[0; 64])),
    );
    add("RS256 with zeros", format!("{}.{}", message(HEADER, good.as_bytes()), encode(&[0; 256])));
    add("the RSA key for ES256", signer.ec(r#"{"alg":"ES256","kid":"rsa"}"#, &good));
    add("the elliptic key for RS256", signer.rsa(r#"{"alg":"RS256","kid":"ec"}"#, &good));

    // Keys that the token brings along or points to.
    let evil = Signer::new();
    let embedded = object(&[("alg", "\"ES256\""), ("jwk", &evil.ec_jwk().to_string())]);
    add("an embedded key", evil.ec(&embedded, &good));
    let known = object(&[("alg", "\"ES256\""), ("kid", "\"ec\""), ("jwk", &evil.ec_jwk().to_string())]);
    add("an embedded key with a known kid", evil.ec(&known, &good));
    add(
        "the embedded right key, signed with another",
        evil.ec(&object(&[("alg", "\"ES256\""), ("jwk", &ec_jwk.to_string())]), &good),
    );
    for pointer in ["jku", "x5u", "kid", "iss"] {
        let url = format!("\"http://{canary}/{pointer}\"");
        let members = [("alg", "\"ES256\""), (pointer, url.as_str())];
        let text = if pointer == "iss" { claims(&[("iss", &url)]) } else { good.clone() };
        add(&format!("{pointer} is an address"), evil.ec(&object(&members), &text));
    }
    add("x5c", evil.ec(r#"{"alg":"ES256","x5c":["AAAA"]}"#, &good));
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "' OR '1'='1",
        "rsa\\u0000",
        "RSA",
        " rsa",
        "",
        "| id",
        "${jndi:ldap://x}",
    ] {
        add(&format!("kid `{kid}`"), header(&[("alg", "\"RS256\""), ("kid", &format!("\"{kid}\""))]));
    }
    add("kid of 10 KiB", header(&[("alg", "\"RS256\""), ("kid", &format!("\"{}\"", "k".repeat(10 << 10)))]));
    add("kid is a number", header(&[("alg", "\"RS256\""), ("kid", "1")]));

    // Other header fields.
    for crit in ["[\"exp\"]", "[\"b64\"]", "[]", "\"exp\"", "[\"alg\"]"] {
        add(
            &format!("crit {crit}"),
            header(&[("alg", "\"RS256\""), ("kid", "\"rsa\""), ("crit", crit), ("b64", "false")]),
        );
    }
    for typ in
        ["oauth-id-jag+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "token-introspection+jwt", "JWE", "at+jwt2", ""]
    {
        add(
            &format!("typ `{typ}`"),
            header(&[("alg", "\"RS256\""), ("kid", "\"rsa\""), ("typ", &format!("\"{typ}\""))]),
        );
    }
    add("typ is a number", header(&[("alg", "\"RS256\""), ("kid", "\"rsa\""), ("typ", "1")]));
    for (name, second) in
        [("alg", "\"RS256\""), ("kid", "\"rsa\""), ("typ", "\"JWT\""), ("x", "1"), ("\\u0061lg", "\"RS256\"")]
    {
        let members = [("alg", "\"RS256\""), ("kid", "\"rsa\""), ("typ", "\"JWT\""), ("x", "1"), (name, second)];
        add(&format!("`{name}` twice in the header"), header(&members));
    }
    for text in ["[]", "\"\"", "null", "1", "", "{", "{} {}"] {
        add(&format!("the header is `{text}`"), signer.rsa(text, &good));
    }

    // Claims.
    let wrong: &[(&str, &[&str])] = &[
        ("exp", &["", "null", "true", "\"9999999999\"", "[9999999999]", "{}", "0", "-1", "1", "NaN", "Infinity"]),
        (
            "exp",
            &[
                "9007199254740992",
                "9007199254740992.0",
                "18446744073709551615",
                "18446744073709551616",
                "1e18",
                "1e300",
                "1e400",
            ],
        ),
        ("nbf", &["null", "\"0\"", "[0]", "true", "-1", "9999999999", "9007199254740992", "1e400"]),
        (
            "aud",
            &[
                "",
                "null",
                "true",
                "1",
                "{}",
                "{\"mcp-edge\":1}",
                "[]",
                "[\"other\"]",
                "[\"mcp-edge\",1]",
                "[[\"mcp-edge\"]]",
            ],
        ),
        (
            "aud",
            &[
                "\"\"",
                "\"other\"",
                "\"MCP-EDGE\"",
                "\"mcp-edge \"",
                "\"mcp-edge\\u0000\"",
                "\"mcp-\\u0435dge\"",
                "\"mcp-edge other\"",
            ],
        ),
        (
            "iss",
            &[
                "",
                "null",
                "1",
                "{}",
                "[]",
                "[\"https://public.example\"]",
                "[\"https://evil\",\"https://public.example\"]",
            ],
        ),
        (
            "iss",
            &[
                "\"\"",
                "\"https://evil\"",
                "\"https://public.example/\"",
                "\"HTTPS://public.example\"",
                "\"https://public.example\\u0000\"",
                "\"https://publi\\u0441.example\"",
            ],
        ),
        (
            "sub",
            &["", "null", "1", "[\"alice\"]", "\"\"", "\"alice\\u0000\"", "\"alice\\r\\nX-User: root\"", "\"\\ud800\""],
        ),
    ];
    for (claim, values) in wrong {
        for json in *values {
            add(&format!("{claim}: {json}"), signer.rsa(HEADER, claims(&[(claim, json)])));
        }
    }
    let past = (mcp_edge::types::unix_now() - 60).to_string();
    add("exp in the past", signer.rsa(HEADER, claims(&[("exp", &past)])));
    add("exp a fraction in the past", signer.rsa(HEADER, claims(&[("exp", &format!("{past}.5"))])));
    let inside = good.trim_matches(['{', '}']);
    for twice in [
        "\"exp\":1",
        "\"aud\":\"other\"",
        "\"iss\":\"https://evil\"",
        "\"sub\":\"eve\"",
        "\"s\\u0075b\":\"eve\"",
        "\"scope\":\"a\",\"scope\":\"b\"",
        "\"groups\":[],\"groups\":[\"root\"]",
        "\"x\":1,\"x\":1",
    ] {
        add(&format!("{twice} first, beside the good claims"), signer.rsa(HEADER, format!("{{{twice},{inside}}}")));
        add(&format!("{twice} last, beside the good claims"), signer.rsa(HEADER, format!("{{{inside},{twice}}}")));
    }
    let nested = format!("{{{inside},\"x\":{}{}}}", "[".repeat(3_000), "]".repeat(3_000));
    for (name, text) in [
        ("a list", format!("[{good}]").into_bytes()),
        ("a string", encode(good.as_bytes()).into_bytes()),
        ("null", b"null".to_vec()),
        ("nothing", Vec::new()),
        ("with a BOM", format!("\u{feff}{good}").into_bytes()),
        ("with more behind", format!("{good}{good}").into_bytes()),
        (
            "no UTF-8",
            good.replace("alice", "al\u{1}ce").replace('\u{1}', "").into_bytes().into_iter().chain([0xff]).collect(),
        ),
        ("with a NUL behind", format!("{good}\0").into_bytes()),
        ("nested deep", nested.into_bytes()),
        ("another token", signer.token("alice").into_bytes()),
    ] {
        add(&format!("the claims are {name}"), signer.rsa(HEADER, text));
    }

    // Form.
    let token = signer.rsa(HEADER, &good);
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    for (name, token) in [
        ("one part", head.to_owned()),
        ("two parts", format!("{head}.{body}")),
        ("no signature", format!("{head}.{body}.")),
        ("four parts", format!("{token}.{signature}")),
        ("five parts", format!("{head}.{body}.{signature}.{body}.{signature}")),
        ("six parts", format!("{token}.{token}")),
        ("a dot before", format!(".{token}")),
        ("a dot behind", format!("{token}.")),
        ("an empty header", format!(".{body}.{signature}")),
        ("empty claims", format!("{head}..{signature}")),
        ("dots only", "..".to_owned()),
        (
            "an encrypted token",
            format!(
                "{}.{}.{}.{}.{}",
                encode(br#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#),
                encode(&[1; 256]),
                encode(&[1; 12]),
                body,
                encode(&[1; 16])
            ),
        ),
        ("padding", format!("{token}=")),
        ("padding in the middle", format!("{head}=.{body}.{signature}")),
        ("the other alphabet of base64", format!("{head}.{body}.+{}", &signature[1..])),
        ("another last bit", format!("{head}.{body}.{}", flip_last(signature))),
        ("another first character", format!("{head}.{body}.{}", flip_first(signature))),
        ("a short signature", format!("{head}.{body}.{}", &signature[4..])),
        ("a long signature", format!("{token}AAAA")),
        ("swapped parts", format!("{body}.{head}.{signature}")),
        ("too long", format!("{head}.{}.{signature}", "A".repeat(48 << 10))),
        ("a space inside", format!("{head}. {body}.{signature}")),
        ("a tab before", format!("\t{token}")),
        ("a comma", format!("{token},{token}")),
        ("quotes", format!("\"{token}\"")),
        ("percent-encoded", token.replace('.', "%2E")),
        ("full-width dots", token.replace('.', "\u{ff0e}")),
        ("an invisible character", format!("{head}.\u{200b}{body}.{signature}")),
        ("JSON serialization", json!({"protected": head, "payload": body, "signature": signature}).to_string()),
    ] {
        add(name, token);
    }
    all
}

/// The last character of 256 bytes in base64 carries four bits that mean nothing: only zeros are canonical.
fn flip_last(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = text.bytes().last().expect("it is not empty");
    let index = ALPHABET.iter().position(|&letter| letter == last).expect("base64");
    format!("{}{}", &text[..text.len() - 1], char::from(ALPHABET[index ^ 1]))
}

fn flip_first(text: &str) -> String {
    let other = if text.starts_with('A') { 'B' } else { 'A' };
    format!("{other}{}", &text[1..])
}

#[tokio::test]
async fn hostile_tokens_are_401_and_no_address_in_them_is_visited() {
    let (signer, origin, canary) = (Signer::new(), Origin::saying("in").await, Origin::saying("{}").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    let good = signer.token("alice");
    eventually("the keys are there", async || edge.get_as(&good, "/").await.status == 200).await;
    let fetches = || keys.requests().iter().filter(|request| request.line().starts_with("GET /jwks ")).count();
    let found = signer.rsa(HEADER, claims(&[("iss", &format!("\"http://{}\"", keys.address))]));
    eventually("the other keys are there", async || edge.get_as(&found, "/found/").await.status == 200).await;
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
    assert_eq!(origin.count(), let_in, "nothing went on");
    assert_eq!(canary.connections(), 0);
    let most = fetched + 2 * (1 + started.elapsed().as_secs() as usize / 10);
    assert!(fetches() <= most, "unknown keys cause one fetch of each provider in 10 s at most");
    // What a token says changes nothing in the question about it.
    let asked: Vec<_> = keys.requests().into_iter().filter(|request| request.line().starts_with("POST ")).collect();
    assert!(asked.len() >= 10, "those that name no known issuer are asked about: {}", asked.len());
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

/// What only looks hostile: what is not understood must be ignored (RFC 7515 section 4, RFC 7519 section 4).
#[tokio::test]
async fn odd_tokens_that_are_good_get_in_and_no_address_in_them_is_visited() {
    let (signer, origin, canary) = (Signer::new(), Origin::saying("in").await, Origin::saying("{}").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    eventually("the keys are there", async || edge.get_as(&signer.token("alice"), "/").await.status == 200).await;
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

/// A token that one provider of a route would take for its own issuer is refused when it claims the other's.
#[tokio::test]
async fn a_secret_of_one_issuer_signs_nothing_for_another() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    eventually("the keys are there", async || edge.get_as(&signer.token("alice"), "/both/").await.status == 200).await;
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

/// These are no matter of tokens: HTTP says what they are.
#[tokio::test]
async fn what_http_refuses_never_becomes_a_token() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let keys = key_server(&signer).await;
    let edge = edge(&keys, &origin).await;
    let token = signer.token("alice");
    for (value, status) in [
        // The request's header section is larger than any may be.
        (format!("Bearer {}", "A".repeat(64 << 10)), 431),
        // Bytes that no field value may hold (RFC 9110 section 5.5).
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
