//! Tokens that are each wrong in one detail.

use ring::hmac;
use ring::signature::{RSA_PKCS1_SHA384, RSA_PSS_SHA256};
use serde_json::json;

use super::HEADER;
use crate::harness::Signer;
use crate::harness::signer::{encode, message};

/// Good claims as JSON text, with the changed claims of `changes`. An empty text removes the claim.
pub fn claims(changes: &[(&str, &str)]) -> String {
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

pub fn object(members: &[(&str, &str)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Tokens with their names. Each token is wrong in one detail, and signed with the right key wherever that is possible.
pub fn hostile(signer: &Signer, canary: &str) -> Vec<(String, String)> {
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
    let pem = include_str!("../../../fixtures/keys/rsa.pem");
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

    // Keys that the token contains or points to.
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
        ("with more JSON after them", format!("{good}{good}").into_bytes()),
        (
            "not UTF-8",
            good.replace("alice", "al\u{1}ce").replace('\u{1}', "").into_bytes().into_iter().chain([0xff]).collect(),
        ),
        ("with a NUL after them", format!("{good}\0").into_bytes()),
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
        ("a dot at the start", format!(".{token}")),
        ("a dot at the end", format!("{token}.")),
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
        ("a tab at the start", format!("\t{token}")),
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

/// In base64, the last character of 256 bytes has four unused bits. Only zeros are canonical.
fn flip_last(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = text.bytes().last().expect("the text is not empty");
    let index = ALPHABET.iter().position(|&letter| letter == last).expect("base64");
    format!("{}{}", &text[..text.len() - 1], char::from(ALPHABET[index ^ 1]))
}

fn flip_first(text: &str) -> String {
    let other = if text.starts_with('A') { 'B' } else { 'A' };
    format!("{other}{}", &text[1..])
}
