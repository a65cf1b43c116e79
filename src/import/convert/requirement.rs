//! What nginx required of callers before it served their requests.

use super::gate::Gates;
use super::restriction::{closed_by, is_refusal};
use crate::config::text::Position;
use crate::config::written::RouteAuth;
use crate::import::draft::Draft;
use crate::import::draft::blank::CLOSED;
use crate::import::nginx::Directive;
use crate::import::nginx::site::{Chain, Site};

/// What is required of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    Nothing,
    /// This provider must authenticate the caller.
    Caller(String),
    /// All requests are rejected.
    Nobody,
}

impl Requirement {
    /// The requirement of a route that serves the requests of both. Providers cannot be compared, so a route with two
    /// different providers rejects all requests.
    pub(crate) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) => other.clone(),
            (own, Self::Nothing) => own.clone(),
            (Self::Caller(own), Self::Caller(other)) if own == other => self.clone(),
            _ => Self::Nobody,
        }
    }

    /// The requirement of a route with `auth`, without its rules.
    pub(crate) fn by(auth: &RouteAuth) -> Self {
        match auth {
            RouteAuth::None => Self::Nothing,
            RouteAuth::Required(required) if required.scopes.iter().any(|scope| scope.to_string() == CLOSED) => {
                Self::Nobody
            }
            RouteAuth::Required(required) => match required.providers.as_slice() {
                [provider] => Self::Caller(provider.clone()),
                _ => Self::Nobody,
            },
        }
    }
}

/// The requirement at one place of an nginx configuration.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// What was required of callers.
    pub(crate) asked: Requirement,
    pub(crate) at: Position,
    /// Why all requests are rejected, as a clause to follow "because"; otherwise empty.
    pub(crate) why: String,
}

/// Directives other than `proxy_pass` that answer requests after access was checked.
const CONTENT: [&str; 10] = [
    "alias",
    "autoindex",
    "content_by_lua_block",
    "content_by_lua_file",
    "fastcgi_pass",
    "grpc_pass",
    "scgi_pass",
    "stub_status",
    "try_files",
    "uwsgi_pass",
];

impl Demand {
    /// The requirement where `chain` applies. It is the chain of a location, or of `site` itself.
    pub(crate) fn of(
        site: &Site<'_>,
        chain: &Chain<'_>,
        at: Position,
        gates: &mut Gates<'_>,
        draft: &mut Draft,
    ) -> Self {
        let nobody = |at: Position, why: &str| Self { asked: Requirement::Nobody, at, why: why.to_owned() };
        if chain.all().any(|line| line.name == "internal") {
            return nobody(at, "the location is `internal`");
        }
        if let Some(line) = chain.own("return").first() {
            // nginx runs `return` before all access checks except `internal`.
            return match answers(line) {
                true => Self { asked: Requirement::Nothing, at, why: String::new() },
                false => nobody(line.at, "its `return` gives an error or an unknown status"),
            };
        }
        let provider = gates.provider(site, chain, draft);
        if let Some((at, why)) = closed_by(&site.chain, chain, provider.is_some(), gates.with_scopes) {
            return nobody(at, &why);
        }
        let answers = ["proxy_pass"].iter().chain(&CONTENT).any(|name| !chain.own(name).is_empty());
        if !answers && chain.one("root").is_none() {
            return nobody(at, "it has no directive that answers requests");
        }
        Self { asked: provider.map_or(Requirement::Nothing, Requirement::Caller), at, why: String::new() }
    }
}

/// True for a `return` of a text or a redirect. False for an error, and for a status that is not known.
fn answers(line: &Directive) -> bool {
    let is_status = line.arg(0).starts_with(['2', '3']) && line.arg(0).len() == 3;
    !is_refusal(line) && (is_status || line.arg(0).starts_with("http"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    fn requirement(text: &str) -> Requirement {
        let text = format!("{text} location = /v {{ internal; proxy_pass http://auth:1; }}");
        let root = nginx::parse(&text).expect("valid input");
        let sites = site::sites(&root);
        let location = &sites[0].locations[0];
        let file = "n".into();
        let mut gates = Gates::new(&file, &root, false);
        Demand::of(&sites[0], &location.chain, location.at, &mut gates, &mut Draft::default()).asked
    }

    #[test]
    fn requirements_of_locations() {
        let caller = Requirement::Caller("v".to_owned());
        for (text, expected) in [
            ("location /x { proxy_pass http://a; }", Requirement::Nothing),
            ("location /x { proxy_pass http://a; auth_request /v; }", caller.clone()),
            ("auth_request /v; location /x { proxy_pass http://a; }", caller.clone()),
            ("auth_request /v; location /x { alias /a; }", caller),
            ("auth_request /v; location /x { proxy_pass http://a; auth_request off; }", Requirement::Nothing),
            ("auth_request /v; location /x { return 302 /y; }", Requirement::Nothing),
            ("root /a; location /x { expires 1y; }", Requirement::Nothing),
            ("location /x { expires 1y; }", Requirement::Nobody),
            ("location /x { }", Requirement::Nobody),
            ("location /x { return 404; proxy_pass http://a; }", Requirement::Nobody),
            ("location /x { return $code; }", Requirement::Nobody),
            ("location /x { internal; proxy_pass http://a; }", Requirement::Nobody),
            ("location /x { internal; return 200; }", Requirement::Nobody),
            ("deny all; location /x { proxy_pass http://a; }", Requirement::Nobody),
        ] {
            assert_eq!(requirement(text), expected, "{text}");
        }
    }

    #[test]
    fn the_stricter_requirement_applies() {
        let of = |name: &str| Requirement::Caller(name.to_owned());
        assert_eq!(Requirement::Nothing.and(&of("a")), of("a"));
        assert_eq!(of("a").and(&Requirement::Nothing), of("a"));
        assert_eq!(of("a").and(&of("a")), of("a"));
        assert_eq!(of("a").and(&of("b")), Requirement::Nobody);
        assert_eq!(Requirement::Nobody.and(&Requirement::Nothing), Requirement::Nobody);
    }
}
