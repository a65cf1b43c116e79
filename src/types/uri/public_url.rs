//! The URL of a resource as clients know it.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use thiserror::Error;

/// Stands for the host of the request.
const HOST: &str = "{host}";
/// Is parsed in place of [`HOST`]. Names below `.invalid` belong to nobody (RFC 6761).
const STAND_IN: &str = "host.invalid";

/// A URL such as `https://edge.example/fin/mcp`, or `https://{host}/fin/mcp` for each host that the edge serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// As written.
    text: Box<str>,
    url: Url,
    of_any_host: bool,
}

/// The text is not a URL of a resource.
#[derive(Debug, Error, PartialEq, Eq)]
// The text may contain a password, so the error does not repeat it.
#[error(
    "is not a valid URL of a resource: write one such as `https://edge.example/fin/mcp` or `https://{{host}}/fin/mcp`, without a \
     user name and a password"
)]
pub struct PublicUrlError;

impl PublicUrl {
    /// True when the host is that of the request.
    pub fn is_of_any_host(&self) -> bool {
        self.of_any_host
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// The scheme, host and port, for a request to `host`, which has been checked.
    pub fn origin(&self, host: &str) -> String {
        let origin = self.url.origin().ascii_serialization();
        if self.of_any_host { origin.replace(STAND_IN, host) } else { origin }
    }

    /// The whole URL as written, for a request to `host`, which has been checked. MCP writes the URL of a whole host without a
    /// slash ("Authorization", "Canonical Server URI").
    pub fn resource(&self, host: &str) -> String {
        let text = self.text.replacen(HOST, host, 1);
        if self.path() == "/" { text.trim_end_matches('/').to_owned() } else { text }
    }

    /// The same in the form of RFC 3986 section 6.2: the scheme and the host in lower case, without a default port.
    fn normalized(&self, host: &str) -> String {
        let path = if self.path() == "/" { "" } else { self.path() };
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{path}{query}", self.origin(host))
    }

    /// True when `audience` names this resource. The slash at the end of a whole host does not matter (RFC 3986 section 6.2.3).
    pub fn is_named_by(&self, audience: &str, host: &str) -> bool {
        let audience = if self.path() == "/" { audience.strip_suffix('/').unwrap_or(audience) } else { audience };
        audience == self.resource(host) || audience == self.normalized(host)
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let url = Url::parse(&text.replacen(HOST, STAND_IN, 1)).map_err(|_| PublicUrlError)?;
        let of_any_host = text.contains(HOST);
        let is_public = ["http", "https"].contains(&url.scheme())
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && of_any_host == (url.host_str() == Some(STAND_IN));
        if is_public { Ok(Self { text: text.into(), url, of_any_host }) } else { Err(PublicUrlError) }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PublicUrl {
        text.parse().expect("legal")
    }

    #[test]
    fn the_host_of_the_request_stands_in_the_url() {
        for (text, resource, origin) in [
            ("https://edge.example/fin/mcp", "https://edge.example/fin/mcp", "https://edge.example"),
            ("https://edge.example", "https://edge.example", "https://edge.example"),
            ("https://{host}/fin/mcp", "https://a.example/fin/mcp", "https://a.example"),
            ("https://{host}:8443/", "https://a.example:8443", "https://a.example:8443"),
        ] {
            let url = url(text);
            assert_eq!(
                (url.resource("a.example"), url.origin("a.example")),
                (resource.into(), origin.into()),
                "{text}"
            );
            assert_eq!(url.to_string().trim_end_matches('/'), text.trim_end_matches('/'));
            assert!(url.is_named_by(resource, "a.example"));
        }
        let written = url("https://Edge.example:443/mcp");
        assert_eq!(written.resource("x"), "https://Edge.example:443/mcp");
        assert!(
            written.is_named_by("https://Edge.example:443/mcp", "x")
                && written.is_named_by("https://edge.example/mcp", "x")
        );
        assert!(!url("https://{host}/mcp").is_named_by("https://b.example/mcp", "a.example"));
        assert!(url("https://edge.example").is_named_by("https://edge.example/", "a.example"));
        assert!(!url("https://edge.example/mcp").is_named_by("https://edge.example/mcp/", "a.example"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "edge.example",
            "ftp://a/",
            "https://a/#b",
            "https://u:p@a/",
            "https://a/{host}",
            "https://x.{host}/",
            "https://host.invalid/",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }
}
