//! The importer makes no path more open than nginx does.

use std::sync::Arc;

use mcp_edge::config::{Config, Route};
use mcp_edge::import::{Sources, import};
use mcp_edge::route::Router;
use mcp_edge::types::canonical_path;
use proptest::prelude::*;

use super::model;
use super::model::{HOSTS, PROVIDERS, Requirement, Server, Words};

/// The port for each index in the model.
const PORTS: [u16; 2] = [8080, 8081];

/// The text of an nginx file with `servers`, for the importer.
pub fn text(servers: &[Server]) -> String {
    let words = Words {
        listen: &|port| PORTS[port].to_string(),
        upstream: "http://a:1",
        provider: &|name| format!("http://{name}:1/"),
        folder: "/srv",
    };
    servers.iter().map(|server| server.text(&words)).collect()
}

/// The imported configuration of an nginx file, and its routes.
struct Edge {
    config: Config,
    router: Router<Arc<Route>>,
    yaml: String,
}

impl Edge {
    fn of(nginx: &str, with_scopes: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, scopes, output) =
            (folder.path().join("n"), folder.path().join("s"), folder.path().join("edge.yaml"));
        std::fs::write(&file, nginx).expect("written");
        std::fs::write(&scopes, "x: [{server: a, methods: [tools/call], tools: [t]}]").expect("written");
        let sources = Sources { nginx: Some(file), scopes: with_scopes.then_some(scopes) };
        let yaml = import(&sources, &output).expect("the files can be imported").yaml;
        std::fs::write(&output, &yaml).expect("written");
        let config = Config::load(&output).unwrap_or_else(|errors| panic!("{errors}"));
        let mut router = Router::default();
        for route in &config.routes {
            router
                .insert(&route.hosts, &route.prefix, Arc::clone(route))
                .expect("the check has refused overlapping routes");
        }
        Self { config, router, yaml }
    }

    /// What the edge requires of the caller of a request, and the name of the route.
    fn required(&self, port: usize, host: &str, path: &str) -> (Requirement, String) {
        let mut listeners = self.config.listeners.iter().filter(|listener| listener.address.port() == PORTS[port]);
        let answers =
            |hosts: &[mcp_edge::types::HostPattern]| hosts.is_empty() || hosts.iter().any(|it| it.matches(host));
        if !listeners.any(|listener| answers(&listener.hosts)) {
            return (Requirement::Nobody, "no listener".to_owned());
        }
        let Ok(path) = canonical_path(path.as_bytes()) else { return (Requirement::Nobody, "no path".to_owned()) };
        let Some(route) = self.router.find(host, &path) else { return (Requirement::Nobody, "no route".to_owned()) };
        let required = match &route.auth {
            None => Requirement::Nothing,
            Some(auth) if !auth.scopes.is_empty() => Requirement::Nobody,
            Some(auth) => match PROVIDERS.iter().find(|name| [Arc::from(**name)] == *auth.providers) {
                Some(name) => Requirement::Caller(name),
                // The importer found no provider and made one with a placeholder URL. Nothing answers there, so no
                // caller gets in.
                None => Requirement::Nobody,
            },
        };
        (required, route.name.to_string())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks every path, host and port, with a scope file and without one.
    #[test]
    fn no_path_is_more_open_than_in_nginx(
        servers in model::servers(),
        with_scopes in any::<bool>(),
        paths in proptest::collection::vec(model::requested(), 16),
    ) {
        let nginx = text(&servers);
        let edge = Edge::of(&nginx, with_scopes);
        for path in paths.iter().chain(&["/check".to_owned(), "/validate".to_owned()]) {
            for (port, host) in (0..PORTS.len()).flat_map(|port| HOSTS.map(|host| (port, host))) {
                let (after, route) = edge.required(port, host, path);
                let before = model::served(&servers, port, host, &model::decoded(path)).map_or(Requirement::Nobody, |it| it.required);
                prop_assert!(
                    after.is_as_closed_as(before),
                    "{}:{host}{path}: nginx requires {before:?}, {route} requires {after:?}\n{nginx}\n{}", PORTS[port], edge.yaml
                );
            }
        }
    }

    /// The opposite check: if routes can express what nginx does, they require exactly what nginx requires.
    #[test]
    fn prefixes_of_whole_segments_require_what_nginx_requires(
        server in model::plain_server(),
        paths in proptest::collection::vec("(/[ab]{1,2}){0,4}/?", 16),
    ) {
        let servers = [server];
        let nginx = text(&servers);
        let edge = Edge::of(&nginx, false);
        for path in paths.iter().map(|path| if path.is_empty() { "/" } else { path }) {
            let before = model::served(&servers, 0, "else", path).map(|it| it.required);
            prop_assert_eq!(Some(edge.required(0, "else", path).0), before, "{}\n{}\n{}", path, nginx, edge.yaml);
        }
    }
}

