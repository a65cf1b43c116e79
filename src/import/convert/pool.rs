//! Converts `proxy_pass` and `upstream` blocks to upstreams.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::config::text::Position;
use crate::config::written::{Endpoint, Span, Upstream, UpstreamTls};
use crate::config::{Balance, HashOn, limits};
use crate::import::draft::blank::blank_upstream;
use crate::import::draft::{Draft, Item};
use crate::import::nginx::Directive;
use crate::import::nginx::site::{Chain, time};
use crate::types::{Authority, excerpt};

/// The target of a `proxy_pass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// A host with or without a port, or the name of an `upstream` block.
    pub(crate) authority: String,
    /// The path and query that replace the matched prefix. `None`: the path stays unchanged.
    pub(crate) uri: Option<String>,
}

impl Target {
    /// Reads the argument of `proxy_pass`.
    ///
    /// # Errors
    /// The reason why the edge cannot use the URL, as a clause to follow "because".
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        if url.contains('$') {
            return Err("its `proxy_pass` has a variable, and the edge does not support variables");
        }
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("its `proxy_pass` does not start with http:// or https://"),
        };
        if rest.starts_with("unix:") {
            return Err("its `proxy_pass` leads to a Unix socket, and the edge only connects over TCP");
        }
        let (authority, uri) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
            None => (rest, None),
        };
        if Authority::parse(authority).is_err() {
            return Err("its `proxy_pass` has no valid host");
        }
        Ok(Self { tls, authority: authority.to_owned(), uri })
    }
}

/// The `upstream` blocks of a file, by name.
pub(crate) fn blocks(root: &[Directive]) -> BTreeMap<&str, &Directive> {
    let inside = root.iter().filter(|directive| directive.name == "http").flat_map(Directive::children);
    let blocks = root.iter().chain(inside).filter(|directive| directive.name == "upstream");
    blocks.map(|block| (block.arg(0), block)).collect()
}

/// The addresses of the servers in an `upstream` block that nginx uses for requests.
pub(crate) fn servers(block: &Directive) -> impl Iterator<Item = &str> {
    let is_used = |line: &&Directive| !line.args.iter().any(|arg| arg == "down" || arg == "backup");
    let lines = block.children().iter().filter(|line| line.name == "server").filter(is_used);
    lines.map(|line| line.arg(0)).filter(|address| !address.starts_with("unix:") && Authority::parse(address).is_ok())
}

/// The `upstream` blocks of a file, and the upstreams that were made so far.
pub(crate) struct Pools<'a> {
    file: &'a Arc<str>,
    /// The folder that relative certificate paths start from.
    folder: &'a Path,
    blocks: BTreeMap<&'a str, &'a Directive>,
    /// The upstream names, by TLS, host and settings: locations with the same target and settings share an upstream.
    made: HashMap<(bool, String, String), String>,
}

impl<'a> Pools<'a> {
    pub(crate) fn new(file: &'a Arc<str>, folder: &'a Path, root: &'a [Directive]) -> Self {
        Self { file, folder, blocks: blocks(root), made: HashMap::new() }
    }

    /// True when `authority` is the name of an `upstream` block.
    pub(crate) fn has(&self, authority: &str) -> bool {
        self.blocks.contains_key(authority)
    }

    /// The name of the upstream for `target`. The upstream is added to `draft` if it does not exist yet. `None`: it has
    /// no endpoint.
    pub(crate) fn upstream(
        &mut self,
        target: &Target,
        chain: &Chain<'_>,
        path: &str,
        at: Position,
        draft: &mut Draft,
    ) -> Option<String> {
        let mut item = Item::new(blank_upstream(Vec::new()));
        self.timeouts(chain, &mut item);
        if target.tls {
            self.tls(chain, at, &mut item);
        }
        let upstream = &mut item.value;
        let settings = format!("{:?} {:?}", upstream.timeouts, upstream.tls);
        let key = (target.tls, target.authority.clone(), settings);
        if let Some(name) = self.made.get(&key) {
            return Some(name.clone());
        }
        let wanted = match self.blocks.get(target.authority.as_str()) {
            Some(block) => {
                self.servers(block, target.tls, &mut item);
                target.authority.clone()
            }
            None => {
                let address = with_port(&target.authority, target.tls);
                let host = Authority::parse(&target.authority).ok()?;
                item.value.endpoints.push(Endpoint { address, weight: 1 });
                // An IP address is not a helpful name for an upstream, so the location's path becomes the name.
                let is_only_address = host.is_address() || host.is_loopback();
                if is_only_address { path.trim_matches('/').replace('/', "-") } else { host.host().to_owned() }
            }
        };
        if item.value.endpoints.is_empty() {
            draft.notes.append(&mut item.notes);
            return None;
        }
        let name = Draft::name(&wanted, |name| draft.upstreams.contains_key(name));
        self.made.insert(key, name.clone());
        draft.upstreams.insert(name.clone(), item);
        Some(name)
    }

