//! `conf/identity-providers.yaml` with tokens as the providers document them, signed with a local key.

use serde_json::{Value, json};

use crate::harness::{Origin, Signer, TestEdge};

/// The example, with local addresses and local keys.
fn local(example: &str, origin: &Origin) -> String {
    let mut yaml = String::new();
    for line in example.lines().filter(|line| !line.trim_start().starts_with("jwks: {url:")) {
        let line = line.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:8001", &origin.address.to_string());
        yaml.push_str(&line);
        yaml.push('\n');
        if line.trim() == "algorithms: [RS256]" {
            yaml.push_str("        jwks: {file: keys.json}\n");
        }
    }
    yaml
}

/// The claims with the time of now: the sample has seconds from now.
fn at_present(mut claims: Value) -> Value {
    let now = mcp_edge::types::unix_now();
    for name in ["iat", "nbf", "exp", "auth_time"] {
        if let Some(seconds) = claims[name].as_i64() {
            claims[name] = json!(now.saturating_add_signed(seconds));
        }
    }
    claims
}

#[tokio::test]
async fn tokens_of_identity_providers_open_their_routes_and_no_others() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let samples: Value =
        serde_json::from_str(&read("tests/fixtures/tokens/identity-providers.json")).expect("the fixture is JSON");
    let (origin, signer) = (Origin::saying("in").await, Signer::new());
    let yaml = local(&read("conf/identity-providers.yaml"), &origin);
    let edge = TestEdge::start_with(&yaml, &[("keys.json", &signer.jwks())]).await;
    let mut tried = 0;
    for (provider, samples) in samples["providers"].as_object().expect("providers by name") {
        let path = samples["path"].as_str().expect("a path");
        for sample in samples["tokens"].as_array().expect("a list") {
            let name = format!("{provider}: {}", sample["name"]);
            let token = match sample["token"].as_str() {
                Some(token) => token.to_owned(),
                None => {
                    let mut header = sample["header"].clone();
                    (header["kid"], header["alg"]) = (json!("rsa"), json!("RS256"));
                    signer.rsa(&header.to_string(), at_present(sample["claims"].clone()).to_string())
                }
            };
            let before = origin.count();
            let reply = edge.get_as(&token, path).await;
            let expected = &sample["expect"];
            assert_eq!(json!(reply.status), expected["status"], "{name} ({}): {}", expected["why"], reply.body);
            tried += 1;
            if reply.status == 200 {
                let seen = origin.last();
                assert_eq!(json!(seen.header("x-user")), expected["subject"], "{name}");
                let scopes: Vec<_> =
                    expected["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                assert_eq!(seen.header("x-scopes").unwrap_or_default(), scopes.join(" "), "{name}");
            } else {
                assert_eq!(origin.count(), before, "{name}");
            }
        }
    }
    assert!(tried > 70, "{tried} samples");
}
