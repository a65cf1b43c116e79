//! What must be true for all imported nginx configurations, checked with the fixtures of the tests in `tests/edge`.

use std::path::{Path, PathBuf};

use super::nginx::pattern::beginning;
use super::nginx::place::{covers, encoded};
use super::nginx::site::{Chain, Kind, Location, Site, sites};
use super::nginx::{Directive, parse};
use super::{Imported, Sources, import};
use crate::config::text::Position;
use crate::config::{Config, HeaderChange, Route};
use crate::import::draft::blank::CLOSED;

/// One fixture with its result.
struct Fixture {
    name: String,
    root: Vec<Directive>,
    imported: Imported,
    config: Config,
}

impl Fixture {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
        let entries = std::fs::read_dir(&folder).expect("the folder is part of the source");
        let paths = entries.map(|entry| entry.expect("readable").path());
        let fixtures: Vec<Self> = paths.filter_map(|path| Self::read(&folder, &path)).collect();
        assert!(fixtures.len() >= 15, "fixtures are missing");
        fixtures
    }

    fn read(folder: &Path, path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".nginx.conf")?.to_owned();
        let scopes: PathBuf = folder.join(format!("{name}.scopes.yml"));
        let text = std::fs::read_to_string(path).expect("readable");
        let sources = Sources { nginx: Some(path.to_owned()), scopes: scopes.exists().then_some(scopes) };
        let output = folder.join("edge.yaml");
        let imported = import(&sources, &output).expect("the fixture can be imported");
        let config = Config::from_text(&output, imported.yaml.clone()).expect("the result is valid");
        Some(Self { name, root: parse(&text).expect("valid input"), imported, config })
    }

    fn has_note(&self, at: Position) -> bool {
        self.imported.notes.iter().any(|note| note.lines.contains(&at.0))
    }

    /// True when the location is left out, or closed, with a note.
    fn is_without_route(&self, location: &Location<'_>) -> bool {
        let gone = ["left out", "rejects all requests", "is a regular expression", "is not supported: it is left out"];
        let notes = self.imported.notes.iter().filter(|note| note.lines.contains(&location.at.0));
        let is_gone = notes.into_iter().any(|note| gone.iter().any(|text| note.text.contains(text)));
        is_gone || self.routes(location).iter().all(|route| is_closed(route))
    }

    /// The routes that may get requests of a location.
    fn routes(&self, location: &Location<'_>) -> Vec<&Route> {
        let path = match location.kind {
            Kind::Exact | Kind::Prefix => location.path.clone(),
            Kind::Regex => beginning(&location.path, location.ignores_case()),
            Kind::Named => return Vec::new(),
        };
        let path = encoded(path.trim_end_matches('/'));
        let routes = || self.config.routes.iter().map(|route| &**route);
        let plain = |route: &Route| route.prefix.trim_end_matches('/').to_owned();
        let around = routes().map(plain).filter(|prefix| covers(prefix, &path)).max_by_key(String::len);
        let is_inside = |route: &Route| location.kind == Kind::Regex && plain(route).starts_with(&path);
        routes().filter(|route| around.as_ref() == Some(&plain(route)) || is_inside(route)).collect()
    }
}

fn is_closed(route: &Route) -> bool {
    let scopes = route.auth.iter().flat_map(|auth| auth.scopes.iter());
    scopes.into_iter().any(|scope| scope.to_string() == CLOSED)
}

/// True when upstreams of `route` never get the client's value of the field.
fn owns(route: &Route, name: &str) -> bool {
    let by_edge = [
        "host",
        "connection",
        "content-length",
        "upgrade",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-original-method",
        "x-original-uri",
        "x-original-url",
        "x-request-id",
        "x-scopes",
        "x-user",
    ];
    let is_changed = |change: &HeaderChange| match change {
        HeaderChange::Set(changed, _) | HeaderChange::Remove(changed) => changed.as_str() == name,
    };
    by_edge.contains(&name)
        || name == "authorization" && !route.forward_token
        || route.request_headers.iter().any(is_changed)
}

/// What nginx overwrote never comes from clients.
#[test]
fn no_client_sends_a_field_that_nginx_overwrote() {
    let mut checked = 0;
    for fixture in Fixture::all() {
        for site in sites(&fixture.root) {
            for location in site.locations.iter().filter(|location| !location.chain.own("proxy_pass").is_empty()) {
                for line in location.chain.effective("proxy_set_header") {
                    let name = line.arg(0).to_ascii_lowercase();
                    if line.arg(1) == format!("$http_{}", name.replace('-', "_")) {
                        continue;
                    }
                    let mut routes = fixture.routes(location);
                    let hosts = site.hosts().0;
                    routes.retain(|route| {
                        route.hosts.is_empty() || hosts.iter().any(|host| route.hosts.contains(&host.0))
                    });
                    for route in routes.into_iter().filter(|route| !is_closed(route)) {
                        checked += 1;
                        assert!(
                            owns(route, &name),
                            "{}: {} sends {name} of clients, which {} overwrote",
                            fixture.name,
                            route.name,
                            location.shown()
                        );
                    }
                }
            }
        }
    }
    assert!(checked > 60, "only {checked} fields were checked");
}

