//! API keys. `mcp-edge hash-key` makes them, and the edge knows only their hashes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use mcp_edge::server::Trigger;
use mcp_edge::types::{KeyHash, new_api_key};

use crate::harness::{Origin, TestEdge, Tokens, ok};

fn yaml(origin: &Origin) -> String {
    format!(
        "auth:
  providers:
    {}
    robots: {{api_keys: {{file: keys.yaml, header: X-API-Key}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /keys/, upstream: a, auth: {{providers: [robots], scopes: ['a:read']}}}}
  - {{path: /both/, upstream: a, auth: {{providers: [local, robots]}}}}
  - {{path: /tokens/, upstream: a, auth: {{providers: [local]}}}}
  - {{path: /forward/, upstream: a, forward_token: true, auth: {{providers: [robots]}}}}
",
        Tokens::PROVIDER,
        origin.address
    )
}

fn entry(id: &str, key: &str, more: &str) -> String {
    format!("- {{id: {id}, hash: '{}', subject: robot-{id}, scopes: ['a:read']{more}}}\n", KeyHash::sha256(key))
}

fn key(id: &str) -> String {
    new_api_key(id).expect("there is randomness")
}

async fn edge(origin: &Origin, keys: &str) -> TestEdge {
    TestEdge::start_with(&yaml(origin), &[("keys.yaml", keys)]).await
}

fn hash_key(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-edge"))
        .arg("hash-key")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // The command may end without reading its input.
    let _ = child.stdin.take().expect("standard input is piped").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the command ends")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn a_key_is_accepted_in_either_field_and_not_forwarded_by_default() {
    let origin = Origin::saying("in").await;
    let key = key("ci");
    let edge = edge(&origin, &entry("ci", &key, "")).await;
    let bearer = format!("Bearer {key}");
    for headers in [
        vec![("Authorization", bearer.as_str())],
        vec![("X-API-Key", key.as_str())],
        vec![("x-api-key", key.as_str()), ("Authorization", bearer.as_str())],
        vec![("X-API-Key", key.as_str()), ("Authorization", "Basic YTpi")],
    ] {
        for path in ["/keys/", "/both/"] {
            assert_eq!(edge.get(path, &headers).await.status, 200, "{headers:?}");
            let seen = origin.last();
            assert_eq!((seen.headers("x-user"), seen.headers("x-scopes")), (vec!["robot-ci"], vec!["a:read"]));
            assert!(!seen.head.contains(&key), "{}", seen.head);
        }
    }
    assert_eq!(edge.get("/forward/", &[("X-API-Key", &key)]).await.status, 200);
    assert_eq!(origin.last().headers("x-api-key"), [key.as_str()], "the route has `forward_token: true`");
    assert_eq!(edge.get("/keys/", &[]).await.status, 401);
    let scrape = edge.admin_get("/metrics").await.body + &edge.status().await.to_string();
    assert!(!scrape.contains(&key) && !scrape.contains(&KeyHash::sha256(&key).to_string()));
}

#[tokio::test]
async fn several_credentials_are_400_unless_they_are_the_same() {
    let origin = Origin::saying("in").await;
    let (one, two) = (key("one"), key("two"));
    let edge = edge(&origin, &(entry("one", &one, "") + &entry("two", &two, ""))).await;
    let (bearer, token) = (format!("Bearer {one}"), format!("Bearer {}", Tokens::token("alice", "")));
    for headers in [
        vec![("Authorization", bearer.as_str()), ("X-API-Key", two.as_str())],
        vec![("Authorization", token.as_str()), ("X-API-Key", one.as_str())],
        vec![("X-API-Key", one.as_str()), ("X-API-Key", two.as_str())],
        vec![("X-API-Key", one.as_str()), ("X-API-Key", one.as_str())],
    ] {
        assert_eq!(edge.get("/both/", &headers).await.status, 400, "{headers:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn credentials_that_are_not_a_valid_key_of_the_file_are_401() {
    let origin = Origin::saying("in").await;
    let (good, old, other) = (key("ci"), key("old"), key("ci"));
    let edge = edge(&origin, &(entry("ci", &good, "") + &entry("old", &old, ", expires: 2020-01-01"))).await;
    let unknown = key("unknown");
    let swapped = good.replace("_ci_", "_old_");
    let longer = good.clone() + "x";
    let token = Tokens::token("alice", "a:read");
    for wrong in [&other, &old, &unknown, &swapped, &longer, &token, "mcpe_ci_", "mcpe_ci", "x", "a b"] {
        assert_eq!(edge.get("/keys/", &[("X-API-Key", wrong)]).await.status, 401, "{wrong}");
        assert_eq!(edge.get_as(wrong, "/keys/").await.status, 401, "{wrong}");
    }
    assert_eq!(
        edge.get("/both/", &[("X-API-Key", &token)]).await.status,
        401,
        "the field `X-API-Key` accepts only keys"
    );
    assert_eq!(edge.get("/tokens/", &[("X-API-Key", &good)]).await.status, 401);
    assert_eq!(edge.get_as(&good, "/tokens/").await.status, 401);
    assert_eq!(origin.count(), 0);
    assert_eq!(edge.get_as(&token, "/both/").await.status, 200);
}

/// Row 35: a changed key file applies to the next request, whatever is cached.
#[tokio::test]
async fn a_reload_removes_keys_and_adds_others() {
    let origin = Origin::saying("in").await;
    let (first, second) = (key("first"), key("second"));
    let edge = edge(&origin, &entry("first", &first, "")).await;
    assert_eq!((edge.get_as(&first, "/keys/").await.status, edge.get_as(&second, "/keys/").await.status), (200, 401));
    edge.write("keys.yaml", "- {id: first, hash: hunter2, subject: robot}\n");
    let errors = edge.reloader.reload(Trigger::Watch).await.expect_err("the hash is not valid").to_string();
    assert!(
        errors.contains("keys.yaml:1:15`: [0].hash: is not a valid hash") && !errors.contains("hunter2"),
        "{errors}"
    );
    assert_eq!(edge.get_as(&first, "/keys/").await.status, 200, "the old keys stay");
    edge.write("keys.yaml", &entry("second", &second, ""));
    edge.reloader.reload(Trigger::Watch).await.expect("the key file is a file of the configuration");
    assert_eq!((edge.get_as(&first, "/keys/").await.status, edge.get_as(&second, "/keys/").await.status), (401, 200));
    edge.write("keys.yaml", "[]\n");
    edge.reloader.reload(Trigger::Watch).await.expect("the last key can be removed");
    assert_eq!(edge.get_as(&second, "/keys/").await.status, 401);
}

/// Slow hashes are verified off the event loop, a few at a time, and once for each key.
#[tokio::test]
async fn slow_hashes_do_not_delay_other_requests() {
    let origin = Origin::answering(|_| ok("in")).await;
    let (slow, quick) = (key("slow"), key("quick"));
    let params = Params::new(512, 1, 1, None).expect("the parameters are legal");
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(slow.as_bytes(), b"salt of a test")
        .expect("the key can be hashed")
        .to_string();
    let keys = format!("- {{id: slow, hash: '{hash}', subject: slow, scopes: ['a:read']}}\n");
    let edge = edge(&origin, &(keys + &entry("quick", &quick, ""))).await;
    for _ in 0..3 {
        assert_eq!(edge.get_as(&slow, "/keys/").await.status, 200);
    }
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="hit"}"#).await, 2.0);
    let address = edge.address;
    let mut wrong = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let bearer = format!("Bearer {}", key("slow"));
        let request = crate::harness::request("GET", "/keys/", &[("Authorization", &bearer)], "");
        wrong.spawn(async move { crate::harness::exchange(address, request).await.status });
    }
    for _ in 0..10 {
        assert_eq!(edge.get_as(&quick, "/keys/").await.status, 200);
        assert_eq!(edge.get_as(&slow, "/keys/").await.status, 200, "the good key is cached already");
    }
    // On a slow machine, some requests reach the time limit and get 503.
    assert!(wrong.join_all().await.into_iter().all(|status| status == 401 || status == 503));
}

#[tokio::test]
async fn hash_key_makes_keys_and_their_entries() {
    let arguments =
        ["--id", "ci-1", "--subject", "robot: ci", "--scope", "a:read", "--scope", "b", "--expires", "2036-01-31"];
    let output = hash_key(&arguments, "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (entry, key) = (text(output.stdout), text(output.stderr));
    let key = key.trim_end();
    assert!(key.starts_with("mcpe_ci-1_") && key.len() == 53, "{key}");
    assert!(!entry.contains(key));
    let origin = Origin::saying("in").await;
    let edge = edge(&origin, &entry).await;
    assert_eq!(edge.get_as(key, "/keys/").await.status, 200);
    let seen = origin.last();
    assert_eq!((seen.headers("x-user"), seen.headers("x-scopes")), (vec!["robot: ci"], vec!["a:read b"]));
    assert_ne!(text(hash_key(&arguments, "").stderr).trim_end(), key, "each run makes another key");
}

#[test]
fn hash_key_hashes_a_key_that_is_given() {
    let given = "mcpe_ci_0123456789-0123456789-x";
    let output = hash_key(&["--id", "ci", "--subject", "robot", "--stdin"], &format!("{given}\r\n"));
    assert_eq!((output.status.code(), text(output.stderr)), (Some(0), String::new()));
    assert!(text(output.stdout).contains(&format!("hash: {}\n", KeyHash::sha256(given))));
    let output = hash_key(&["--id", "ci", "--subject", "robot", "--stdin", "--argon2"], given);
    let entry = text(output.stdout);
    let hash = entry.lines().find_map(|line| line.trim().strip_prefix("hash: ")).expect("a hash");
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert!(hash.parse::<KeyHash>().expect("a hash").verify(given));
    for (arguments, stdin) in [
        (&["--id", "cd", "--subject", "robot", "--stdin"][..], given),
        (&["--id", "ci", "--subject", "robot", "--stdin"], "mcpe_ci_hunter2"),
        (&["--id", "ci", "--subject", "robot", "--stdin"], "mcpe_ci_hunter2 hunter2 hunter2 hunter2"),
        (&["--id", "CI", "--subject", "robot"], ""),
        (&["--id", "ci", "--subject", ""], ""),
        (&["--id", "ci", "--subject", "robot", "--scope", "a b"], ""),
        (&["--id", "ci", "--subject", "robot", "--expires", "soon"], ""),
    ] {
        let output = hash_key(arguments, stdin);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(!text(output.stderr).contains("hunter2"), "{arguments:?}");
    }
}
