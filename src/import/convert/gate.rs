//! Converts `auth_request` to `lookup` providers, and finds other directives with which nginx rejects callers.

use std::collections::HashMap;
use std::sync::Arc;

use super::fields::may_be_secret;
use super::pool::Target;
use crate::config::Anonymous;
use crate::config::limits;
use crate::config::text::Position;
use crate::config::written::{Header, Lookup, Provider, Span, Url};
use crate::import::draft::{Draft, Item};
use crate::import::nginx::Directive;
use crate::import::nginx::search::Search;
use crate::import::nginx::site::{Chain, Location, Site, time};
use crate::types::excerpt;

/// The placeholder URL for an authentication server that is not known. Names below `.invalid` never resolve (RFC 6761).
const UNKNOWN: &str = "http://auth-server.invalid:8888/validate";

/// The providers that were made so far.
pub(crate) struct Gates<'a> {
    file: &'a Arc<str>,
    /// The provider names, by the settings of the lookup. A provider for an unknown server is found by its note.
    made: HashMap<String, String>,
    /// The location that serves each `auth_request`, by server and URI.
    targets: HashMap<(Position, bool, String), Option<usize>>,
}

impl<'a> Gates<'a> {
    pub(crate) fn new(file: &'a Arc<str>) -> Self {
        Self { file, made: HashMap::new(), targets: HashMap::new() }
    }

    /// The name of the provider for the `auth_request` that applies in `chain`. `None`: there is none, or it is `off`.
    pub(crate) fn provider(&mut self, site: &Site<'_>, chain: &Chain<'_>, draft: &mut Draft) -> Option<String> {
        let line = chain.one("auth_request").filter(|line| line.arg(0) != "off")?;
        let uri = line.arg(0);
        let key = (site.at, site.is_server, uri.split('?').next().unwrap_or_default().to_owned());
        let found = *self.targets.entry(key).or_insert_with_key(|(.., path)| Search::new(site).find(path).location);
        let Some(location) = found.map(|index| &site.locations[index]) else {
            let text = format!(
                "no `location` serves `auth_request {}`: write the URL of the authentication server",
                excerpt(uri)
            );
            return Some(self.unknown(line.at, text, draft));
        };
        let pass = location.chain.own("proxy_pass");
        let target = pass.first().map(|pass| Target::parse(pass.arg(0)));
        let url = match target {
            Some(Ok(target)) => url(&target, location, uri),
            Some(Err(why)) => Err(why),
            None => Err("it has no `proxy_pass`"),
        };
        let url = match url {
            Ok(url) => url,
            Err(why) => {
                let path = excerpt(&location.path);
                let text = format!(
                    "`location {path}` cannot be used for authentication because {why}: write the URL of the authentication server"
                );
                return Some(self.unknown(location.at, text, draft));
            }
        };
        let mut item = Item::new(blank(url));
        if uri.contains('?') || pass.first().is_some_and(|pass| pass.arg(0).contains('?')) {
            item.note(
                self.file,
                location.at,
                "the query string of the URL is not imported because it may contain a secret",
            );
        }
        self.settings(location, &mut item);
        let lookup = item.value.lookup.as_ref();
        let key = lookup
            .map(|lookup| {
                format!("{} {:?} {:?} {:?}", lookup.url, lookup.headers, lookup.context_headers, lookup.timeout)
            })
            .unwrap_or_default();
        Some(self.made.entry(key).or_insert_with(|| add(uri, item, draft)).clone())
    }

    /// The name of a provider with a placeholder URL. `text` asks the operator to write the URL.
    pub(crate) fn unknown(&mut self, at: Position, text: String, draft: &mut Draft) -> String {
        let file = self.file;
        let made = self.made.entry(text.clone()).or_insert_with(|| {
            let mut item = Item::new(unknown_provider());
            item.note(file, at, text);
            add("validate", item, draft)
        });
        made.clone()
    }

