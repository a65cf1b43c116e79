//! `mcp-edge import`: what the real binary makes of nginx configurations and scope files, and whether the imported
//! rules decide in the same way as the original ones.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test edge import` writes the expected results again. Read the diff before you
//! commit them.

mod model;
mod nginx;
mod openness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use mcp_edge::auth::Policy;
use mcp_edge::config::{Config, Protocol};
use mcp_edge::import::{ImportError, Sources, import};
use mcp_edge::types::{Operation, Principal, Scope, ScopeSet, Target};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import")
}

fn mcp_edge(folder: &Path, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_mcp-edge");
    Command::new(binary).args(arguments).current_dir(folder).env_clear().output().expect("the binary was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The arguments for the fixture `name`, which has an nginx file, a scope file or both.
fn arguments(name: &str) -> Vec<String> {
    let files = [("--nginx", format!("{name}.nginx.conf")), ("--scopes", format!("{name}.scopes.yml"))];
    let present = files.into_iter().filter(|(_, file)| fixtures().join(file).exists());
    ["import".to_owned()].into_iter().chain(present.flat_map(|(option, file)| [option.to_owned(), file])).collect()
}

fn run(name: &str) -> Output {
    let arguments = arguments(name);
    mcp_edge(&fixtures(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The names of the fixtures in `folder`.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(fixtures().join(folder)).expect("the folder is part of the source");
    let files = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"));
    let name = |file: String| Some(file.strip_suffix(".nginx.conf").or(file.strip_suffix(".scopes.yml"))?.to_owned());
    files.filter_map(name).map(|name| Path::new(folder).join(name).to_string_lossy().into_owned()).collect()
}

fn compare(file: &str, actual: &str, wrong: &mut Vec<String>) {
    let path = fixtures().join(file);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).expect("the folder of the fixtures can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((line, (expected, actual))) =
        (expected.lines().chain([""])).zip(actual.lines().chain([""])).enumerate().find(|(_, (a, b))| a != b)
    {
        wrong.push(format!("{file}:{}\n  - {expected}\n  + {actual}\n", line + 1));
    }
}

#[test]
fn every_import_matches_its_snapshot_and_passes_the_check() {
    let names = names("");
    assert!(names.len() >= 5, "fixtures are missing: there are only {names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let output = run(&name);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let (yaml, notes) = (text(&output.stdout), text(&output.stderr));
        compare(&format!("{name}.yaml"), &yaml, &mut wrong);
        compare(&format!("{name}.txt"), &notes, &mut wrong);

        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("edge.yaml"), &yaml).expect("written");
        let check = mcp_edge(folder.path(), &["check", "--config", "edge.yaml"]);
        assert_eq!((check.status.code(), text(&check.stderr)), (Some(0), String::new()), "{name}");
        let count = notes.lines().count() - 1;
        assert_eq!(notes.lines().last(), Some(format!("{count} notes").as_str()), "{name}: each note is one line");
    }
    assert!(wrong.is_empty(), "UPDATE_SNAPSHOTS=1 writes the snapshots again:\n{}", wrong.concat());
}

#[test]
fn input_that_cannot_be_imported_is_reported_with_its_position() {
    let mut wrong = Vec::new();
    for name in names("bad") {
        let output = run(&name);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{name}");
        compare(&format!("{name}.txt"), &text(&output.stderr), &mut wrong);
    }
    assert!(wrong.is_empty(), "UPDATE_SNAPSHOTS=1 writes the snapshots again:\n{}", wrong.concat());
    for arguments in [
        &["import"][..],
        &["import", "--scopes", "absent.yml"],
        &["import", "--nginx", "bad"],
        &["import", "--nginx", "x", "--force"],
    ] {
        let output = mcp_edge(&fixtures(), arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("large"), " ".repeat(5 << 20)).expect("written");
    let output = mcp_edge(folder.path(), &["import", "--nginx", "large"]);
    assert!(text(&output.stderr).starts_with("large: is larger than 4 MiB"), "{output:?}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_existing_output_is_replaced_only_with_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let (nginx, output) = (fixtures().join("locations.nginx.conf"), folder.path().join("out.yaml"));
    let import = |more: &[&str]| {
        let nginx = nginx.to_str().expect("UTF-8");
        mcp_edge(folder.path(), &[&["import", "--nginx", nginx, "--output", "out.yaml"], more].concat())
    };
    let first = import(&[]);
    assert_eq!((first.status.code(), text(&first.stdout)), (Some(0), String::new()), "{first:?}");
    assert_eq!(mcp_edge(folder.path(), &["check", "--config", "out.yaml"]).status.code(), Some(0));

    std::fs::write(&output, "mine").expect("written");
    let second = import(&[]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("--force"), "{second:?}");
    assert_eq!(std::fs::read_to_string(&output).expect("the output exists"), "mine");
    assert_eq!(import(&["--force"]).status.code(), Some(0));
    assert_ne!(std::fs::read_to_string(&output).expect("the output exists"), "mine");
}

/// A usable key pair is imported. Otherwise the TLS listener is commented out, so that its port never serves cleartext.
#[test]
fn certificates_are_imported_if_they_are_usable() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = rcgen::generate_simple_self_signed(vec!["edge.example".to_owned()]).expect("a certificate");
    std::fs::write(folder.path().join("edge.pem"), pair.cert.pem()).expect("written");
    std::fs::write(folder.path().join("edge.key"), pair.signing_key.serialize_pem()).expect("written");
    let of = |key: &str| {
        let nginx = folder.path().join("nginx.conf");
        let server = format!(
            "server {{ listen 443 ssl; ssl_certificate edge.pem; ssl_certificate_key {key}; location /x/ {{ proxy_pass http://a:1/; }} }}"
        );
        std::fs::write(&nginx, server).expect("written");
        let output = folder.path().join("edge.yaml");
        let imported =
            import(&Sources { nginx: Some(nginx), scopes: None }, &output).expect("the files can be imported");
        std::fs::write(&output, &imported.yaml).expect("written");
        let config = Config::load(&output).unwrap_or_else(|errors| panic!("{errors}"));
        let listener = &config.listeners[0];
        (listener.address.to_string(), listener.tls.is_some(), imported.yaml.contains("# - address: \"0.0.0.0:443\""))
    };
    assert_eq!(of("edge.key"), ("0.0.0.0:443".to_owned(), true, false));
    assert_eq!(of("absent.key"), ("127.0.0.1:8080".to_owned(), false, true));
    assert_eq!(of("edge.pem"), ("127.0.0.1:8080".to_owned(), false, true));
}

/// A value that may be a secret is copied from the nginx file neither to the YAML nor to the notes.
#[test]
fn no_secret_gets_into_the_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "server {
        set $key hunter2;
        location = /v { internal; proxy_pass http://auth:1/v?key=hunter2; proxy_set_header X-Api-Key hunter2; }
        location = /w { internal; proxy_pass http://user:hunter2@auth:1/v; }
        location /a/ { auth_request /v; proxy_pass http://a:1/x?key=hunter2; proxy_set_header Authorization \"Bearer hunter2\"; }
        location /b/ { proxy_pass http://user:hunter2@b:1/; }
        location /c/ { auth_request /w; proxy_pass http://c:1/; proxy_set_header X-Service-Token hunter2; proxy_set_header Cookie sid=hunter2; }
        location /f/ { proxy_pass http://f:1/; proxy_set_header X-Team \"Bearer hunter2\"; proxy_set_header X-Verify hunter2; more_set_input_headers 'X-A: hunter2'; }
        location /g/ { proxy_pass http://g:1/; proxy_set_header X-Team hunter2hunter2hunter2; proxy_set_header X-User hunter2; }
        location /d/ { if ($http_x_key != hunter2) { return 403; } proxy_pass http://d:1/; proxy_pass_header hunter2; }
        location /e/ { auth_request /v?key=hunter2; proxy_pass http://e:1/; return 403 hunter2; }
    }";
    std::fs::write(folder.path().join("nginx.conf"), text).expect("written");
    let output = mcp_edge(folder.path(), &["import", "--nginx", "nginx.conf"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (yaml, notes) = (self::text(&output.stdout), self::text(&output.stderr));
    assert!(yaml.contains("/a/") && !yaml.contains("hunter2") && !notes.contains("hunter2"), "{yaml}\n{notes}");
    assert!(
        yaml.contains("remove: [x-service-token, cookie]"),
        "the fields that nginx sets are not removed from requests of clients: {yaml}"
    );
}

const SERVERS: [&str; 3] = ["fininfo", "mcpgw", "*"];
const METHODS: [&str; 8] =
    ["initialize", "ping", "notifications/initialized", "tools/list", "tools/call", "prompts/get", "odd/method", "all"];
const TOOLS: [&str; 5] = ["get_a", "get_b", "put", "get_*", "*"];
const HELD: [&str; 4] = ["a/read", "b:write", "c", "d"];

/// One entry of a scope in the scope file.
#[derive(Clone, Debug)]
struct Entry {
    server: &'static str,
    methods: Vec<&'static str>,
    tools: Vec<&'static str>,
}

fn entry() -> impl Strategy<Value = Entry> {
    // `all` and `*` are rare. Otherwise most entries would allow everything.
    let methods = (subsequence(&METHODS[..7], 0..7), proptest::bool::weighted(0.1)).prop_map(|(mut methods, all)| {
        if all {
            methods.push("all");
        }
        methods
    });
    let tools = (subsequence(&TOOLS[..4], 0..4), proptest::bool::weighted(0.15)).prop_map(|(mut tools, all)| {
        if all {
            tools.push("*");
        }
        tools
    });
    (select(&SERVERS[..]), methods, tools).prop_map(|(server, methods, tools)| Entry { server, methods, tools })
}

type File = Vec<(&'static str, Vec<Entry>)>;

fn file() -> impl Strategy<Value = File> {
    let names = subsequence(&["a/read", "b:write", "c", "d", "with space"][..], 1..5);
    names.prop_flat_map(|names| {
        let entries = proptest::collection::vec(proptest::collection::vec(entry(), 0..4), names.len());
        entries.prop_map(move |entries| names.iter().copied().zip(entries).collect())
    })
}

/// The registry's rule: one matching entry in any of the caller's scopes allows the operation.
fn registry_allows(file: &File, held: &[&str], server: &str, method: &str, tool: Option<&str>) -> bool {
    file.iter().filter(|(scope, _)| held.contains(scope)).flat_map(|(_, entries)| entries).any(|entry| {
        let of_server = entry.server == "*" || entry.server == server;
        let of_method = entry.methods.contains(&"all") || entry.methods.contains(&method);
        let of_tool = method != "tools/call"
            || tool.is_some_and(|tool| entry.tools.contains(&"*") || entry.tools.contains(&tool));
        of_server && of_method && of_tool
    })
}

fn policy_allows(policy: &Policy, held: &[&str], method: &str, tool: Option<&str>) -> bool {
    let scopes: ScopeSet = held.iter().map(|scope| scope.parse::<Scope>().expect("the scope is legal")).collect();
    let caller = Arc::new(Principal::new("alice", scopes, "test".into(), None).expect("the subject is legal"));
    let operation = match tool {
        Some(tool) => Operation::Targeted(method, Target::Tool(tool)),
        None if method == "prompts/get" => Operation::Targeted(method, Target::Prompt("p")),
        None => Operation::Method(method),
    };
    policy.authorize(Some(caller), [operation]).is_ok()
}

/// Imports `file` together with an nginx configuration, both from files, and loads the result.
fn imported(file: &File) -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    let (nginx, scopes) = (folder.path().join("nginx.conf"), folder.path().join("scopes.yml"));
    let locations = ["fininfo", "mcpgw"]
        .map(|name| format!("location /{name}/ {{ auth_request /validate; proxy_pass http://{name}:1/; }}\n"));
    let validate = "location = /validate { internal; proxy_pass http://auth:1/validate; }\n";
    std::fs::write(&nginx, format!("server {{ {} {validate} }}", locations.concat())).expect("written");
    let of_scope = |(scope, entries): &(&str, Vec<Entry>)| {
        let list: Vec<serde_json::Value> = entries
            .iter()
            .map(|entry| serde_json::json!({"server": entry.server, "methods": entry.methods, "tools": entry.tools}))
            .collect();
        format!("\"{scope}\": {}\n", serde_json::Value::from(list))
    };
    std::fs::write(&scopes, file.iter().map(of_scope).collect::<String>()).expect("written");
    let output = folder.path().join("edge.yaml");
    let made =
        import(&Sources { nginx: Some(nginx), scopes: Some(scopes) }, &output).expect("the files can be imported");
    std::fs::write(&output, made.yaml).expect("written");
    Config::load(&output).unwrap_or_else(|errors| panic!("{errors}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_imported_policy_decides_as_the_registry_does(file in file(), held in subsequence(&HELD[..], 0..4)) {
        let config = imported(&file);
        prop_assert_eq!(config.routes.len(), 2);
        for route in &config.routes {
            prop_assert_eq!(route.protocol, Protocol::Mcp);
            prop_assert!(route.auth.is_some());
            let (policy, server) = (Policy::new(route), route.prefix.trim_start_matches('/'));
            let methods = METHODS[..7].iter().copied().filter(|method| *method != "tools/call").map(|method| (method, None));
            let tools = ["get_a", "get_b", "put", "get_else", "else"].map(|tool| ("tools/call", Some(tool)));
            for (method, tool) in methods.chain(tools).chain([("never/heard", None), ("tools/call", None)]) {
                prop_assert_eq!(
                    policy_allows(&policy, &held, method, tool),
                    registry_allows(&file, &held, server, method, tool),
                    "{} may do {} {:?} on {}", held.join(" "), method, tool, server
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mix of [`WORDS`] and of scope files is either imported or reported as malformed. The import checks its own
    /// result.
    #[test]
    fn every_readable_input_becomes_a_valid_configuration(
        words in proptest::collection::vec(select(WORDS), 0..60),
        scopes in "([a-z*: ,\\[\\]{}\n-]|server|methods|tools|group_mappings){0,40}",
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let (nginx, file) = (folder.path().join("n"), folder.path().join("s"));
        let opened = words.iter().filter(|word| word.ends_with('{')).count();
        let closed = words.iter().filter(|word| word.ends_with('}')).count();
        std::fs::write(&nginx, words.join(" ") + &"}".repeat(opened.saturating_sub(closed))).expect("written");
        std::fs::write(&file, scopes).expect("written");
        for scopes in [None, Some(file)] {
            match import(&Sources { nginx: Some(nginx.clone()), scopes }, &folder.path().join("edge.yaml")) {
                Ok(_) | Err(ImportError::Malformed { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}

/// Parts of an nginx configuration. Most are whole directives, so that many mixes of them can be read.
const WORDS: &[&str] = &[
    "http {",
    "server {",
    "server {",
    "location /a/ {",
    "location = /a {",
    "location /b* {",
    "location ~ x {",
    "location @n {",
    "location {",
    "upstream u {",
    "if ($x) {",
    "}",
    "}",
    "server;",
    "server a:1;",
    "server a:1 weight=0 down;",
    "server [::1]:0;",
    "listen 80;",
    "listen [::]:80;",
    "listen 0;",
    "listen 9901;",
    "listen;",
    "listen 443 ssl;",
    "server_name a .b *.c _;",
    "server_name x..y;",
    "ssl_certificate a;",
    "ssl_certificate_key b;",
    "ssl_client_certificate c;",
    "ssl_verify_client on;",
    "proxy_pass http://u/;",
    "proxy_pass http://u;",
    "proxy_pass https://10.0.0.256/x;",
    "proxy_pass http://a:0/;",
    "proxy_pass;",
    "proxy_pass http://h/../x;",
    "proxy_pass http://h//;",
    "auth_request /a;",
    "auth_request off;",
    "auth_request;",
    "return 403;",
    "deny all;",
    "proxy_set_header Host a:99999;",
    "proxy_set_header X-User \"\";",
    "proxy_set_header X-A \"é\";",
    "proxy_set_header Content-Length 1;",
    "proxy_set_header;",
    "add_header Connection x;",
    "add_header X-A \"\";",
    "hash $cookie_;",
    "hash $http_;",
    "proxy_hide_header Host;",
    "client_max_body_size 99999999999g;",
    "proxy_read_timeout 999999y;",
    "include x;",
    "proxy_ssl_name -;",
    "set_real_ip_from x;",
    "real_ip_header X-Forwarded-For;",
    "set_real_ip_from 10.0.0.0/8;",
    "random;",
    "listen [::]:443 ssl;",
    "ssl_trusted_certificate c;",
    "ssl_verify_client optional;",
    "if ($scheme = http) { return 301 https://a; }",
    "rewrite ^ /x break;",
    "rewrite ^/a/(.*)$ /$1 break;",
    "rewrite ^ /x permanent;",
    "proxy_set_header Proxy-Authorization \"\";",
    "proxy_set_header X-Forwarded-Proto https;",
    "proxy_set_header X-Groups $g;",
    "auth_request_set $g $upstream_http_x_g;",
    "more_clear_input_headers X-A Cookie Host Content-Length X-Forwarded-For;",
    "proxy_pass_request_headers off;",
    "satisfy any;",
    "server a:1 weight=abc;",
];