/// Examples of locations, and what the edge then requires of callers of some paths. `OPEN` requires nothing. `CALLER`
/// and `OTHER` use two different authentication servers.
#[test]
fn examples_of_what_imported_routes_require() {
    const OPEN: &str = "proxy_pass http://a:1;";
    let of = |locations: &str| {
        let text = locations
            .replace("OPEN", OPEN)
            .replace("CALLER", &format!("auth_request /validate; {OPEN}"))
            .replace("OTHER", &format!("auth_request /check; {OPEN}"));
        let ask = PROVIDERS.map(|name| format!("location = /{name} {{ internal; proxy_pass http://{name}:1/; }}"));
        Edge::of(&format!("server {{ listen 8080; {text} {} }}", ask.concat()), false)
    };
    let (nothing, caller, nobody) = (Requirement::Nothing, Requirement::Caller("validate"), Requirement::Nobody);
    for (locations, expected) in [
        (
            "location / { CALLER } location = /b { deny all; } location /b/ { OPEN }",
            &[("/", caller), ("/b", nobody), ("/b/x", nobody)][..],
        ),
        ("location / { OPEN } location /x { deny all; }", &[("/x", nobody), ("/xy", nobody), ("/y", nobody)]),
        ("location / { OPEN } location /x/ { deny all; }", &[("/x", nobody), ("/x/y", nobody), ("/xy", nothing)]),
        ("location / { OPEN } location /x { CALLER }", &[("/x", caller), ("/xy", caller), ("/y", caller)]),
        ("location / { OPEN } location = /x { CALLER }", &[("/x", caller), ("/x/y", caller), ("/y", nothing)]),
        ("location / { CALLER } location = /x { OPEN }", &[("/x", caller), ("/x/y", caller)]),
        ("location / { OTHER } location = /x { CALLER }", &[("/x", nobody), ("/y", Requirement::Caller("check"))]),
        ("location = /x { OPEN }", &[("/x", nobody), ("/x/y", nobody)]),
        ("location / { OPEN } location = / { return 302 /y; }", &[("/", nothing), ("/x", nothing)]),
        ("location / { OPEN } location /s { root /srv; }", &[("/s", nobody), ("/st", nothing)]),
        ("location / { OPEN } location ~ ^/a/ { deny all; }", &[("/a/b", nobody), ("/ab", nothing)]),
        (
            "location / { OPEN } location ^~ /s/ { OPEN } location ~ x { deny all; }",
            &[("/y", nobody), ("/s/x", nothing)],
        ),
        ("location / { OPEN } location /a:b/ { deny all; }", &[("/a:b/", nobody), ("/a%3Ab/", nobody)]),
        ("location /a:b { OPEN } location /a:b/a { CALLER }", &[("/a:b/a", caller), ("/a:b/aa", caller)]),
        ("location / { OPEN } location /ab/ { deny all; }", &[("/%61b/", nobody), ("/c", nothing)]),
        (
            "auth_request /validate; location / { OPEN } location /x/ { auth_request off; OPEN }",
            &[("/", caller), ("/x", nothing)],
        ),
        ("rewrite ^/old/ /new; location / { OPEN }", &[("/old/x", nobody), ("/x", nothing)]),
        ("location /x/ { if ($cookie_sid = '') { return 302 /login; } OPEN }", &[("/x/y", nobody)]),
        ("location /x/ { if ($client = '') { rewrite ^ /login last; } OPEN }", &[("/x/y", nobody)]),
        ("location /x/ { if ($request_method = OPTIONS) { return 204; } OPEN }", &[("/x/y", nothing)]),
        ("location /x/ { limit_except GET { proxy_pass http://b:1; } OPEN }", &[("/x/y", nobody)]),
        ("location /x/ { auth_ldap realm; OPEN }", &[("/x/y", nobody)]),
        ("location /x/ { proxy_pass_request_headers off; OPEN }", &[("/x/y", nobody)]),
        ("location /x/ { rewrite_by_lua_file capture_body.lua; CALLER }", &[("/x/y", nobody)]),
        ("location /x/ { rewrite ^.*$ /mcp break; OPEN }", &[("/x/y", nobody)]),
        ("location /x/ { rewrite ^/x/(.*)$ /$1 break; OPEN }", &[("/x/y", nothing)]),
        ("location /x { rewrite ^/x(/.*)?$ $1 break; OPEN }", &[("/x/y", nothing)]),
        ("location /x/ { proxy_pass http://a:1/data*/; }", &[("/x/y", nobody)]),
        ("location /x/ { proxy_pass http://a:1/v1/..; }", &[("/x/y", nobody)]),
        ("location /x/ { proxy_pass http://a:1/a%2Fb/; }", &[("/x/y", nobody)]),
        ("location /x/ { proxy_pass http://a:1//x/; }", &[("/x/y", nobody)]),
        ("location /x/ { proxy_pass http://a:1/mcp?tenant=a; }", &[("/x/y", nobody)]),
        ("location /x/ { CALLER } location = /x { proxy_pass http://a:1/mcp?tenant=a; }", &[("/x/y", caller)]),
    ] {
        let edge = of(locations);
        for (path, required) in expected {
            assert_eq!(edge.required(0, "else", path).0, *required, "{path}: {locations}\n{}", edge.yaml);
        }
    }
}

