//! Decides how the `rewrite` directives of a location change the paths that the upstream gets.

use crate::config::text::Position;
use crate::import::nginx::Directive;
use crate::import::nginx::pattern::beginning;
use crate::import::nginx::site::Location;

/// What upstreams get as path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rewritten {
    /// What `proxy_pass` says.
    Unchanged,
    /// The path without that of the location.
    Stripped,
    /// Something that the edge cannot send. The text is a clause to follow "because".
    Other(Position, &'static str),
}

/// What `rewrite` does in `location`. A `rewrite` that leads to other locations is not looked at.
pub(crate) fn rewritten(location: &Location<'_>) -> Rewritten {
    let lines = location.chain.own("rewrite");
    let covers = |line: &&&Directive| location.path.starts_with(&beginning(line.arg(0), false));
    if let Some(line) = lines.iter().filter(|line| redirects(line)).find(covers) {
        return Rewritten::Other(line.at, "`rewrite` redirected its requests");
    }
    let breaks: Vec<_> = lines.iter().filter(|line| !redirects(line) && line.arg(2) == "break").collect();
    match breaks[..] {
        [] => Rewritten::Unchanged,
        [line] if strips(&location.path, line) => Rewritten::Stripped,
        [line, ..] => {
            Rewritten::Other(line.at, "`rewrite` changed the paths that the upstream gets with a regular expression")
        }
    }
}

/// True for a `rewrite` that redirects.
pub(crate) fn redirects(line: &Directive) -> bool {
    let is_away = ["http://", "https://", "$scheme"].iter().any(|beginning| line.arg(1).starts_with(beginning));
    is_away || matches!(line.arg(2), "redirect" | "permanent")
}

/// True when `line` takes the path of the location off, as in `rewrite ^/x/(.*)$ /$1 break`.
fn strips(path: &str, line: &Directive) -> bool {
    let regex = line.arg(0).strip_prefix('^').unwrap_or(line.arg(0));
    let regex = regex.strip_suffix('$').unwrap_or(regex);
    let Some(rest) = regex.strip_prefix(path.trim_end_matches('/')) else { return false };
    matches!(
        (rest, line.arg(1)),
        ("/(.*)" | "/?(.*)", "/$1") | ("(/.*)?" | "(/.*)" | "(.*)", "$1") | ("(/|$)(.*)", "/$2")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    #[test]
    fn prefixes_are_taken_off() {
        let of = |text: &str| {
            let root = nginx::parse(text).expect("valid input");
            match rewritten(&site::sites(&root)[0].locations[0]) {
                Rewritten::Unchanged => "unchanged",
                Rewritten::Stripped => "stripped",
                Rewritten::Other(_, why) => why.rsplit(' ').next().unwrap_or_default(),
            }
        };
        for (text, expected) in [
            ("location /x/ { }", "unchanged"),
            ("location /x/ { rewrite ^/x/(.*)$ /$1 break; }", "stripped"),
            ("location /x { rewrite ^/x/(.*) /$1 break; }", "stripped"),
            ("location /x { rewrite ^/x(/.*)?$ $1 break; }", "stripped"),
            ("location /x { rewrite ^/x(/|$)(.*) /$2 break; }", "stripped"),
            ("location / { rewrite ^/(.*)$ /$1 break; }", "stripped"),
            ("location /x/ { rewrite ^/y/(.*)$ /$1 break; }", "expression"),
            ("location /x/ { rewrite ^/x/(.*)$ /v1/$1 break; }", "expression"),
            ("location /x/ { rewrite ^.*$ /mcp break; }", "expression"),
            ("location /x/ { rewrite ^ /mcp break; }", "expression"),
            ("location /x/ { rewrite ^/x/(.*)$ /$1 break; rewrite ^ /mcp break; }", "expression"),
            ("location /x/ { rewrite ^ /login redirect; }", "requests"),
            ("location /x/ { rewrite ^/x/(.*) https://b/$1; }", "requests"),
            ("location / { rewrite ^/old /new permanent; }", "unchanged"),
            ("location /x/ { rewrite ^ /y last; }", "unchanged"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