/// Each directive is converted, or a note has its line.
#[test]
fn no_directive_is_lost_without_a_note() {
    let mut lost = Vec::new();
    for fixture in Fixture::all() {
        let sites = sites(&fixture.root);
        visit(&fixture.root, &mut |line, outer| {
            if !is_carried(&fixture, &sites, line, outer) {
                lost.push(format!("{}:{}: {} {}", fixture.name, line.at.0, line.name, line.args.join(" ")));
            }
        });
    }
    assert!(lost.is_empty(), "these directives have no note:\n{}", lost.join("\n"));
}

/// Calls `see` for each directive and the directive around it. The insides of other blocks belong to their directive.
fn visit<'a>(block: &'a [Directive], see: &mut dyn FnMut(&'a Directive, Option<&'a Directive>)) {
    fn inner<'a>(
        block: &'a [Directive],
        outer: Option<&'a Directive>,
        see: &mut dyn FnMut(&'a Directive, Option<&'a Directive>),
    ) {
        for line in block {
            see(line, outer);
            if ["http", "server", "location", "upstream"].contains(&line.name.as_str()) {
                inner(line.children(), Some(line), see);
            }
        }
    }
    inner(block, None, see);
}

fn is_carried(fixture: &Fixture, sites: &[Site<'_>], line: &Directive, outer: Option<&Directive>) -> bool {
    let yaml = fixture.imported.yaml.to_ascii_lowercase();
    // Comments are notes, except for listeners that are left out.
    let (_, rest) = yaml.split_once("\nlisteners:").unwrap_or_default();
    let listeners = rest.split("\n\n").next().unwrap_or_default();
    let settings: String = rest.lines().filter(|line| !line.trim_start().starts_with('#')).chain([listeners]).collect();
    let has = |text: &str| settings.contains(&text.to_ascii_lowercase());
    let any = |line: &Directive| line.args.iter().any(|arg| has(arg.trim_start_matches('.')));
    let location = |at: Position| sites.iter().flat_map(|site| &site.locations).find(|location| location.at == at);
    let is_left_out = outer.is_some_and(|outer| match outer.name.as_str() {
        "location" => location(outer.at).is_some_and(|location| fixture.is_without_route(location)),
        _ => {
            fixture.imported.notes.iter().any(|note| note.lines.contains(&outer.at.0) && note.text.contains("left out"))
        }
    });
    if fixture.has_note(line.at) || is_left_out {
        return true;
    }
    match line.name.as_str() {
        "http" | "server" if line.block.is_some() => true,
        "location" => location(line.at).is_some_and(|location| {
            let is_lookup = yaml.contains(&format!("{}\n", location.path))
                && location.chain.all().any(|line| line.name == "internal");
            is_lookup || !fixture.routes(location).is_empty()
        }),
        "proxy_pass" => {
            let target = line.arg(0).split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            has(target)
        }
        "server" => has(line.arg(0).split(':').next().unwrap_or_default()),
        "upstream" => has(line.arg(0)),
        "listen" => has(line.arg(0)),
        "server_name" => line.arg(0) == "_" || any(line),
        "proxy_set_header" => is_field_carried(line, &settings),
        "add_header" | "proxy_hide_header" => has(line.arg(0)),
        "auth_request" => line.arg(0) == "off" || has("providers: ["),
        "auth_request_set" | "internal" => true,
        "client_max_body_size" => has("body_bytes"),
        "proxy_connect_timeout" | "proxy_read_timeout" => has("timeout"),
        "set_real_ip_from" => any(line),
        "real_ip_header" => has("trusted_fields"),
        "ssl_certificate" | "ssl_certificate_key" | "ssl_client_certificate" | "ssl_trusted_certificate" => any(line),
        "ssl_verify_client" => has("client_ca"),
        "proxy_ssl_certificate" | "proxy_ssl_certificate_key" => {
            any(line) || yaml.contains("without `tls.certificate`")
        }
        "proxy_ssl_trusted_certificate" => any(line) || yaml.contains("without `tls.ca`"),
        "proxy_ssl_name" => any(line),
        "proxy_ssl_verify" => line.arg(0) == "on",
        "rewrite" => matches!(line.arg(2), "break"),
        "rewrite_by_lua_file" => line.arg(0).ends_with("capture_body.lua") && has("methods:"),
        "least_conn" => true,
        "hash" | "ip_hash" | "random" => has("balance"),
        "keepalive" | "keepalive_requests" | "keepalive_timeout" | "zone" => {
            outer.is_some_and(|outer| outer.name == "upstream")
        }
        "include" => line.arg(0).ends_with("mime.types"),
        _ => false,
    }
}

fn is_field_carried(line: &Directive, settings: &str) -> bool {
    let name = line.arg(0).to_ascii_lowercase();
    let is_own = line.arg(1) == format!("$http_{}", name.replace('-', "_"));
    let usual = [
        ("x-forwarded-for", "$proxy_add_x_forwarded_for"),
        ("x-forwarded-for", "$remote_addr"),
        ("x-forwarded-proto", "$scheme"),
        ("x-forwarded-host", "$host"),
        ("x-request-id", "$request_id"),
        ("x-original-uri", "$request_uri"),
        ("x-original-method", "$request_method"),
        ("x-original-url", "$scheme://$host$request_uri"),
        ("x-user", "$auth_user"),
        ("x-scopes", "$auth_scopes"),
    ];
    is_own
        || usual.contains(&(name.as_str(), line.arg(1)))
        || ["host", "connection", "upgrade", "authorization", "content-length"].contains(&name.as_str())
        || settings.contains(&name)
}

/// No value that may be a secret is in the YAML or in the notes.
#[test]
fn no_secret_is_copied_from_any_fixture() {
    let mut with_secret = 0;
    for fixture in Fixture::all() {
        let notes: String = fixture.imported.notes.iter().map(ToString::to_string).collect();
        let has_secret = format!("{:?}", fixture.root).contains("hunter2");
        with_secret += usize::from(has_secret);
        for word in ["hunter2", "aHVudGVyMj"] {
            assert!(!fixture.imported.yaml.contains(word) && !notes.contains(word), "{} has {word}", fixture.name);
        }
    }
    assert!(with_secret > 0, "no fixture has a secret");
}

/// Of each fixture, what was wrong once.
#[test]
fn what_was_open_once_stays_closed() {
    let fixtures = Fixture::all();
    let of = |name: &str| fixtures.iter().find(|fixture| fixture.name == name).expect("the fixture exists");
    for (name, closed) in [
        ("sse", &["/messages"][..]),
        ("subpath", &["/report", "/tickets", "/files", "/wiki/admin"]),
        ("api-keys", &["/robot", "/preflight", "/page", "/moved", "/office", "/inside", "/read", "/basic"]),
        ("client-certificates", &["/billing"]),
        ("browsers", &["/checked"]),
        ("limits", &["/admin"]),
        ("hosts", &["/a2a"]),
        ("hosted", &["/search"]),
        ("template", &["/currenttime", "/fininfo", "/mcpgw", "/virtual/dev"]),
        ("oauth2-proxy", &["/oauth2/auth"]),
    ] {
        for path in closed {
            let routes: Vec<_> =
                of(name).config.routes.iter().filter(|route| route.prefix.trim_end_matches('/') == *path).collect();
            assert!(!routes.is_empty() && routes.iter().all(|route| is_closed(route)), "{name}: {path}");
        }
    }
    assert!(!of("sse").imported.yaml.contains("- address: \"[::]:80\""), "nginx only redirected from port 80");
    assert!(of("client-certificates").imported.yaml.contains("client_ca: /etc/nginx/tls/clients-ca.pem"));
    for path in ["/weather", "/search"] {
        let route = of("subpath").config.routes.iter().find(|route| route.prefix.trim_end_matches('/') == path);
        assert!(route.is_some_and(|route| !is_closed(route)), "{path}");
    }
    let limits = &of("limits").config;
    let balanced = limits.routes.iter().find(|route| !route.hosts.is_empty() && &*route.prefix == "/mcp");
    assert_eq!(
        balanced.and_then(|route| route.upstream().map(|name| &**name)),
        Some("mcp-2"),
        "each host has the upstream of its own server"
    );
    let lookups = &of("oauth2-proxy").imported.yaml;
    assert!(lookups.contains("url: http://oauth2-proxy:4180/oauth2/auth") && lookups.contains("[x-auth-request-user]"));
    assert!(of("pools").imported.yaml.contains("`upstream nowhere` is left out"));
}

/// `Chain` finds the blocks around a server.
#[test]
fn blocks_around_a_server() {
    let root = parse("a; http { b; server { c; location / { d; } } }").expect("valid input");
    let sites = sites(&root);
    let names = |chain: &Chain<'_>| -> Vec<String> {
        chain.around_site(&sites[0].chain).filter(|line| line.name != "http").map(|line| line.name.clone()).collect()
    };
    assert_eq!(names(&sites[0].locations[0].chain), ["a", "b"]);
}
