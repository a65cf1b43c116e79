//! Maps paths of nginx locations to places, which are paths of routes: the place of a location itself, and the other
//! places that may get its requests.

use std::collections::BTreeSet;

use crate::types::canonical_path;

/// A path segment that stands for all segments without a location: no location has a control character in its path.
pub(crate) const OTHER: &str = "\u{1}";

/// The place of a location. A place is the path of a route without a slash at the end. The place of the root is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The place of a route for the location. `None`: no route can have this path.
    pub(crate) own: Option<String>,
    /// Other places that may get requests of the location, because some of its paths are not below its own place.
    pub(crate) around: Vec<Around>,
}

/// Another place that may get requests of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Around {
    /// The deepest place at or above this path gets the requests.
    pub(crate) path: String,
    /// True: all paths of the location may go there, if they are written with other escapes. False: only paths with a
    /// longer last segment than that of the location.
    pub(crate) all: bool,
}

impl Place {
    /// The place of a location that matches only `path`, or, with `is_prefix`, all paths that start with it.
    pub(crate) fn of(path: &str, is_prefix: bool) -> Self {
        let written = encoded(path);
        let own = canonical_path(written.as_bytes()).ok().map(|path| path.trim_end_matches('/').to_owned());
        // nginx decodes these characters, but the edge does not. So a client can write them in two ways, and the route
        // matches only one of them.
        let signs = path.match_indices(|sign: char| "!$&'()*+,;=:@".contains(sign)).map(|(at, _)| at);
        let folder = |end: usize| encoded(path[..end].rsplit_once('/').unwrap_or_default().0);
        let mut around: Vec<Around> = signs.map(|at| Around { path: folder(at), all: true }).collect();
        around.dedup();
        if is_prefix && !path.is_empty() && !path.ends_with('/') {
            around.push(Around { path: folder(path.len()), all: false });
        }
        Self { own, around }
    }
}

/// `path` as a route has it: characters that nginx decoded are escaped again (RFC 3986 section 2.1).
pub(crate) fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        // `*`, `?` and `#` are not allowed in a route's path, because they have another meaning elsewhere.
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `place` as nginx compares it, without escapes. Invalid escapes are left out.
pub(crate) fn decoded(place: &str) -> String {
    let mut bytes = Vec::with_capacity(place.len());
    let mut parts = place.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// True when `path` is at `place` or below it; neither has a slash at the end.
pub(crate) fn covers(place: &str, path: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The deepest of `places` that `path` (without a slash at the end) is at or below.
pub(crate) fn deepest<'p>(places: &'p BTreeSet<String>, path: &str) -> Option<&'p str> {
    let mut candidate = path;
    loop {
        if let Some(place) = places.get(candidate) {
            return Some(place);
        }
        candidate = &candidate[..candidate.rfind('/')?];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_locations() {
        for (path, is_prefix, own, around) in [
            ("/", true, Some(""), &[][..]),
            ("", true, None, &[]),
            ("/a/b/", true, Some("/a/b"), &[]),
            ("/a/b", true, Some("/a/b"), &[("/a", false)]),
            ("/a", true, Some("/a"), &[("", false)]),
            ("/a/b", false, Some("/a/b"), &[]),
            ("/a:b/c/", true, Some("/a:b/c"), &[("", true)]),
            ("/a:b/c", true, Some("/a:b/c"), &[("", true), ("/a:b", false)]),
            ("/a:b/c@d/", true, Some("/a:b/c@d"), &[("", true), ("/a:b", true)]),
            ("/a/b@c", false, Some("/a/b@c"), &[("/a", true)]),
            ("/a b/", true, Some("/a%20b"), &[]),
            ("/x/ä/b", true, Some("/x/%C3%A4/b"), &[("/x/%C3%A4", false)]),
            ("/x/y*/", true, Some("/x/y%2A"), &[("/x", true)]),
            ("/a/../b/", true, None, &[]),
            ("/a%2fb/", true, None, &[]),
            ("a", false, None, &[]),
        ] {
            let place = Place::of(path, is_prefix);
            let actual: Vec<(&str, bool)> = place.around.iter().map(|it| (it.path.as_str(), it.all)).collect();
            assert_eq!((place.own.as_deref(), actual.as_slice()), (own, around), "{path}");
            assert_eq!(decoded(&encoded(path)), path);
        }
    }

    #[test]
    fn the_deepest_is_found_on_segments() {
        let places: BTreeSet<String> = ["", "/a", "/a/b"].map(str::to_owned).into();
        for (path, expected) in [("", ""), ("/ab", ""), ("/a/bc", "/a"), ("/a/b/c/d", "/a/b")] {
            assert_eq!(deepest(&places, path), Some(expected), "{path}");
        }
        assert_eq!(deepest(&["/a".to_owned()].into(), "/b"), None);
    }
}
