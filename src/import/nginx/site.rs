//! Finds the servers and locations of nginx's directives, and the directives that apply in each of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::Directive;
use crate::config::text::Position;
use crate::config::written::Host;
use crate::types::excerpt;

/// The blocks around a directive, from the whole file to the innermost block, each without its servers and locations.
#[derive(Clone, Debug)]
pub(crate) struct Chain<'a>(Vec<Rc<[&'a Directive]>>);

impl<'a> Chain<'a> {
    pub(crate) fn new(root: &'a [Directive]) -> Self {
        Self(Vec::new()).with(root)
    }

    fn with(&self, block: &'a [Directive]) -> Self {
        let is_setting = |directive: &&Directive| !matches!(directive.name.as_str(), "server" | "location");
        let mut blocks = self.0.clone();
        blocks.push(block.iter().filter(is_setting).collect());
        Self(blocks)
    }

    /// The directives `name` of the innermost block itself.
    pub(crate) fn own(&self, name: &str) -> Vec<&'a Directive> {
        self.0
            .last()
            .into_iter()
            .flat_map(|block| block.iter())
            .copied()
            .filter(|directive| directive.name == name)
            .collect()
    }

    /// The directives of the server and of its locations, without those of the blocks around the server.
    pub(crate) fn of_site(&self, site: &Self) -> impl Iterator<Item = &'a Directive> {
        self.0.iter().skip(site.0.len().saturating_sub(1)).flat_map(|block| block.iter().copied())
    }

    /// The directives of the blocks around the server.
    pub(crate) fn around_site(&self, site: &Self) -> impl Iterator<Item = &'a Directive> {
        self.0.iter().take(site.0.len().saturating_sub(1)).flat_map(|block| block.iter().copied())
    }

    /// The directives `name` that apply here: those of the innermost block that has any.
    pub(crate) fn effective(&self, name: &str) -> Vec<&'a Directive> {
        let blocks = self.0.iter().rev();
        let mut found =
            blocks.map(|block| block.iter().copied().filter(|directive| directive.name == name).collect::<Vec<_>>());
        found.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The last directive `name` that applies here.
    pub(crate) fn one(&self, name: &str) -> Option<&'a Directive> {
        self.effective(name).last().copied()
    }

    /// The first argument of the last directive `name` that applies here.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.one(name).map(|directive| directive.arg(0))
    }

    /// All directives of all blocks of the chain.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a Directive> {
        self.0.iter().flat_map(|block| block.iter().copied())
    }
}

/// A `server` block. A file with locations outside of a `server` block counts as a server too.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) chain: Chain<'a>,
    pub(crate) at: Position,
    /// False for locations outside of a `server` block.
    pub(crate) is_server: bool,
    pub(crate) locations: Vec<Location<'a>>,
}

/// A `location` block.
#[derive(Debug)]
pub(crate) struct Location<'a> {
    pub(crate) kind: Kind,
    /// The path as written, or the regular expression.
    pub(crate) path: String,
    /// `=`, `^~`, `~`, `~*` or nothing.
    sign: &'a str,
    pub(crate) chain: Chain<'a>,
    pub(crate) at: Position,
    /// The index of the location that contains this one.
    pub(crate) parent: Option<usize>,
}

impl Location<'_> {
    /// True for `^~`: nginx then does not try the regular expressions beside it.
    pub(crate) fn is_final(&self) -> bool {
        self.sign == "^~"
    }

    /// True for `~*`: the regular expression ignores case.
    pub(crate) fn ignores_case(&self) -> bool {
        self.sign == "~*"
    }

    /// The location as written, in backticks and without line breaks.
    pub(crate) fn shown(&self) -> String {
        let space = if self.sign.is_empty() { "" } else { " " };
        format!("`location {}{space}{}`", self.sign, excerpt(&self.path))
    }
}

/// How a location matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/x/` and `^~ /x/`.
    Prefix,
    /// `= /x`.
    Exact,
    /// `~ ...`.
    Regex,
    /// `@name`.
    Named,
}

