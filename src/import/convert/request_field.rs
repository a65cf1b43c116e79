//! Decides what a location does with one header field of its requests, and which fields it does not take from clients.

use http::HeaderName;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};

use super::secret::may_be_secret;
use crate::config::text::Position;
use crate::config::written::{Header, HeaderText};
use crate::import::nginx::site::Chain;
use crate::types::is_connection_field;

/// What `proxy_set_header` does with a field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Host,
    Upgrade,
    Connection,
    Authorization,
    /// The edge sets this field itself.
    ByEdge,
    /// The field belongs to one connection.
    OfConnection,
    /// The upstream gets the client's value, as it does without the directive.
    Kept,
    /// The upstream gets no such field.
    Removed,
    /// The value has variables, which the edge does not support.
    Variable,
    /// The value may be a secret.
    Secret,
    Set(HeaderText),
    /// The edge cannot send this value.
    Invalid,
}

/// Header fields that the edge sets itself.
const BY_EDGE: &[&str] = &[
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

/// The values that the edge also sends, by field.
const USUAL: &[(&str, &[&str])] = &[
    ("x-forwarded-for", &["$proxy_add_x_forwarded_for", "$remote_addr"]),
    ("x-forwarded-host", &["$host", "$http_host", "$host:$server_port", "$server_name"]),
    ("x-forwarded-proto", &["$scheme"]),
    ("x-request-id", &["$request_id"]),
    ("x-original-method", &["$request_method"]),
    ("x-original-uri", &["$request_uri"]),
    ("x-original-url", &["$scheme://$host$request_uri", "$scheme://$http_host$request_uri"]),
];

/// What `proxy_set_header NAME VALUE` does.
pub(crate) fn change(name: &HeaderName, value: &str) -> Change {
    if *name == HOST {
        Change::Host
    } else if *name == UPGRADE {
        Change::Upgrade
    } else if *name == CONNECTION {
        Change::Connection
    } else if *name == AUTHORIZATION {
        Change::Authorization
    } else if BY_EDGE.contains(&name.as_str()) {
        Change::ByEdge
    } else if is_of_connection(name) {
        Change::OfConnection
    } else if value == format!("$http_{}", name.as_str().replace('-', "_")) {
        Change::Kept
    } else if value.is_empty() {
        Change::Removed
    } else if value.contains('$') {
        Change::Variable
    } else if may_be_secret(name, value) {
        Change::Secret
    } else {
        value.parse().map_or(Change::Invalid, Change::Set)
    }
}

/// True when the edge sends about the same `value` in a field that it sets itself.
pub(crate) fn is_usual(name: &HeaderName, value: &str) -> bool {
    USUAL.iter().any(|(field, values)| name.as_str() == *field && values.contains(&value))
}

pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    is_connection_field(name) || *name == CONTENT_LENGTH
}

/// The fields that upstreams never got from clients where `chain` applies, and whether `Authorization` is one of them,
/// which is not in the list.
pub(crate) fn overwritten(chain: &Chain<'_>) -> (Vec<Header>, bool) {
    let lines = chain.effective("proxy_set_header").into_iter();
    let set = lines.filter_map(|line| Some((line.arg(0).parse::<HeaderName>().ok()?, line.arg(1))));
    let (mut names, mut hides_token) = (Vec::new(), false);
    for (name, value) in set.chain(taken_out(chain).into_iter().map(|name| (name, ""))) {
        match change(&name, value) {
            Change::Authorization => hides_token |= value != "$http_authorization",
            Change::Removed | Change::Variable | Change::Secret | Change::Set(_) | Change::Invalid => {
                let name = Header(name);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            Change::Host
            | Change::Upgrade
            | Change::Connection
            | Change::ByEdge
            | Change::OfConnection
            | Change::Kept => {}
        }
    }
    (names, hides_token)
}

/// The fields that `more_clear_input_headers` and `more_set_input_headers` name. Patterns are left out.
pub(crate) fn taken_out(chain: &Chain<'_>) -> Vec<HeaderName> {
    named(chain).into_iter().filter(|(name, _)| !name.contains('*')).filter_map(|(name, _)| name.parse().ok()).collect()
}

/// The first `more_clear_input_headers` with a pattern such as `X-*`.
pub(crate) fn pattern(chain: &Chain<'_>) -> Option<Position> {
    named(chain).into_iter().find(|(name, _)| name.contains('*')).map(|(_, at)| at)
}

/// The names in `more_clear_input_headers` and `more_set_input_headers`. Each argument is a name, or a name and a value
/// after a colon.
fn named<'a>(chain: &Chain<'a>) -> Vec<(&'a str, Position)> {
    let is_one = |name: &str| matches!(name, "more_clear_input_headers" | "more_set_input_headers");
    let mut names = Vec::new();
    for line in chain.all().filter(|line| is_one(&line.name)) {
        let mut is_type = false;
        for arg in &line.args {
            if !std::mem::replace(&mut is_type, arg == "-t") && !arg.starts_with('-') {
                names.push((arg.split(':').next().unwrap_or_default().trim(), line.at));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    #[test]
    fn what_upstreams_never_get_from_clients() {
        let of = |text: &str| {
            let root = nginx::parse(&format!("location /x/ {{ {text} }}")).expect("valid input");
            let (names, hides_token) = overwritten(&site::sites(&root)[0].locations[0].chain);
            (names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), hides_token)
        };
        let names = |names: &str, hides_token| (names.to_owned(), hides_token);
        assert_eq!(
            of("proxy_set_header X-A \"\"; proxy_set_header X-B b; proxy_set_header X-C $c;"),
            names("x-a x-b x-c", false)
        );
        assert_eq!(of("proxy_set_header X-Key k; proxy_set_header X-D \"\u{1}\";"), names("x-key x-d", false));
        assert_eq!(
            of("proxy_set_header X-A $http_x_a; proxy_set_header Host a; proxy_set_header X-User b;"),
            names("", false)
        );
        assert_eq!(of("proxy_set_header Authorization $http_authorization;"), names("", false));
        assert_eq!(of("proxy_set_header Authorization \"Bearer $t\";"), names("", true));
        let text = "more_clear_input_headers -t 'text/plain' X-A 'X-B: ' X-C*; more_set_input_headers -r 'X-D: d' Authorization;";
        assert_eq!(of(text), names("x-a x-b x-d", true));
    }
}