    fn timeouts(&self, chain: &Chain<'_>, item: &mut Item<Upstream>) {
        for (name, connect) in [("proxy_connect_timeout", true), ("proxy_read_timeout", false)] {
            let Some(directive) = chain.one(name) else { continue };
            let Some(span) = time(directive.arg(0)) else {
                let text = format!(
                    "`{name} {}` is not a valid timeout for the edge: the default is used",
                    excerpt(directive.arg(0))
                );
                item.note(self.file, directive.at, text);
                continue;
            };
            let timeouts = &mut item.value.timeouts;
            if connect {
                timeouts.connect = Span(span);
            } else {
                // nginx has one timeout for the wait before a response and between its parts.
                (timeouts.response, timeouts.idle) = (Span(span), Span(span));
            }
        }
    }

    fn tls(&self, chain: &Chain<'_>, at: Position, item: &mut Item<Upstream>) {
        let path = |name: &str| chain.value(name).map(|path| self.folder.join(path));
        let verify = chain.value("proxy_ssl_verify") == Some("on");
        let (certificate, key) = (path("proxy_ssl_certificate"), path("proxy_ssl_certificate_key"));
        let mut tls = UpstreamTls {
            server_name: chain.value("proxy_ssl_name").filter(|name| !name.contains('$')).map(str::to_owned),
            ca: path("proxy_ssl_trusted_certificate"),
            certificate: None,
            key: None,
        };
        if let (Some(certificate), Some(key)) = (certificate, key) {
            (tls.certificate, tls.key) = (Some(certificate), Some(key));
        }
        if let Some(line) = chain.one("proxy_ssl_name").filter(|line| line.arg(0).contains('$')) {
            let text = "`proxy_ssl_name` has a variable, which the edge does not support: it asks for the certificate of the endpoint's host, unless you write `tls: {server_name: NAME}`";
            item.note(self.file, line.at, text);
        }
        if !verify {
            let text = "nginx did not verify the upstream's certificate, and the edge always does: for a private certificate authority, write `tls: {ca: FILE}`";
            item.note(self.file, chain.one("proxy_ssl_verify").map_or(at, |line| line.at), text);
        }
        item.value.tls = Some(tls);
    }

    /// Reads the directives of an `upstream` block.
    fn servers(&self, block: &Directive, tls: bool, item: &mut Item<Upstream>) {
        item.value.balance = Balance::RoundRobin;
        for line in block.children() {
            match line.name.as_str() {
                "server" => self.server(line, tls, item),
                "least_conn" => item.value.balance = Balance::LeastRequest,
                "random" => {
                    item.value.balance = Balance::Random;
                    if !line.args.is_empty() {
                        let text = "`random two` is not supported: the balance is random. See `balance: least_request`";
                        item.note(self.file, line.at, text);
                    }
                }
                "ip_hash" => item.value.balance = client_address(),
                "hash" => match hash(line.arg(0)) {
                    Some(balance) => item.value.balance = balance,
                    None => {
                        let text =
                            format!("`hash {}` is not supported: the balance is round robin", excerpt(line.arg(0)));
                        item.note(self.file, line.at, text);
                    }
                },
                "sticky" => {
                    let text = "`sticky` is not supported: the sealed id of an MCP session keeps it on its endpoint. For other routes, write `balance: {hash: {cookie: NAME}}`";
                    item.note(self.file, line.at, text);
                }
                // The edge always keeps connections open, shares state between threads and resolves names again.
                "keepalive" | "keepalive_timeout" | "keepalive_requests" | "keepalive_time" | "zone" | "resolver"
                | "resolver_timeout" => {}
                name => item.note(self.file, line.at, format!("`{}` of an upstream is not supported", excerpt(name))),
            }
        }
        if item.value.endpoints.is_empty() {
            let text = format!("the upstream `{}` has no server that can be imported", excerpt(block.arg(0)));
            item.note(self.file, block.at, text);
        }
    }

