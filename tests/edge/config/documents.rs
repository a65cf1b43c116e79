//! Checks the documents: the reference is what the binary prints, YAML blocks pass `mcp-edge check`, and commands and
//! linked files exist.

use serde_yaml::{Mapping, Value};

use super::{difference, mcp_edge, root};

/// The names and texts of README.md, CONTRIBUTING.md, SECURITY.md and the Markdown files in docs/.
fn documents() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).expect("the folder is part of the source");
    let docs = docs.map(|entry| entry.expect("the entry is readable").path());
    let beside = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name));
    let files = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).chain(beside);
    let files = files.map(|path| {
        let name = path.strip_prefix(root()).expect("the document is inside the source folder").display().to_string();
        (name, std::fs::read_to_string(&path).expect("the file is readable"))
    });
    let documents: Vec<_> = files.collect();
    assert!(documents.len() >= 10, "documents are missing");
    documents
}

/// The fenced code blocks of `text` in the language `language`.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    let parts = text.split(&begin).skip(1);
    parts.map(|part| part.split("\n```").next().unwrap_or_default()).collect()
}

fn map<'v>(value: &'v mut Mapping, key: &str) -> &'v mut Mapping {
    let entry = value.entry(key.into()).or_insert_with(|| Mapping::new().into());
    entry.as_mapping_mut().expect("a section is a map")
}

/// Adds what a block may leave out: the listener, and the upstreams and providers that its routes name.
fn completed(block: &str) -> String {
    let mut file: Mapping = serde_yaml::from_str(block).expect("a block is a map");
    file.entry("listeners".into())
        .or_insert_with(|| serde_yaml::from_str("[{address: 127.0.0.1:8080}]").expect("the YAML is valid"));
    let routes: Vec<Value> = file.get("routes").and_then(Value::as_sequence).cloned().unwrap_or_default();
    for route in &routes {
        if let Some(upstream) = route.get("upstream").cloned() {
            let endpoints =
                serde_yaml::from_str("{endpoints: [{address: 127.0.0.1:8001}]}").expect("the YAML is valid");
            map(&mut file, "upstreams").entry(upstream).or_insert(endpoints);
        }
        let providers = route.get("auth").and_then(|auth| auth.get("providers")?.as_sequence().cloned());
        for provider in providers.unwrap_or_default() {
            let jwt = "{jwt: {issuer: https://idp.example, audiences: [a], algorithms: [RS256], jwks: {url: https://idp.example/jwks}}}";
            let jwt = serde_yaml::from_str(jwt).expect("the YAML is valid");
            map(map(&mut file, "auth"), "providers").entry(provider).or_insert(jwt);
        }
    }
    serde_yaml::to_string(&file).expect("the map can be written as YAML")
}

#[test]
fn every_block_of_yaml_passes_the_check() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(root().join("conf/session.key"), folder.path().join("session.key"))
        .expect("the file is part of the source");
    let mut count = 0;
    for (name, text) in documents() {
        for block in blocks(&text, "yaml") {
            std::fs::write(folder.path().join("edge.yaml"), completed(block)).expect("the folder is fresh");
            let output = mcp_edge(folder.path(), &["check", "--config", "edge.yaml"], &[]);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}:\n{block}\n\n{errors}");
            count += 1;
        }
    }
    assert!(count >= 3, "YAML blocks are missing");
}

/// The words of the command in one line of a block, without the comment after it. `None`: the line has no command.
fn command(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default().trim();
    (!line.is_empty() && !line.starts_with('#')).then(|| line.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn every_command_in_the_documents_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("the file is part of the source");
    let targets: Vec<&str> = makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let tests =
        std::fs::read_to_string(root().join("tests/edge/lifecycle/reload.rs")).expect("the file is part of the source");
    for (name, text) in documents() {
        for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
            let Some(words) = command(line) else { continue };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["make", target, ..] => assert!(targets.contains(target), "{name}: there is no `make {target}`"),
                ["mcp-edge", command, arguments @ ..] => {
                    let help = mcp_edge(root(), &[command, "--help"], &[]);
                    let help = String::from_utf8_lossy(&help.stdout).into_owned();
                    let mut options = arguments.iter().filter(|argument| argument.starts_with("--"));
                    assert!(!help.is_empty() && options.all(|option| help.contains(option)), "{name}: `{line}`");
                }
                ["cargo", "bench", .., "--bench", bench] => {
                    assert!(root().join("benches").join(bench).with_extension("rs").exists(), "{name}: `{line}`");
                }
                ["cargo", "test", "--features", "fleet", test, ..] => {
                    assert!(tests.contains(test), "{name}: there is no test `{test}`");
                }
                // Only the path of an admin request is checked here. Other tests check what the request does.
                ["curl", arguments @ ..] => {
                    let url = arguments.iter().find_map(|argument| argument.strip_prefix("http://127.0.0.1:9901"));
                    assert!(
                        url.is_some_and(
                            |path| ["/auth/purge", "/catalog", "/catalog/accept", "/reload", "/status"].contains(&path)
                        ),
                        "{name}: `{line}`"
                    );
                }
                ["openssl", "rand", "-hex", "32", ">", "session.key"] => {}
                _ => panic!("{name}: this test does not know the command `{line}`"),
            }
        }
    }
}

#[test]
fn links_lead_to_files() {
    for (name, text) in documents() {
        let folder = root().join(&name).parent().expect("the document is in a folder").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { root().join(&name) } else { folder.join(file) };
            assert!(path.exists(), "{name}: the file of the link `{link}` does not exist");
            if !section.is_empty() {
                let target = std::fs::read_to_string(&path).expect("the file is readable");
                let anchor = |heading: &str| heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(
                    headings.any(|heading| heading == section),
                    "{name}: the section of the link `{link}` does not exist"
                );
            }
        }
    }
}

#[test]
fn the_reference_is_what_the_binary_prints() {
    let output = mcp_edge(root(), &["schema", "--markdown"], &[]);
    let printed = String::from_utf8(output.stdout).expect("the reference is UTF-8");
    let kept = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap_or_default();
    let difference = difference(&kept, &printed);
    assert!(kept == printed, "run `mcp-edge schema --markdown > docs/configuration.md`:\n{difference}");
}

#[test]
fn make_help_lists_every_target() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("the file is part of the source");
    let is_target = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(':');
    for line in makefile.lines().filter(is_target) {
        assert!(line.contains(" ## "), "this target has no line in `make help`: {line}");
    }
}