/// The servers of a file.
pub(crate) fn sites(root: &[Directive]) -> Vec<Site<'_>> {
    let chain = Chain::new(root);
    let mut sites = Vec::new();
    if root.iter().any(|directive| directive.name == "location") {
        sites.push(site(root, chain.clone(), (1, 1), false));
    }
    for directive in root {
        match directive.name.as_str() {
            "server" => sites.push(site(directive.children(), chain.with(directive.children()), directive.at, true)),
            "http" => {
                let chain = chain.with(directive.children());
                let servers = directive.children().iter().filter(|inner| inner.name == "server");
                sites.extend(
                    servers.map(|server| site(server.children(), chain.with(server.children()), server.at, true)),
                );
            }
            _ => {}
        }
    }
    sites
}

fn site<'a>(block: &'a [Directive], chain: Chain<'a>, at: Position, is_server: bool) -> Site<'a> {
    let mut locations = Vec::new();
    add_locations(block, &chain, None, &mut locations);
    Site { chain, at, is_server, locations }
}

/// Adds the locations of `block` and their inner locations. The parser limits how deep blocks are nested.
fn add_locations<'a>(
    block: &'a [Directive],
    chain: &Chain<'a>,
    parent: Option<usize>,
    locations: &mut Vec<Location<'a>>,
) {
    for directive in block.iter().filter(|directive| directive.name == "location") {
        let chain = chain.with(directive.children());
        let (sign, path) = matcher(directive);
        let kind = match sign {
            "=" => Kind::Exact,
            "~" | "~*" => Kind::Regex,
            _ if path.starts_with('@') => Kind::Named,
            _ => Kind::Prefix,
        };
        let index = locations.len();
        locations.push(Location { kind, path: path.to_owned(), sign, chain: chain.clone(), at: directive.at, parent });
        add_locations(directive.children(), &chain, Some(index), locations);
    }
}

/// The sign and the path of a location. There may be no space between them.
fn matcher(location: &Directive) -> (&str, &str) {
    match location.args.as_slice() {
        [sign, path, ..] => (sign.as_str(), path.as_str()),
        [path] => {
            let sign = ["=", "^~", "~*", "~"].into_iter().find(|sign| path.starts_with(sign)).unwrap_or_default();
            (sign, &path[sign.len()..])
        }
        [] => ("", ""),
    }
}

impl<'a> Site<'a> {
    /// The hosts of `server_name` (empty: any host), and the names that are not valid hosts for the edge.
    pub(crate) fn hosts(&self) -> (Vec<Host>, Vec<(&'a str, Position)>) {
        let (mut hosts, mut other): (Vec<Host>, _) = (Vec::new(), Vec::new());
        let names = self.chain.own("server_name");
        let names: Vec<(&str, Position)> =
            names.iter().flat_map(|line| line.args.iter().map(|name| (name.as_str(), line.at))).collect();
        for (name, at) in names {
            if matches!(name, "_" | "") {
                return (Vec::new(), Vec::new());
            }
            // `.x` means `x` and `*.x`.
            let wildcard = name.strip_prefix('.').map(|name| format!("*.{name}"));
            let candidates = [Some(name.trim_start_matches('.')), wildcard.as_deref()];
            let parsed: Vec<Host> = candidates.into_iter().flatten().filter_map(|name| name.parse().ok()).collect();
            if parsed.is_empty() || name.contains(['$', '~']) {
                other.push((name, at));
            }
            for host in parsed {
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
        }
        (hosts, other)
    }
}

/// One `listen` directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    pub(crate) ssl: bool,
    pub(crate) proxy_protocol: bool,
    /// `[::]`, where nginx accepts only IPv6 connections.
    pub(crate) only_ipv6: bool,
}

/// Reads a `listen` directive. `None`: it is not a TCP address.
pub(crate) fn listen(directive: &Directive) -> Option<Listen> {
    let has = |word: &str| directive.args.iter().skip(1).any(|arg| arg == word);
    let text = directive.arg(0);
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let address = if let Ok(port) = text.parse::<u16>() {
        SocketAddr::new(any, port)
    } else if let Ok(address) = text.parse::<SocketAddr>() {
        address
    } else if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        SocketAddr::new(ip, 80)
    } else {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "80"));
        let ip = match host {
            "*" => any,
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            "[::]" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        SocketAddr::new(ip, port.parse().ok()?)
    };
    let only_ipv6 = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has("ipv6only=off");
    (!has("quic")).then(|| Listen { address, ssl: has("ssl"), proxy_protocol: has("proxy_protocol"), only_ipv6 })
}