    fn server(&self, line: &Directive, tls: bool, item: &mut Item<Upstream>) {
        let shown = excerpt(line.arg(0));
        let address = with_port(line.arg(0), tls);
        if line.arg(0).starts_with("unix:") || Authority::parse(&address).is_err() {
            return item.note(self.file, line.at, format!("`server {shown}` is left out: it is not a TCP address"));
        }
        let mut weight = 1;
        for arg in line.args.iter().skip(1) {
            match arg.split_once('=').unwrap_or((arg, "")) {
                ("weight", number) => {
                    let (used, why) = weighted(number);
                    weight = used;
                    if let Some(why) = why {
                        item.note(
                            self.file,
                            line.at,
                            format!("weight `{}` of `{shown}` {why}: {used} is used", excerpt(number)),
                        );
                    }
                }
                ("down", _) => return item.note(self.file, line.at, format!("`server {shown} down` is left out")),
                ("backup", _) => {
                    let text =
                        format!("`server {shown} backup` is left out: the edge uses all endpoints that are healthy");
                    return item.note(self.file, line.at, text);
                }
                ("max_fails" | "fail_timeout", _) => {
                    let text = "nginx stopped using endpoints that failed (max_fails, fail_timeout): write `health: {mcp: {path: /mcp}}`, or `http:` or `tcp:`, so that the edge probes the endpoints";
                    if !item.notes.iter().any(|note| note.text == text) {
                        item.note(self.file, line.at, text);
                    }
                }
                // The edge always resolves names again.
                ("resolve", _) => {}
                (name, _) => {
                    item.note(self.file, line.at, format!("`{}` of `server {shown}` is not supported", excerpt(name)));
                }
            }
        }
        let same = |other: &&mut Endpoint| other.address == address;
        match item.value.endpoints.iter_mut().find(same) {
            Some(other) => other.weight = (other.weight + weight).min(u64::from(limits::WEIGHT)),
            None => item.value.endpoints.push(Endpoint { address, weight }),
        }
    }
}

/// The weight for `text`, and the reason why it is another one.
fn weighted(text: &str) -> (u64, Option<&'static str>) {
    let most = u64::from(limits::WEIGHT);
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if (1..=most).contains(&number) => (number, None),
        Ok(0) => (1, Some("is not a valid weight")),
        _ if is_number => (most, Some("is larger than the largest weight")),
        _ => (1, Some("is not a valid weight")),
    }
}

pub(crate) fn with_port(authority: &str, tls: bool) -> String {
    match Authority::parse(authority) {
        Ok(parsed) if parsed.port().is_none() => format!("{authority}:{}", if tls { 443 } else { 80 }),
        _ => authority.to_owned(),
    }
}

fn client_address() -> Balance {
    Balance::Hash(HashOn { client_address: true, ..HashOn::default() })
}

/// The balance for `hash KEY`. `None`: the edge cannot hash this key.
fn hash(key: &str) -> Option<Balance> {
    if matches!(key, "$remote_addr" | "$binary_remote_addr") {
        return Some(client_address());
    }
    let on = if let Some(name) = key.strip_prefix("$http_") {
        HashOn { header: name.replace('_', "-").parse().ok(), ..HashOn::default() }
    } else {
        HashOn { cookie: key.strip_prefix("$cookie_").map(str::to_owned), ..HashOn::default() }
    };
    (on.header.is_some() || on.cookie.is_some()).then_some(Balance::Hash(on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = |tls, authority: &str, uri: Option<&str>| {
            Ok(Target { tls, authority: authority.to_owned(), uri: uri.map(str::to_owned) })
        };
        assert_eq!(Target::parse("http://a:8001/"), target(false, "a:8001", Some("/")));
        assert_eq!(Target::parse("http://a_b"), target(false, "a_b", None));
        assert_eq!(Target::parse("https://[::1]:8443/x/y?z"), target(true, "[::1]:8443", Some("/x/y?z")));
        for url in ["$backend", "http://$host:1/", "grpc://a", "http://unix:/run/x:/", "http://", "http://a b/"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert_eq!(with_port("a", false), "a:80");
        assert_eq!(with_port("[::1]", true), "[::1]:443");
        assert_eq!(with_port("a:1", true), "a:1");
    }

    #[test]
    fn weights() {
        for (text, expected) in [("3", 3), ("256", 256), ("257", 256), ("99999999999999999999", 256)] {
            assert_eq!(weighted(text).0, expected, "{text}");
        }
        for text in ["0", "", "abc", "-1", "+2x"] {
            assert_eq!(weighted(text), (1, Some("is not a valid weight")), "{text}");
        }
    }

    #[test]
    fn hashes() {
        let header = |name: &str| Some(Balance::Hash(HashOn { header: name.parse().ok(), ..HashOn::default() }));
        assert_eq!(hash("$http_mcp_session_id"), header("mcp-session-id"));
        assert_eq!(hash("$remote_addr"), Some(client_address()));
        assert!(matches!(hash("$cookie_sid"), Some(Balance::Hash(on)) if on.cookie.as_deref() == Some("sid")));
        assert_eq!(hash("$request_uri"), None);
    }
}
