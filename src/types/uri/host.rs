//! Host names: in requests, and in the configuration of listeners and routes.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// The text is not a valid host by RFC 9110 section 4.2, or not a valid pattern of hosts.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a valid host: write a name such as `edge.example`, `*.example` or an IP address")]
pub struct HostError(String);

/// `host[:port]` of a request. The host is in lower case, and user information is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    host: Cow<'a, str>,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses the value of a `Host` header or an HTTP/2 `:authority`.
    pub fn parse(text: &'a str) -> Result<Self, HostError> {
        let bad = || HostError(text.escape_debug().to_string());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or_else(bad)?;
                inside.parse::<Ipv6Addr>().map_err(|_| bad())?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(bad)?) };
                (&text[..inside.len() + 2], port)
            }
            // `split_once` is not used here: for such short texts it is slower than this search.
            None => match text.bytes().position(|byte| byte == b':') {
                Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
                None => (text, None),
            },
        };
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| bad())?)
            }
            Some(_) => return Err(bad()),
        };
        if !host.starts_with('[') && !is_reg_name(host) {
            return Err(bad());
        }
        // `example.` and `example` are the same name (RFC 1034 section 3.1).
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        Ok(Self { host, port })
    }

    /// The host in lower case; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the text has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// True for an IP address. Unlike a name, an IP address cannot be made to resolve to another address.
    pub fn is_address(&self) -> bool {
        self.host.starts_with('[') || self.host.parse::<Ipv4Addr>().is_ok()
    }

    /// True for `localhost`, names below `localhost`, 127.0.0.0/8 and `[::1]`.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// True when `host` is this machine. `host` is in lower case, and an IPv6 address has its brackets. All names below
/// `localhost` resolve to this machine (RFC 6761 section 6.3).
pub(super) fn is_loopback(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => {
            host == "localhost"
                || host.ends_with(".localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn is_reg_name(host: &str) -> bool {
    // Only the last label may be empty.
    let mut previous = b'.';
    let mut legal = |byte: u8| match std::mem::replace(&mut previous, byte) {
        b'.' if byte == b'.' => false,
        _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'),
    };
    !host.is_empty() && host.len() <= 255 && host.bytes().all(&mut legal)
}

/// A host in the configuration: an exact name, or `*.` and a suffix. The `*` stands for one or more labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name only, in lower case.
    Exact(String),
    /// Any name that ends in `.suffix`; the suffix is in lower case and has no leading dot.
    Wildcard(String),
}

impl HostPattern {
    /// True when the pattern matches `host`, which is in lower case.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => {
                host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let bad = || HostError(text.escape_debug().to_string());
        let (name, wildcard) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let authority = Authority::parse(name).map_err(|_| bad())?;
        if authority.port().is_some() || (wildcard && name.starts_with('[')) {
            return Err(bad());
        }
        let host = authority.host().to_owned();
        Ok(if wildcard { Self::Wildcard(host) } else { Self::Exact(host) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<(String, Option<u16>)> {
        Authority::parse(text).ok().map(|authority| (authority.host().to_owned(), authority.port()))
    }

    #[test]
    fn authorities() {
        assert_eq!(parse("Edge.Example:8080"), Some(("edge.example".into(), Some(8080))));
        assert_eq!(parse("edge.example."), Some(("edge.example".into(), None)));
        assert_eq!(parse("[::1]:80"), Some(("[::1]".into(), Some(80))));
        for text in ["", "user@edge", "a b", "a:b", "a:99999", "[::1", "a..b", "a/b", ".a", "a:+5"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn only_the_last_label_may_be_empty(host in "[a-zA-Z0-9_.-]{0,12}|[a.é /\u{0}]{0,6}") {
            let legal = |sign: char| sign.is_ascii_alphanumeric() || "-._".contains(sign);
            let names = !host.is_empty() && !host.starts_with('.') && !host.contains("..");
            prop_assert_eq!(is_reg_name(&host), names && host.chars().all(legal), "{:?}", host);
        }
    }

    #[test]
    fn loopback() {
        let is_loopback = |text| Authority::parse(text).expect("legal").is_loopback();
        for text in ["localhost", "LocalHost:80", "localhost.", "a.localhost", "127.255.0.1:1", "[::1]", "[0:0::1]:80"]
        {
            assert!(is_loopback(text), "{text}");
        }
        for text in ["localhost.example", "alocalhost", "127.1", "127.0.0.1.example", "10.0.0.1", "[::]", "0.0.0.0"] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn wildcards_need_at_least_one_label() {
        let pattern: HostPattern = "*.Example".parse().expect("legal");
        assert!(pattern.matches("a.example") && pattern.matches("a.b.example"));
        assert!(!pattern.matches("example") && !pattern.matches(".example") && !pattern.matches("badexample"));
        assert!("*".parse::<HostPattern>().is_err() && "a:80".parse::<HostPattern>().is_err());
    }
}
