//! Converts `auth_request` to `lookup` providers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::answered_fields::AnsweredFields;
use super::pool::{Target, blocks, servers, with_port};
use super::secret::is_secret_name;
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
    /// The fields of the answers to each `auth_request`, by server and URI.
    answered: HashMap<(Position, bool, String), AnsweredFields>,
    /// The `upstream` blocks.
    blocks: BTreeMap<&'a str, &'a Directive>,
    /// True when the rules for methods and tools are imported.
    pub(crate) with_scopes: bool,
}

impl<'a> Gates<'a> {
    pub(crate) fn new(file: &'a Arc<str>, root: &'a [Directive], with_scopes: bool) -> Self {
        let (made, targets, answered) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { file, made, targets, answered, blocks: blocks(root), with_scopes }
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
        let target = pass.first().ok_or("it has no `proxy_pass`").and_then(|pass| Target::parse(pass.arg(0)));
        let resolved = target.and_then(|target| self.server(target));
        let is_tls = resolved.as_ref().is_ok_and(|(target, _)| target.tls);
        let several = resolved.as_ref().ok().and_then(|(_, several)| *several);
        let url = resolved.and_then(|(target, _)| url(&target, location, uri));
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
        if let Some(block) = several {
            let text = format!(
                "the provider uses only the first server of `upstream {}`: write the URL of a load balancer",
                excerpt(block.arg(0))
            );
            item.note(self.file, block.at, text);
        }
        let tls = location.chain.all().filter(|line| is_tls && line.name.starts_with("proxy_ssl_"));
        for line in tls.take(1) {
            let text = "`proxy_ssl_*` is not imported for the authentication server: the edge verifies its certificate with the authorities of the system";
            item.note(self.file, line.at, text);
        }
        self.settings(location, &mut item);
        if let Some(lookup) = &mut item.value.lookup {
            let key = (site.at, site.is_server, uri.to_owned());
            self.answered.entry(key).or_insert_with(|| AnsweredFields::of(site, uri)).apply(lookup);
        }
        let lookup = item.value.lookup.as_ref();
        let key = lookup
            .map(|lookup| {
                let of_answer = (&lookup.subject_headers, &lookup.groups_header, &lookup.scopes_header);
                let of_request = (&lookup.headers, &lookup.context_headers);
                format!("{} {of_request:?} {of_answer:?} {:?}", lookup.url, lookup.timeout)
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
                ("x-original-uri" | "x-original-method" | "x-original-url", _) => {}
                // In nginx, Lua set this field from the body. In the edge, it would have the client's value.
                ("x-body", _) => {}
                (name, true) => {
                    let header: Option<Header> = name.parse().ok();
                    let Some(header) = header.filter(|header| !lookup.headers.contains(header)) else { continue };
                    // `headers` may be credentials and do not go to the upstream. nginx sent the other fields to the
                    // upstream too.
                    let fields = match is_secret_name(&header.0) {
                        true => &mut lookup.headers,
                        false => &mut lookup.context_headers,
                    };
                    if !fields.contains(&header) {
                        fields.push(header);
                    }
                }
                (name, false) => {
                    // nginx did not send the client's own value.
                    lookup.headers.retain(|header| header.0.as_str() != name);
                    notes.push((
                        line.at,
                        format!("the header `{}` is not sent to the authentication server", excerpt(name)),
                    ));
                }
            }
        }
        if let Some(line) = location.chain.one("proxy_pass_request_headers").filter(|line| line.arg(0) == "off") {
            notes.push((line.at, "nginx sent only the fields that `proxy_set_header` names to the authentication server: take the others out of `headers`".to_owned()));
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
        let body = if self.with_scopes { ", because it checks the rules for methods and tools itself" } else { "" };
        let text = format!(
            "the authentication server gets only `headers`, `context_headers`, X-Original-URI, X-Original-Method and X-Original-URL of the client's request. nginx sent all headers, such as Cookie. The edge does not send the body{body}"
        );
        item.note(self.file, location.at, text);
    }

    /// `target` with an address in place of the name of an `upstream` block, and the block if it has more servers.
    fn server(&self, target: Target) -> Result<(Target, Option<&'a Directive>), &'static str> {
        let Some(block) = self.blocks.get(target.authority.as_str()) else { return Ok((target, None)) };
        let mut servers = servers(block);
        let first = servers.next().ok_or("its `upstream` has no server that can be imported")?;
        let authority = with_port(first, target.tls);
        Ok((Target { authority, ..target }, servers.next().map(|_| *block)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    /// The provider for the first location.
    fn read(text: &str) -> Item<Provider> {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        let (file, mut draft) = ("n".into(), Draft::default());
        let name = Gates::new(&file, &root, false).provider(&sites[0], &sites[0].locations[0].chain, &mut draft);
        draft.providers.remove(&name.expect("there is an `auth_request`")).expect("the provider was added")
    }

    #[test]
    fn servers_of_blocks_are_used() {
        let of = |block: &str| {
            let text = format!(
                "upstream u {{ {block} }} server {{ location /x {{ auth_request /v; }} location = /v {{ proxy_pass http://u/y; }} }}"
            );
            let item = read(&text);
            (item.value.lookup.expect("a lookup").url.to_string(), item.notes.len())
        };
        assert_eq!(of("server a:4180; keepalive 8;"), ("http://a:4180/y".to_owned(), 1));
        assert_eq!(of("server a down; server b; server c;"), ("http://b/y".to_owned(), 2));
        assert_eq!(of("server unix:/x;"), (UNKNOWN.to_owned(), 1));
    }

    #[test]
    fn credentials_that_nginx_overwrote_are_not_sent() {
        let of = |text: &str| {
            let text = format!("location /x {{ auth_request /v; }} location = /v {{ proxy_pass http://a; {text} }}");
            let lookup = read(&text).value.lookup.expect("a lookup");
            lookup.headers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(""), "authorization x-authorization");
        assert_eq!(of("proxy_set_header Authorization $http_authorization;"), "authorization x-authorization");
        assert_eq!(
            of("proxy_set_header Authorization \"\"; proxy_set_header X-Api-Key $http_x_api_key;"),
            "x-authorization x-api-key"
        );
        assert_eq!(of("proxy_set_header X-Authorization \"a\";"), "authorization");
    }

    #[test]
    fn fields_of_the_answer_are_those_that_upstreams_get() {
        let text = "location /x { auth_request /v; auth_request_set $u $upstream_http_x_auth_request_user; \
                    auth_request_set $g $upstream_http_x_auth_request_groups; auth_request_set $s $upstream_http_x_s; \
                    proxy_set_header X-User $u; proxy_set_header X-Groups $g; proxy_set_header X-Scopes $s; } \
                    location /y { auth_request /v; } location = /v { proxy_pass https://a; proxy_ssl_verify off; }";
        let item = read(text);
        let lookup = item.value.lookup.expect("a lookup");
        assert_eq!(lookup.subject_headers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x-auth-request-user"]);
        assert_eq!(
            (lookup.groups_header.to_string(), lookup.scopes_header.to_string()),
            ("x-auth-request-groups".to_owned(), "x-s".to_owned())
        );
        assert!(item.notes.iter().any(|note| note.text.contains("proxy_ssl_")));
        let plain = read("location /x { auth_request /v; } location = /v { proxy_pass http://a; }").value.lookup;
        assert_eq!(plain.expect("a lookup").subject_headers.len(), 2, "the default");
    }
}