    fn settings(&self, location: &Location<'_>, item: &mut Item<Provider>) {
        let Some(lookup) = &mut item.value.lookup else { return };
        let mut notes: Vec<(Position, String)> = Vec::new();
        for line in location.chain.effective("proxy_set_header") {
            let (name, value) = (line.arg(0).to_ascii_lowercase(), line.arg(1));
            let is_copy = value == format!("$http_{}", name.replace('-', "_"));
            match (name.as_str(), is_copy) {
                ("host" | "connection" | "content-length" | "content-type", _) => {}
                ("x-original-uri" | "x-original-method" | "x-original-url" | "authorization", _) => {}
                // In nginx, Lua set this field from the body. In the edge, it would have the client's value.
                ("x-body", _) => {}
                (name, true) => {
                    let header: Option<Header> = name.parse().ok();
                    let Some(header) = header.filter(|header| !lookup.headers.contains(header)) else { continue };
                    // `headers` may be credentials and do not go to the upstream. nginx sent the other fields to the
                    // upstream too.
                    let fields = match may_be_secret(&header.0) {
                        true => &mut lookup.headers,
                        false => &mut lookup.context_headers,
                    };
                    if !fields.contains(&header) {
                        fields.push(header);
                    }
                }
                (name, false) => {
                    notes.push((
                        line.at,
                        format!("the header `{}` is not sent to the authentication server", excerpt(name)),
                    ));
                }
            }
        }
        for line in location.chain.own("proxy_read_timeout") {
            match time(line.arg(0)) {
                Some(span) if span <= limits::AUTH_TIMEOUT => lookup.timeout = Span(span),
                _ => notes.push((
                    line.at,
                    "the edge waits at most 2s for the authentication server. nginx had another timeout".to_owned(),
                )),
            }
        }
        for (at, text) in notes {
            item.note(self.file, at, text);
        }
        let text = "the authentication server gets only `headers`, `context_headers`, X-Original-URI, X-Original-Method and X-Original-URL of the client's request. nginx sent all headers, such as Cookie. The edge does not send the body, because it checks the rules for methods and tools itself";
        item.note(self.file, location.at, text);
    }
}

fn add(uri: &str, item: Item<Provider>, draft: &mut Draft) -> String {
    let name = Draft::name(&uri.trim_matches('/').replace('/', "-"), |name| draft.providers.contains_key(name));
    draft.providers.insert(name.clone(), item);
    name
}