/// Reads a duration of nginx: `60`, `60s`, `1m 30s`, `500ms`. `None`: it is not valid, or it is zero.
pub(crate) fn time(text: &str) -> Option<Duration> {
    const YEAR: u64 = 365 * 86_400_000;
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|sign: char| sign.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let unit = match rest[digits..end].trim() {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "M" => 30 * 86_400_000,
            "y" => YEAR,
            _ => return None,
        };
        millis = millis.saturating_add(number.saturating_mul(unit));
        rest = &rest[end..];
    }
    (millis > 0).then(|| Duration::from_millis(millis.min(YEAR)))
}

/// Reads a size of nginx: bytes, `k`, `m` or `g`. `None`: it is not valid, or zero, which means no limit in nginx.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx;

    #[test]
    fn the_innermost_block_with_the_directive_applies() {
        let root = nginx::parse(
            "h A 1; http { h B 1; h B 2; server { location /x { h C; location /x/y {} } location /z {} } }",
        );
        let root = root.expect("valid input");
        let sites = sites(&root);
        let found: Vec<(String, String)> = sites[0]
            .locations
            .iter()
            .map(|location| {
                let args = location.chain.effective("h").iter().map(|line| line.args.join("")).collect::<Vec<_>>();
                (location.path.clone(), args.join(" "))
            })
            .collect();
        let expected = [("/x", "C"), ("/x/y", "C"), ("/z", "B1 B2")];
        assert_eq!(found, expected.map(|(path, args)| (path.to_owned(), args.to_owned())));
    }

    #[test]
    fn locations_match_in_four_ways() {
        let text = "location /a {} location = /b {} location =/c {} location ^~ /d/ {} location ^~/e {} location ~ ^/f {} \
                    location ~* \\.g$ {} location ~^/h {} location @i {}";
        let root = nginx::parse(text).expect("valid input");
        let sites = sites(&root);
        let found: Vec<(Kind, &str)> =
            sites[0].locations.iter().map(|location| (location.kind, location.path.as_str())).collect();
        use Kind::*;
        let expected = [
            (Prefix, "/a"),
            (Exact, "/b"),
            (Exact, "/c"),
            (Prefix, "/d/"),
            (Prefix, "/e"),
            (Regex, "^/f"),
            (Regex, "\\.g$"),
            (Regex, "^/h"),
            (Named, "@i"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn addresses_times_and_sizes() {
        for (text, expected) in [
            ("80", Some("0.0.0.0:80")),
            ("*:81", Some("0.0.0.0:81")),
            ("127.0.0.1", Some("127.0.0.1:80")),
            ("[::1]:82", Some("[::1]:82")),
            ("[::]", Some("[::]:80")),
            ("localhost:83", Some("127.0.0.1:83")),
            ("unix:/run/x", None),
            ("edge:80", None),
            ("99999", None),
        ] {
            let directive = Directive { args: vec![text.to_owned()], ..Directive::default() };
            assert_eq!(listen(&directive).map(|listen| listen.address.to_string()).as_deref(), expected, "{text}");
        }
        for (text, millis) in [("60", 60_000), ("1m30s", 90_000), ("500ms", 500), ("1m 5", 65_000)] {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "x", "5q", "s", "99999999999999999999"] {
            assert_eq!(time(text), None, "{text}");
        }
        assert_eq!((size("10m"), size("8K"), size("7")), (Some(10 << 20), Some(8 << 10), Some(7)));
        assert_eq!((size("0"), size("m"), size("99999999999999999g")), (None, None, None));
    }

    #[test]
    fn names_of_servers() {
        let root = nginx::parse("server { server_name a.x .y *.z a.x ~^q$ w.*; } server { server_name a _; }")
            .expect("valid input");
        let sites = sites(&root);
        let (hosts, other) = sites[0].hosts();
        assert_eq!(hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.x", "y", "*.y", "*.z"]);
        assert_eq!(other.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["~^q$", "w.*"]);
        assert_eq!(sites[1].hosts().0.len(), 0);
    }
}
