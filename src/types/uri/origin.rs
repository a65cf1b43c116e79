//! Origins of web pages: in the `Origin` field of browsers, and in the configuration.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

use super::host;
use super::host::{Authority, HostPattern};
use crate::types::excerpt::excerpt;

/// A serialized origin (RFC 6454 section 6.2), `scheme://host[:port]`, in lower case. The text `null` is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The text is not a valid origin, or not a valid pattern of origins.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OriginError {
    /// The text does not have the form of an origin.
    #[error(
        "`{0}` is not a valid origin: write `SCHEME://HOST` or `SCHEME://HOST:PORT`, such as `https://app.example`"
    )]
    Origin(String),
    /// The text does not have the form of a pattern.
    #[error(
        "`{0}` is not a valid origin: write one such as `https://app.example`, `http://localhost:*` (any port), \
         `https://*.example`, `moz-extension://*` (extensions only), or `*` for all"
    )]
    Pattern(String),
    /// The text contains a user name, and perhaps a password. So the error does not repeat it.
    #[error("an origin cannot contain a user name or a password: write one such as `https://app.example`")]
    User,
    /// The text continues after the host and the port.
    #[error("`{0}` has a path or a query, but an origin cannot have one: write `{1}`")]
    Path(String, String),
}

impl Origin {
    /// The scheme, such as `https`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The host; an IPv6 address has brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port. `None` when it is the default port of the scheme.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// True for `localhost`, names below `localhost`, 127.0.0.0/8 and `[::1]`.
    pub fn is_loopback(&self) -> bool {
        host::is_loopback(&self.host)
    }

    /// True when this is the origin of a server that is reached with `scheme` at `authority`.
    pub fn same_as(&self, scheme: &str, authority: &Authority<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
            && self.host == canonical(authority.host())
            && self.port == other_than_default(&self.scheme, authority.port())
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let bad = || OriginError::Origin(excerpt(text));
        let (scheme, rest) = split(text, bad)?;
        let (host, port) = host_and_port(rest).ok_or_else(bad)?;
        Ok(Self { port: other_than_default(&scheme, port), scheme, host })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match port {
            Some(port) => write!(f, "{scheme}://{host}:{port}"),
            None => write!(f, "{scheme}://{host}"),
        }
    }
}

/// A pattern of origins in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: all origins.
    Any,
    /// This origin only.
    Exact(Origin),
    /// `moz-extension://*`: all origins of a scheme that web pages do not have.
    AnyHost {
        /// The scheme in lower case.
        scheme: String,
    },
    /// `http://localhost:*`: the host with any port.
    AnyPort {
        /// The scheme in lower case.
        scheme: String,
        /// The host, or a wildcard.
        host: HostPattern,
    },
    /// `https://*.example`: all hosts below a name.
    Below {
        /// The scheme in lower case.
        scheme: String,
        /// The wildcard.
        host: HostPattern,
        /// The port. `None` when it is the default port of the scheme.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// True when the pattern matches `origin`.
    pub fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == origin,
            Self::AnyHost { scheme } => *scheme == origin.scheme,
            Self::AnyPort { scheme, host } => *scheme == origin.scheme && host.matches(&origin.host),
            Self::Below { scheme, host, port } => {
                *scheme == origin.scheme && *port == origin.port && host.matches(&origin.host)
            }
        }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bad = || OriginError::Pattern(excerpt(text));
        let (scheme, rest) = split(text, bad)?;
        // Each installation of an extension or of an editor has a host of its own.
        if rest == "*" && !["http", "https", "file"].contains(&scheme.as_str()) {
            return Ok(Self::AnyHost { scheme });
        }
        let (below, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        let (any_port, rest) = rest.strip_suffix(":*").map_or((false, rest), |rest| (true, rest));
        let (host, port) = host_and_port(rest).ok_or_else(bad)?;
        if (any_port && port.is_some()) || (below && host.starts_with('[')) {
            return Err(bad());
        }
        let port = other_than_default(&scheme, port);
        Ok(match (below, any_port) {
            (false, false) => Self::Exact(Origin { scheme, host, port }),
            (true, false) => Self::Below { scheme, host: HostPattern::Wildcard(host), port },
            (false, true) => Self::AnyPort { scheme, host: HostPattern::Exact(host) },
            (true, true) => Self::AnyPort { scheme, host: HostPattern::Wildcard(host) },
        })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => origin.fmt(f),
            Self::AnyHost { scheme } => write!(f, "{scheme}://*"),
            Self::AnyPort { scheme, host } => write!(f, "{scheme}://{host}:*"),
            Self::Below { scheme, host, port: Some(port) } => write!(f, "{scheme}://{host}:{port}"),
            Self::Below { scheme, host, port: None } => write!(f, "{scheme}://{host}"),
        }
    }
}

/// The scheme (RFC 3986 section 3.1) in lower case, and the text after `://`.
fn split(text: &str, bad: impl Fn() -> OriginError) -> Result<(String, &str), OriginError> {
    if text.contains('@') {
        return Err(OriginError::User);
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(&bad)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(legal) {
        return Err(bad());
    }
    match rest.find(['/', '?', '#']) {
        None => Ok((scheme.to_ascii_lowercase(), rest)),
        Some(0) => Err(bad()),
        Some(end) => Err(OriginError::Path(excerpt(text), excerpt(&text[..text.len() - rest.len() + end]))),
    }
}

/// The host, and the port if there is one. An empty port, and a port with leading zeros, is refused: no browser sends
/// it.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let authority = Authority::parse(text).ok()?;
    let whole = match authority.port() {
        Some(port) => text.ends_with(&format!(":{port}")),
        None => !text.ends_with(':'),
    };
    whole.then(|| (canonical(authority.host()).into_owned(), authority.port()))
}

