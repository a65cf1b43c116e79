//! `Location` and `Content-Location` of answers. A server names itself as it sees itself: without the prefix of its route, and with
//! the host and the scheme inside. A client would lose its way.

use http::HeaderValue;
use http::header::{CONTENT_LOCATION, LOCATION};
use pingora::http::ResponseHeader;

use super::context::{Attempt, Client};
use super::headers::upstream_host;
use super::snapshot::ServerContext;
use crate::config::{Rewrite, Route};
use crate::types::{Authority, Origin};

/// Makes the locations in the head of an answer public. A location at another host stays as it is.
pub(super) fn make_public(response: &mut ResponseHeader, route: &ServerContext, client: &Client, attempt: &Attempt) {
    // Most answers have neither, and comparing the few names that there are is cheaper than two lookups.
    if !response.headers.keys().any(|name| *name == LOCATION || *name == CONTENT_LOCATION) {
        return;
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(written) = response.headers.get(&name).and_then(|value| value.to_str().ok()) else { continue };
        let own = Own {
            host: upstream_host(route, client, attempt),
            endpoint: attempt.endpoint.as_ref().map(|guard| [guard.endpoint().authority(), guard.endpoint().label()]),
            prefix: &route.settings.prefix,
            rewrite: &route.settings.rewrite,
            scheme: client.scheme,
            authority: &client.authority,
        };
        if let Some(public) = own.public(written)
            && let Ok(value) = HeaderValue::from_str(&public)
        {
            // The name is valid, so this cannot fail.
            let _ = response.insert_header(name, value);
        }
    }
}

/// What the upstream calls itself, and what clients call it.
struct Own<'a> {
    /// The `Host` that the upstream got.
    host: &'a str,
    /// Its address, as configured and as resolved.
    endpoint: Option<[&'a str; 2]>,
    prefix: &'a str,
    rewrite: &'a Rewrite,
    scheme: &'a str,
    authority: &'a str,
}

impl Own<'_> {
    /// The public form of a location. `None`: it is public already, or at another host.
    fn public(&self, location: &str) -> Option<String> {
        let (scheme, rest) = match location.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                (scheme, rest)
            }
            _ => match location.strip_prefix("//") {
                Some(rest) => (self.scheme, rest),
                // A path without a slash is relative to what the client has asked for, so it leads to the right place.
                None => return location.starts_with('/').then(|| self.public_path(location)).flatten(),
            },
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let origin: Origin = format!("{scheme}://{authority}").parse().ok()?;
        let mut names = self.endpoint.into_iter().flatten().chain([self.host]);
        if !names.any(|name| Authority::parse(name).is_ok_and(|name| origin.same_as(scheme, &name))) {
            return None;
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let path = self.public_path(&path).unwrap_or(path);
        Some(format!("{}://{}{path}", self.scheme, self.authority))
    }

    /// The public form of a path, with what follows it. `None`: it is public already, or does not belong to the route.
    fn public_path(&self, written: &str) -> Option<String> {
        let (path, rest) = written.split_at(written.find(['?', '#']).unwrap_or(written.len()));
        let MappedPath { public, .. } = mapped(path, self.prefix, self.rewrite)?;
        (public != path).then(|| public + rest)
    }
}

/// A path as the upstream and as clients know it.
#[derive(Debug, PartialEq)]
pub(super) struct MappedPath {
    pub(super) inner: String,
    pub(super) public: String,
}

/// Both forms of a path that an upstream has written, in either form. `None`: it does not belong to the route.
pub(super) fn map(path: &str, route: &Route) -> Option<MappedPath> {
    mapped(path, &route.prefix, &route.rewrite)
}

fn mapped(path: &str, prefix: &str, rewrite: &Rewrite) -> Option<MappedPath> {
    let inner = match rewrite {
        Rewrite::Keep => {
            return is_under(path, prefix).then(|| MappedPath { inner: path.to_owned(), public: path.to_owned() });
        }
        Rewrite::Strip => "",
        Rewrite::Replace(inner) => inner,
    };
    let with = |before: &str, after: &str| format!("{before}{after}");
    // The server may know under which prefix clients see it.
    if is_under(path, prefix) && !(is_under(path, inner) && inner.len() > prefix.len()) {
        let rest = &path[prefix.len()..];
        let rest = if rest.is_empty() && inner.is_empty() { "/" } else { rest };
        return Some(MappedPath { inner: with(inner, rest), public: path.to_owned() });
    }
    is_under(path, inner).then(|| MappedPath { inner: path.to_owned(), public: with(prefix, &path[inner.len()..]) })
}

/// True for a URL at the host at which clients know the route.
pub(super) fn is_at_public_host(url: &str, route: &ServerContext, client: &Client) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let Ok(origin) = format!("{scheme}://{authority}").parse::<Origin>() else { return false };
    let public = route.settings.auth.as_ref().and_then(|auth| auth.public_url.as_ref());
    Authority::parse(&client.authority).is_ok_and(|own| origin.same_as(client.scheme, &own))
        || public.is_some_and(|url| url.origin(&client.host).parse() == Ok(origin))
}

fn is_under(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_at_the_upstream_is_public_afterwards() {
        let inner = Rewrite::Replace("/inner".to_owned());
        for (rewrite, location, expected) in [
            (&Rewrite::Strip, "/mcp/", Some("/fin/mcp/")),
            (&Rewrite::Strip, "/mcp/?a=/b#c", Some("/fin/mcp/?a=/b#c")),
            (&Rewrite::Strip, "http://edge.example/mcp/", Some("https://edge.example/fin/mcp/")),
            (&Rewrite::Strip, "http://EDGE.example:80/mcp/", Some("https://edge.example/fin/mcp/")),
            (&Rewrite::Strip, "http://fin.internal:8001/mcp/", Some("https://edge.example/fin/mcp/")),
            (&Rewrite::Strip, "http://10.0.0.7:8001?x", Some("https://edge.example/fin/?x")),
            (&Rewrite::Strip, "//10.0.0.7:8001/x", Some("https://edge.example/fin/x")),
            (&Rewrite::Strip, "http://edge.example/fin/mcp/", Some("https://edge.example/fin/mcp/")),
            (&Rewrite::Strip, "/fin/mcp/", None),
            (&Rewrite::Strip, "/fin", None),
            (&Rewrite::Strip, "/finance", Some("/fin/finance")),
            (&Rewrite::Strip, "mcp/", None),
            (&Rewrite::Strip, "?x=http://10.0.0.7:8001/", None),
            (&Rewrite::Strip, "https://login.example/authorize", None),
            (&Rewrite::Strip, "http://10.0.0.7:8002/", None),
            (&Rewrite::Strip, "myapp://callback", None),
            (&Rewrite::Keep, "/fin/mcp/", None),
            (&Rewrite::Keep, "http://10.0.0.7:8001/fin/mcp/", Some("https://edge.example/fin/mcp/")),
            (&inner, "/inner/mcp/", Some("/fin/mcp/")),
            (&inner, "/other/", None),
        ] {
            let own = Own {
                host: "edge.example",
                endpoint: Some(["fin.internal:8001", "10.0.0.7:8001"]),
                prefix: "/fin",
                rewrite,
                scheme: "https",
                authority: "edge.example",
            };
            assert_eq!(own.public(location).as_deref(), expected, "{rewrite:?} {location}");
        }
    }
}