/// The URL that nginx requests when `auth_request` leads to `location` with `uri`. The query string may contain a
/// secret, so it is left out.
fn url(target: &Target, location: &Location<'_>, uri: &str) -> Result<Url, &'static str> {
    let plain = |uri: &str| uri.split(['?', '#']).next().unwrap_or_default().to_owned();
    let path = match &target.uri {
        Some(replaced) => plain(replaced) + &plain(uri.strip_prefix(&location.path).unwrap_or_default()),
        None => plain(uri),
    };
    let scheme = if target.tls { "https" } else { "http" };
    format!("{scheme}://{}{path}", target.authority).parse().map_err(|_| "its `proxy_pass` is not a valid URL")
}

/// A provider that looks up callers at `url`, with the header fields of mcp-gateway-registry's authentication server.
fn blank(url: Url) -> Provider {
    let headers =
        |names: &[&'static str]| names.iter().map(|name| Header(http::HeaderName::from_static(name))).collect();
    let lookup = Lookup {
        anonymous: Anonymous::default(),
        url,
        headers: headers(&["authorization", "x-authorization"]),
        context_headers: Vec::new(),
        operation: None,
        original_uri: true,
        subject_headers: headers(&["x-user", "x-username"]),
        scopes_header: Header(http::HeaderName::from_static("x-scopes")),
        groups_header: Header(http::HeaderName::from_static("x-groups")),
        issuer: None,
        timeout: Span(limits::AUTH_TIMEOUT),
    };
    Provider {
        jwt: None,
        lookup: Some(lookup),
        introspection: None,
        api_keys: None,
        mtls: None,
        groups: Default::default(),
    }
}

/// A provider with a placeholder URL. Nothing answers there, so all requests are rejected.
pub(crate) fn unknown_provider() -> Provider {
    let url = UNKNOWN.parse().unwrap_or_else(|_| unreachable!("the constant is a valid URL"));
    blank(url)
}

/// The position and the reason when nginx may reject callers here in a way that the edge does not support. The route is
/// then closed rather than open. `authenticated`: an `auth_request` applies too, which is enough for `satisfy any`.
pub(crate) fn closed_by(site: &Chain<'_>, chain: &Chain<'_>, authenticated: bool) -> Option<(Position, String)> {
    let any = authenticated && chain.value("satisfy") == Some("any");
    let because = |line: &Directive| (line.at, format!("`{}` is not supported", excerpt(&line.name)));
    if !any {
        for name in BASIC {
            if let Some(line) = chain.one(name).filter(|line| line.arg(0) != "off") {
                return Some(because(line));
            }
        }
        if let Some(line) = chain.effective("deny").first() {
            return Some(because(line));
        }
    }
    let keeps_out = |line: &&Directive| match line.name.as_str() {
        "if" => line.children().iter().any(is_refusal),
        name if name.starts_with("access_by_") || name.starts_with("server_rewrite_by_") => true,
        name if name.starts_with("rewrite_by_") => !copies_body(line),
        _ => false,
    };
    if let Some(line) = chain.all().find(keeps_out) {
        return Some(because(line));
    }
    let refuses = |line: &Directive| line.name == "deny" || BASIC.contains(&line.name.as_str());
    if let Some(line) = chain.own("limit_except").iter().find(|line| line.children().iter().any(refuses)) {
        return Some(because(line));
    }
    // After such a `rewrite`, nginx looks for another location.
    let leads_away = |line: &&Directive| !["break", "redirect", "permanent"].contains(&line.arg(2));
    if let Some(line) = chain.own("rewrite").into_iter().find(leads_away) {
        return Some((line.at, "`rewrite` sends requests to other locations".to_owned()));
    }
    let unknown = |line: &&Directive| line.name == "include" && !is_harmless(line);
    chain.of_site(site).find(unknown).map(|line| {
        let text = format!("the file of `include {}` is not imported and may reject callers", excerpt(line.arg(0)));
        (line.at, text)
    })
}

/// Directives that require credentials of callers, unless they are `off`.
const BASIC: [&str; 5] = ["auth_basic", "auth_jwt", "auth_digest", "auth_pam", "auth_oidc"];

/// True for the registry's own script, which copies the body for its authentication server.
pub(crate) fn copies_body(line: &Directive) -> bool {
    line.name == "rewrite_by_lua_file" && line.arg(0).ends_with("capture_body.lua")
}

/// True for an `include` of a file that does not restrict access.
pub(crate) fn is_harmless(line: &Directive) -> bool {
    line.arg(0).ends_with("mime.types")
}

/// True for a `return` with an error status.
pub(crate) fn is_refusal(line: &Directive) -> bool {
    line.name == "return" && line.arg(0).len() == 3 && line.arg(0).starts_with(['4', '5'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    fn closed(text: &str, authenticated: bool) -> bool {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        closed_by(&sites[0].chain, &sites[0].locations[0].chain, authenticated).is_some()
    }

    #[test]
    fn unsupported_restrictions_close_the_route() {
        for text in [
            "location /x { allow 10.0.0.0/8; deny all; }",
            "deny all; location /x { }",
            "location /x { auth_basic realm; }",
            "location /x { access_by_lua_block { return } }",
            "location /x { limit_except GET { deny all; } }",
            "location /x { limit_except GET { auth_basic realm; } }",
            "location /x { rewrite_by_lua_block { ngx.exit(403) } }",
            "location /x { if ($http_x_key != k) { return 403; } }",
            "if ($http_x_key != k) { return 444; } location /x { }",
            "location /x { rewrite ^ /y last; }",
            "location /x { include more.conf; }",
            "server { include more.conf; location /x { } }",
        ] {
            assert!(closed(text, false) && closed(text, true), "{text}");
        }
        for text in [
            "location /x { auth_basic off; if ($request_method = OPTIONS) { return 204; } }",
            "location /x { rewrite_by_lua_file /etc/nginx/lua/capture_body.lua; }",
            "location /x { rewrite ^/x/(.*) /$1 break; include /etc/nginx/mime.types; }",
            "include conf.d/*.conf; server { location /x { } }",
        ] {
            assert!(!closed(text, false) && !closed(text, true), "{text}");
        }
        let either = "location /x { satisfy any; deny all; }";
        assert!(closed(either, false) && !closed(either, true));
    }
}
