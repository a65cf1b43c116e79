//! Checks configurations with the real binary. Each wrong configuration has its expected errors in a `.txt` file beside
//! it. Every example loads.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test edge config` writes these files again. Read the diff before you commit them.

mod documents;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The longest time that the check of one file may take, because a slow check would delay a reload. A check takes far
/// less, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the binary in `folder`. Its environment contains only `variables`.
fn mcp_edge(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcp-edge"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the binary was built with this test")
}

fn check(folder: &Path, file: &str) -> Output {
    mcp_edge(folder, &["check", "--config", file], &[])
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures() -> PathBuf {
    root().join("tests/fixtures/config")
}

/// The names of the files in `folder` that end in `ending`, without this ending, in order.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is part of the source");
    entries
        .map(|entry| entry.expect("the folder can be read").file_name())
        .filter_map(|name| Some(name.to_str()?.strip_suffix(ending)?.to_owned()))
        .collect()
}

/// Calls `run` for each of `items`, on all cores, and returns the texts that it returned.
fn on_all_cores<T: Sync>(items: &[T], run: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    let chunks = items.chunks(items.len().div_ceil(cores).max(1));
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            chunks.map(|chunk| scope.spawn(|| chunk.iter().filter_map(&run).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// The lines that only one of the two texts contains.
fn difference(expected: &str, actual: &str) -> String {
    let only = |sign: char, these: &str, those: &str| -> String {
        let those: BTreeSet<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("  {sign} {line}\n")).collect()
    };
    only('-', expected, actual) + &only('+', actual, expected)
}

#[test]
fn every_wrong_configuration_is_refused_with_the_expected_errors() {
    let fixtures = fixtures();
    let bad = fixtures.join("bad");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1");
    let names: Vec<String> = names(&bad, ".yaml").into_iter().collect();
    assert!(names.len() >= 30, "fixtures are missing: there are only {}", names.len());

    let differing = on_all_cores(&names, |name| {
        let snapshot = bad.join(format!("{name}.txt"));
        let start = Instant::now();
        let output = check(&fixtures, &format!("bad/{name}.yaml"));
        let took = start.elapsed();
        let actual = String::from_utf8_lossy(&output.stderr).into_owned();
        if update {
            std::fs::write(&snapshot, &actual).expect("the folder of the fixtures can be written");
        }
        let expected = std::fs::read_to_string(&snapshot).unwrap_or_default();
        let mut wrong = difference(&expected, &actual);
        if wrong.is_empty() && expected != actual {
            wrong.push_str("  the same lines in another order or number\n");
        }
        if output.status.code() != Some(2) {
            wrong.push_str(&format!("  the binary ended with {} and not with exit code 2\n", output.status));
        }
        if !output.stdout.is_empty() {
            wrong.push_str(&format!(
                "  the binary wrote to standard output: {}\n",
                String::from_utf8_lossy(&output.stdout)
            ));
        }
        if took > PATIENCE {
            wrong.push_str(&format!("  the check took {took:?}\n"));
        }
        (!wrong.is_empty()).then(|| format!("bad/{name}.yaml\n{wrong}"))
    });
    assert!(
        differing.is_empty(),
        "{} of {} fixtures differ (UPDATE_SNAPSHOTS=1 writes the snapshots again):\n{}",
        differing.len(),
        names.len(),
        differing.concat()
    );
}

#[test]
fn every_wrong_configuration_has_a_snapshot_and_every_snapshot_a_configuration() {
    let bad = fixtures().join("bad");
    assert_eq!(names(&bad, ".txt"), names(&bad, ".yaml"));
}

/// Scripts and editors rely on the form of the errors. An error must never contain a secret.
#[test]
fn every_error_has_a_position_and_no_error_has_a_secret() {
    let bad = fixtures().join("bad");
    for name in names(&bad, ".txt") {
        let text = std::fs::read_to_string(bad.join(format!("{name}.txt"))).expect("the snapshot is readable");
        let lines: Vec<&str> = text.lines().collect();
        let (last, errors) = lines.split_last().expect("the snapshot is not empty");
        let noun = if errors.len() == 1 { "error" } else { "errors" };
        assert_eq!(*last, format!("{} {noun}", errors.len()), "{name}");
        for error in errors {
            assert!(error.starts_with("bad/") && error.contains(".yaml:"), "{name}: {error}");
            for secret in ["hunter2", "correct-horse", "3141592", "text in JSON"] {
                assert!(!error.contains(secret), "{name} contains a secret: {error}");
            }
        }
    }
}

#[test]
fn every_good_configuration_and_every_example_loads() {
    let fixtures = fixtures();
    let good = names(&fixtures.join("good"), ".yaml").into_iter().map(|name| (fixtures.as_path(), "good", name));
    let conf = names(&root().join("conf"), ".yaml").into_iter().map(|name| (root(), "conf", name));
    let files: Vec<(&Path, &str, String)> = good.chain(conf).collect();
    assert!(files.len() >= 10, "files are missing: there are only {}", files.len());

    let refused = on_all_cores(&files, |(folder, below, name)| {
        let file = format!("{below}/{name}.yaml");
        // The fixtures read a secret from the environment. The examples must load without any environment variable.
        let variables: &[_] = if *below == "good" { &[("MCP_EDGE_TEST_SECRET", SECRET)] } else { &[] };
        let output = mcp_edge(folder, &["check", "--config", &file], variables);
        let ok = output.stdout.starts_with(format!("{file}: ok: ").as_bytes()) && output.stderr.is_empty();
        (output.status.code() != Some(0) || !ok).then(|| format!("{file}: {output:?}\n"))
    });
    assert!(refused.is_empty(), "{}", refused.concat());
}

/// A client may know nothing but the short form of a name that is too long.
#[test]
fn the_check_shows_the_short_forms_of_names_that_gateways_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let (long, almost) = ("x".repeat(70), "x".repeat(62));
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]
upstreams: {{one: {{endpoints: [{{address: 127.0.0.1:1}}]}}}}
routes:
  - {{path: /one/, upstream: one, protocol: mcp, auth: none, tools: [{{match: get_{long}}}, {{match: left_out_{long}}}, {{match: \"a*\"}}]}}
  - path: /mcp
    auth: none
    gateway: {{servers: [{{route: one, tools: {{exclude: [\"left*\"], rename: {{a: \"b{almost}\", short: s}}}}}}]}}
"
    );
    std::fs::write(folder.path().join("edge.yaml"), text).expect("the folder is fresh");
    let output = check(folder.path(), "edge.yaml");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines: Vec<&str> = shown.lines().skip(1).collect();
    let begins = ["/mcp: the tool `a` of `/one/` is shown as `one_bxxx", "/mcp: the tool `get_xxx"];
    assert!(lines.len() == 2 && lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{shown}");
}

const SECRET: &str = "a-secret-of-a-test-that-is-long-enough-for-hs256";

#[test]
fn an_environment_variable_of_a_secret_must_be_set() {
    let name = "MCP_EDGE_TEST_SECRET_THAT_IS_NOT_SET";
    let arguments = ["check", "--config", "bad/secret-env-missing.yaml"];
    let without = mcp_edge(&fixtures(), &arguments, &[]);
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains(name));

    let with = mcp_edge(&fixtures(), &arguments, &[(name, SECRET)]);
    assert_eq!(with.status.code(), Some(0), "{with:?}");
    let both = [with.stdout, with.stderr].concat();
    assert!(!String::from_utf8_lossy(&both).contains(SECRET));
}

#[test]
fn an_unreadable_configuration_is_reported_with_its_path() {
    for (file, reason) in [
        (
            "absent.yaml",
            "cannot be read (No such file or directory (os error 2)): give the path of a readable YAML file",
        ),
        ("good", "cannot be read (Is a directory (os error 21)): give the path of a readable YAML file"),
    ] {
        let output = check(&fixtures(), file);
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{file}: {reason}\n1 error\n"));
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(output.stdout.is_empty(), "{file}");
    }
}

#[test]
fn the_schema_has_every_section_and_shows_defaults_as_a_file_has_them() {
    let output = mcp_edge(root(), &["schema"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the schema is JSON");
    let sections: BTreeSet<&str> =
        schema["properties"].as_object().into_iter().flat_map(|sections| sections.keys()).map(String::as_str).collect();
    for section in [
        "server",
        "listeners",
        "admin",
        "include",
        "limits",
        "identity",
        "sessions",
        "assertions",
        "log",
        "auth",
        "upstreams",
        "routes",
    ] {
        assert!(sections.contains(section), "{section} is missing in {sections:?}");
    }
    let default = |of: &str, key: &str| schema["$defs"][of]["properties"][key]["default"].clone();
    assert_eq!(default("Limits", "body_bytes"), "4MiB");
    assert_eq!(default("Limits", "held_bytes"), "256MiB");
    assert_eq!(default("Cache", "ttl"), "5m");
    assert_eq!(default("Cors", "max_age"), "10m");
    for list in ["methods", "tools", "prompts", "resources"] {
        let rules = &schema["$defs"]["Route"]["properties"][list];
        assert_eq!((&rules["type"], &rules["items"]["$ref"]), (&"array".into(), &"#/$defs/Rule".into()), "{list}");
    }
    assert_eq!(schema["$defs"]["Rule"]["required"], serde_json::json!(["match"]));
    assert_eq!(default("Lookup", "scopes_header"), "x-scopes");
    assert_eq!(default("Admin", "address"), "127.0.0.1:9901");
    assert_eq!(default("Assertion", "lifetime"), "1m");
    assert_eq!(default("TokenGrant", "timeout"), "2s");
}