/// Brings an IPv6 address into its canonical form (RFC 5952).
fn canonical(host: &str) -> Cow<'_, str> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        Some(address) => Cow::Owned(format!("[{address}]")),
        None => Cow::Borrowed(host),
    }
}

fn other_than_default(scheme: &str, port: Option<u16>) -> Option<u16> {
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    port.filter(|_| port != default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(text: &str) -> Origin {
        text.parse().expect("legal")
    }

    fn pattern(text: &str) -> OriginPattern {
        text.parse().expect("legal")
    }

    #[test]
    fn origins_have_one_form() {
        for (text, form) in [
            ("https://App.Example", "https://app.example"),
            ("HTTPS://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:80", "https://app.example:80"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(origin(text).to_string(), form);
            assert_eq!(origin(form), origin(text));
        }
    }

    #[test]
    fn what_browsers_do_not_send_is_refused() {
        for text in [
            "",
            "null",
            "*",
            "app.example",
            "https:app.example",
            "https://",
            "://app.example",
            "1s://app.example",
            "https://app.example/",
            "https://app.example?",
            "https://app.example#a",
            "https://app.example:",
            "https://app.example:0443",
            "https://app.example:65536",
            "https://user@app.example",
            "https:///a",
            "https://a.example https://b.example",
            "https://a.example,https://b.example",
            " https://a.example",
            "https://*.example",
            "http://localhost:*",
            "https://[::1",
            "https://ä.example",
            "ht tp://a",
            "https://a\\b",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for text in ["http://localhost:3000", "https://a.localhost", "http://127.8.9.1", "http://[::1]:80"] {
            assert!(origin(text).is_loopback(), "{text}");
        }
        for text in [
            "http://localhost.example",
            "http://notlocalhost",
            "http://127.0.0.1.example",
            "http://128.0.0.1",
            "http://[::2]",
            "http://0.0.0.0",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(!origin(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_compared_with_that_of_the_server() {
        let same = |text: &str, scheme: &str, authority: &str| {
            origin(text).same_as(scheme, &Authority::parse(authority).expect("legal"))
        };
        assert!(same("https://edge.example", "https", "Edge.example:443"));
        assert!(same("https://edge.example:443", "https", "edge.example"));
        assert!(same("http://edge.example:8080", "http", "edge.example:8080"));
        assert!(same("http://[::1]:8080", "http", "[0::1]:8080"));
        assert!(!same("https://edge.example", "http", "edge.example"));
        assert!(!same("http://edge.example", "http", "edge.example:443"));
        assert!(!same("http://edge.example:8080", "http", "edge.example"));
        assert!(!same("http://edge.example.evil", "http", "edge.example"));
    }

    #[test]
    fn patterns() {
        for (text, fits, others) in [
            ("*", &["https://a.example", "http://localhost:1", "app://x"][..], &[][..]),
            (
                "vscode-webview://*",
                &["vscode-webview://0a1b2c", "vscode-webview://x.y"],
                &["https://0a1b2c", "vscode-webviews://a"],
            ),
            (
                "https://App.example:443",
                &["https://app.example"],
                &[
                    "http://app.example",
                    "https://app.example:8443",
                    "https://a.app.example",
                    "https://app.example.evil",
                ],
            ),
            ("https://app.example:8443", &["https://app.example:8443"], &["https://app.example"]),
            (
                "http://localhost:*",
                &["http://localhost", "http://localhost:3000"],
                &["https://localhost:3000", "http://localhost.example:3000", "http://a.localhost"],
            ),
            ("http://[::1]:*", &["http://[::1]:3000", "http://[::1]"], &["http://[::2]"]),
            (
                "https://*.example",
                &["https://a.example", "https://a.b.example"],
                &["https://example", "https://badexample", "https://a.example:8443", "http://a.example"],
            ),
            ("https://*.example:8443", &["https://a.example:8443"], &["https://a.example"]),
            ("https://*.example:*", &["https://a.example:8443", "https://a.example"], &["https://example:1"]),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
            assert!(fits.iter().all(|text| pattern.matches(&origin(text))), "{text}");
            assert!(!others.iter().any(|text| pattern.matches(&origin(text))), "{text}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_pattern_says_what_to_write() {
        for text in [
            "",
            "null",
            "**",
            "app.example",
            "*.example",
            "https://*",
            "https://*:*",
            "https://a.*.example",
            "*://a.example",
            "https://a*.example",
            "https://app.example:*:*",
            "https://app.example:443:*",
            "https://app.example::*",
            "https://*.*.example",
            "https://*.[::1]",
        ] {
            let error = text.parse::<OriginPattern>().expect_err("illegal").to_string();
            assert!(error.contains("write one such as `https://app.example`"), "{text}: {error}");
        }
        let error = |text: &str| text.parse::<OriginPattern>().expect_err("illegal").to_string();
        assert!(error("https://*.example/app").ends_with("write `https://*.example`"));
        assert!(!error("https://user:hunter2@app.example").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn an_origin_is_read_as_it_is_shown(text in "(https?|app)://[a-cA-C.*\\[\\]:1@/]{0,8}(:[0-9*]{0,5})?") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string().parse(), Ok(origin.clone()));
                prop_assert!(text.parse::<OriginPattern>().is_ok_and(|pattern| pattern.matches(&origin)));
            }
            if let Ok(pattern) = text.parse::<OriginPattern>() {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }
    }
}
