//! Finds the route for a host and a canonical path. The cost does not grow with the number of routes.

use std::collections::HashMap;

use thiserror::Error;

use crate::types::HostPattern;

/// Two routes that match the same requests with the same precedence.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("two routes match `{0}` on the same host")]
pub struct Overlap(String);

/// Maps a host and a canonical path to a route `T`. An exact host comes before a wildcard, a longer wildcard before a
/// shorter one, and a route for any host comes last. For one host, the longest prefix wins; prefixes match whole
/// segments. When a host has no route for a path, the next less specific host is tried.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<String, Table<T>>,
    wildcard: HashMap<String, Table<T>>,
    any: Table<T>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), any: Table::default() }
    }
}

impl<T: Clone> Router<T> {
    /// Adds a route for `prefix` (canonical, without a trailing slash) on `hosts`. Empty `hosts` stand for any host.
    ///
    /// # Errors
    /// There is already a route for the same host and prefix.
    pub fn insert(&mut self, hosts: &[HostPattern], prefix: &str, route: T) -> Result<(), Overlap> {
        if hosts.is_empty() {
            return self.any.insert(prefix, route);
        }
        for host in hosts {
            let table = match host {
                HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
                HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
            };
            table.insert(prefix, route.clone())?;
        }
        Ok(())
    }

    /// The route for `host` (lower case, without port) and `path` (canonical).
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        let exact = self.exact.get(host).and_then(|table| table.find(path));
        exact.or_else(|| self.find_wildcard(host, path)).or_else(|| self.any.find(path))
    }

    fn find_wildcard(&self, host: &str, path: &str) -> Option<&T> {
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(route) = self.wildcard.get(suffix).and_then(|table| table.find(path)) {
                return Some(route);
            }
            rest = suffix;
        }
        None
    }
}

/// The prefixes of one host. The lookup tries a path at each of its segment boundaries, the longest first, but never
/// deeper than the deepest prefix. So neither many routes nor a path with many segments make a lookup expensive.
#[derive(Debug)]
struct Table<T> {
    prefixes: HashMap<String, T>,
    /// For each number of segments, whether there is a prefix with that number.
    depths: Vec<bool>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { prefixes: HashMap::new(), depths: Vec::new() }
    }
}

impl<T> Table<T> {
    fn insert(&mut self, prefix: &str, route: T) -> Result<(), Overlap> {
        if self.prefixes.contains_key(prefix) {
            return Err(Overlap(format!("{prefix}/")));
        }
        let depth = prefix.matches('/').count();
        if self.depths.len() <= depth {
            self.depths.resize(depth + 1, false);
        }
        self.depths[depth] = true;
        self.prefixes.insert(prefix.to_owned(), route);
        Ok(())
    }

    fn find(&self, path: &str) -> Option<&T> {
        let deepest = self.depths.len().checked_sub(1)?;
        // Finds the first `deepest` segments of `path`, or all of `path` when it has fewer.
        let mut depth = 0;
        let mut end = path.len();
        // `match_indices` is not used here: for such short texts it is slower than this search.
        for (position, _) in path.bytes().enumerate().filter(|(_, byte)| *byte == b'/') {
            if depth == deepest {
                end = position;
                break;
            }
            depth += 1;
        }
        let mut candidate = &path[..end];
        loop {
            if self.depths.get(depth).copied().unwrap_or_default()
                && let Some(route) = self.prefixes.get(candidate)
            {
                return Some(route);
            }
            candidate = &candidate[..candidate.bytes().rposition(|byte| byte == b'/')?];
            depth -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn router(routes: &[(&str, &str)]) -> Router<String> {
        let mut router = Router::default();
        for (host, prefix) in routes {
            let hosts: Vec<HostPattern> =
                if host.is_empty() { Vec::new() } else { vec![host.parse().expect("a legal pattern")] };
            router.insert(&hosts, prefix, format!("{host}{prefix}")).expect("no overlap");
        }
        router
    }

    #[test]
    fn prefixes_end_at_segments_and_the_longest_wins() {
        let router = router(&[("", "/fininfo"), ("", "/fininfo/deep/er"), ("", "/mcp")]);
        let find = |path| router.find("h", path).map(String::as_str);
        assert_eq!(find("/fininfo"), Some("/fininfo"));
        assert_eq!(find("/fininfo/"), Some("/fininfo"));
        assert_eq!(find("/fininfo/deep/er/x/y/z"), Some("/fininfo/deep/er"));
        assert_eq!(find("/fininfo/deep"), Some("/fininfo"));
        assert_eq!(find("/fininfox"), None);
        assert_eq!(find("/"), None);
    }

    #[test]
    fn the_root_matches_everything_that_nothing_else_does() {
        let router = router(&[("", ""), ("", "/a")]);
        assert_eq!(router.find("h", "/").map(String::as_str), Some(""));
        assert_eq!(router.find("h", "/b/c").map(String::as_str), Some(""));
        assert_eq!(router.find("h", "/a/c").map(String::as_str), Some("/a"));
    }

    #[test]
    fn the_more_specific_host_comes_first_and_falls_back() {
        let router =
            router(&[("", "/a/b"), ("", "/c"), ("a.example", "/a"), ("*.example", "/a"), ("*.x.example", "/a")]);
        let find = |host, path| router.find(host, path).map(String::as_str);
        assert_eq!(find("a.example", "/a/b"), Some("a.example/a"));
        assert_eq!(find("b.example", "/a"), Some("*.example/a"));
        assert_eq!(find("b.x.example", "/a"), Some("*.x.example/a"));
        assert_eq!(find("a.example", "/c"), Some("/c"));
        assert_eq!(find("other", "/a/b"), Some("/a/b"));
        assert_eq!(find("other", "/a"), None);
    }

    #[test]
    fn the_same_prefix_twice_is_an_overlap() {
        let mut router = router(&[("", "/a")]);
        assert_eq!(router.insert(&[], "/a", String::new()), Err(Overlap("/a/".into())));
    }

    proptest! {
        /// The router must find the longest of all prefixes that cover the path.
        #[test]
        fn it_is_the_longest_covering_prefix(
            prefixes in proptest::collection::btree_set("(/[ab]{1,2}){0,4}", 0..12),
            path in "(/[ab]{1,2}){0,6}/?",
        ) {
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let mut router = Router::default();
            for prefix in &prefixes {
                router.insert(&[], prefix, prefix.clone()).expect("a set has no duplicates");
            }
            let covers = |prefix: &&String| path == ***prefix || path.starts_with(&format!("{prefix}/"));
            let expected = prefixes.iter().filter(covers).max_by_key(|prefix| prefix.len());
            prop_assert_eq!(router.find("h", &path), expected);
        }
    }
}