/// nginx answered a host with the server that has its name, even if the default server of another address has the same
/// location.
#[test]
fn hosts_have_the_upstream_of_their_own_server() {
    let text = "server { listen 8080 default_server; listen [::]:8080 default_server; server_name _; location /x { proxy_pass http://first:1; } } \
                server { listen 8080; server_name b.y; location /x { proxy_pass http://second:1; } }";
    let edge = Edge::of(text, false);
    let upstream = |host: &str| {
        let path = canonical_path(b"/x").expect("valid input");
        edge.router.find(host, &path).and_then(|route| route.upstream().map(ToString::to_string))
    };
    assert_eq!((upstream("b.y").as_deref(), upstream("else").as_deref()), (Some("second"), Some("first")));
}

/// What one location overwrote does not come from clients in the whole route.
#[test]
fn routes_have_the_header_rules_of_all_their_locations() {
    let text = "server { listen 8080; location /x/ { proxy_pass http://a:1; proxy_set_header X-Team blue; } \
                location = /x { proxy_pass http://a:1; proxy_set_header X-Team red; proxy_set_header X-Role \"\"; proxy_set_header Authorization \"\"; } \
                location ~ ^/x/admin { proxy_pass http://a:1; proxy_set_header X-Admin $u; } }";
    let edge = Edge::of(text, false);
    let expected = "remove: [x-role, x-admin], set: {x-team: blue}";
    assert!(edge.yaml.contains(expected) && !edge.yaml.contains("forward_token: true"), "{}", edge.yaml);
    assert!(edge.yaml.contains("`location = /x` overwrote `x-role`"), "{}", edge.yaml);

    let regex =
        |index: usize| format!("location ~ x{index} {{ proxy_pass http://a:1; proxy_set_header X-A{index} \"\"; }}");
    let text = |count: usize| {
        let regexes: String = (0..count).map(regex).collect();
        format!("server {{ listen 8080; location / {{ proxy_pass http://a:1; }} {regexes} }}")
    };
    let required = |count| Edge::of(&text(count), false).required(0, "else", "/").0;
    assert_eq!((required(64), required(65)), (Requirement::Nothing, Requirement::Nobody));
}
