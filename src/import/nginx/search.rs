//! Finds the nginx location that serves a path, as `ngx_http_core_find_location` does.

use std::collections::HashMap;

use super::site::{Kind, Location, Site};

/// The locations of one server in maps, so that the cost of a search does not grow with their number.
pub(crate) struct Search<'a> {
    site: &'a Site<'a>,
    /// By the location that contains them, and the path.
    exact: HashMap<(Option<usize>, &'a str), usize>,
    prefix: HashMap<(Option<usize>, &'a str), usize>,
    /// By the location that contains them.
    regex: HashMap<Option<usize>, Vec<usize>>,
}

/// The locations that may serve a path, as indexes into the list of locations.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The location that serves the path if none of `regex` does. `None`: no location serves it.
    pub(crate) location: Option<usize>,
    /// The locations that may serve the path instead: regular expressions that nginx tries first, all locations in
    /// them, and a location that redirects to `location`.
    pub(crate) regex: Vec<usize>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(site: &'a Site<'a>) -> Self {
        let mut search = Self { site, exact: HashMap::new(), prefix: HashMap::new(), regex: HashMap::new() };
        for (index, location) in site.locations.iter().enumerate() {
            let key = (location.parent, location.path.as_str());
            match location.kind {
                Kind::Exact => drop(search.exact.insert(key, index)),
                Kind::Prefix => drop(search.prefix.insert(key, index)),
                Kind::Regex => search.regex.entry(location.parent).or_default().push(index),
                Kind::Named => {}
            }
        }
        search
    }

    /// Finds the locations for `path`, which must be decoded, as nginx compares it. If nginx adds a final slash to
    /// `path` by a redirect, the result is that for the path with the slash.
    pub(crate) fn find(&self, path: &str) -> Found {
        let (mut regex, mut location) = (Vec::new(), None);
        loop {
            let children = location;
            if let Some(found) = self.exact.get(&(children, path)) {
                return Found { location: Some(*found), regex: Vec::new() };
            }
            if let Some(index) = self.redirects(children, path) {
                let mut found = self.find(&format!("{path}/"));
                // If this location is `internal`, nginx rejects the request before it redirects.
                found.regex.extend(Some(index).filter(|index| found.location != Some(*index)));
                return found;
            }
            let longest = self.longest(children, path);
            if !longest.is_some_and(|index| self.site.locations[index].is_final()) {
                regex.extend(self.regex.get(&children).into_iter().flatten().copied());
            }
            match longest {
                Some(index) => location = Some(index),
                None => break,
            }
        }
        if !regex.is_empty() {
            for (index, location) in self.site.locations.iter().enumerate() {
                // A location comes before its inner locations in the list.
                if location.parent.is_some_and(|parent| regex.contains(&parent)) && !regex.contains(&index) {
                    regex.push(index);
                }
            }
        }
        Found { location, regex }
    }

    /// The location because of which nginx redirects `path` to the same path with a final slash.
    fn redirects(&self, parent: Option<usize>, path: &str) -> Option<usize> {
        if path.ends_with('/') || self.prefix.contains_key(&(parent, path)) {
            return None;
        }
        let slashed = format!("{path}/");
        let found = [&self.exact, &self.prefix].into_iter().filter_map(|map| map.get(&(parent, slashed.as_str())));
        let found: Vec<usize> = found.copied().collect();
        let passes = found.iter().any(|index| is_passed_on(&self.site.locations[*index]));
        found.first().copied().filter(|_| passes)
    }

    fn longest(&self, parent: Option<usize>, path: &str) -> Option<usize> {
        let ends = path.char_indices().map(|(at, _)| at).chain([path.len()]);
        ends.rev().find_map(|end| self.prefix.get(&(parent, &path[..end])).copied())
    }
}

/// True when nginx forwards the requests to another server. Only then nginx adds a final slash by a redirect.
fn is_passed_on(location: &Location<'_>) -> bool {
    let names = ["proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"];
    names.iter().any(|name| !location.chain.own(name).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    /// The location's path, and the regular expressions that may come before it.
    fn find(text: &str, path: &str) -> String {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        let found = Search::new(&sites[0]).find(path);
        let shown = |index: &usize| sites[0].locations[*index].shown().replace("location ", "").replace('`', "");
        let regex: Vec<String> = found.regex.iter().map(shown).collect();
        format!("{} [{}]", found.location.as_ref().map_or("-".to_owned(), shown), regex.join(", "))
    }

    #[test]
    fn exactly_then_the_longest_prefix() {
        let text = "location / {} location = /b {} location /b/ {} location /bc {} location = / {}";
        for (path, expected) in
            [("/", "= / []"), ("/b", "= /b []"), ("/b/x", "/b/ []"), ("/bx", "/ []"), ("/bcd", "/bc []")]
        {
            assert_eq!(find(text, path), expected, "{path}");
        }
        assert_eq!(find("location /b/ {}", "/a"), "- []");
    }

    #[test]
    fn a_missing_slash_is_added_only_where_requests_are_forwarded() {
        assert_eq!(find("location / {} location /b/ { proxy_pass http://a; }", "/b"), "/b/ []");
        assert_eq!(find("location / {} location /b/ { deny all; }", "/b"), "/ []");
        assert_eq!(find("location /b {} location /b/ { proxy_pass http://a; }", "/b"), "/b []");
        let inside = "location /b/ { proxy_pass http://a; location = /b/ {} }";
        assert_eq!(find(inside, "/b"), "= /b/ [/b/]", "the client follows the redirect to the inner location");
    }

    #[test]
    fn inner_locations_count_only_in_their_outer_location() {
        let text = "location /a/ { location /a/b/ {} } location /a/b {}";
        assert_eq!(find(text, "/a/b/c"), "/a/b []");
        assert_eq!(find("location /a/ { location /a/b/ {} }", "/a/b/c"), "/a/b/ []");
    }

    #[test]
    fn regular_expressions_come_before_most_prefixes() {
        let text = "location ~ x { location ~ y {} } location /a {} location ^~ /b {} location = /c {}";
        assert_eq!(find(text, "/a"), "/a [~ x, ~ y]");
        assert_eq!(find(text, "/b"), "^~ /b []");
        assert_eq!(find(text, "/c"), "= /c []");
        assert_eq!(find(text, "/d"), "- [~ x, ~ y]");
        let inside = "location /a { location ^~ /a/b {} location ~ x {} } location ~ y {}";
        assert_eq!(find(inside, "/a/c"), "/a [~ y, ~ x]");
        assert_eq!(find(inside, "/a/b"), "^~ /a/b [~ y]");
    }
}
