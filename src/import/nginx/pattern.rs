//! Finds the common beginning of all paths that a regular expression of nginx matches.

/// The beginning of all paths that `regex` matches. It may be shorter than possible, or empty, but it is never wrong.
pub(crate) fn beginning(regex: &str, ignores_case: bool) -> String {
    let Some(rest) = regex.strip_prefix('^').filter(|rest| !ignores_case && !has_alternatives(rest)) else {
        return String::new();
    };
    let mut literal = String::new();
    let mut signs = rest.chars().peekable();
    while let Some(sign) = signs.next() {
        let sign = match sign {
            '\\' => match signs.next() {
                Some(escaped @ ('.' | '/' | '_' | '-')) => escaped,
                _ => break,
            },
            _ if sign.is_ascii_alphanumeric() || "/_-".contains(sign) => sign,
            _ => break,
        };
        // With such a quantifier, the character may be absent.
        if signs.peek().is_some_and(|next| "?*{".contains(*next)) {
            break;
        }
        literal.push(sign);
    }
    literal
}

/// True when there is a `|` outside of all groups.
fn has_alternatives(regex: &str) -> bool {
    let (mut depth, mut escaped) = (0_usize, false);
    for sign in regex.chars() {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_never_wrong() {
        for (regex, expected) in [
            ("^/admin/", "/admin/"),
            ("^/api/v[0-9]+/x", "/api/v"),
            ("^/a\\.b/(c|d)", "/a.b/"),
            ("^/a/b?", "/a/"),
            ("^/a/b*/c", "/a/"),
            ("^/a/b{0,1}", "/a/"),
            ("^/a+", "/a"),
            ("^/a/|^/b/", ""),
            ("^/a.b", "/a"),
            ("^/a\\@b", "/a"),
            ("^/a\\d", "/a"),
            ("^(/a|/b)", ""),
            ("/a", ""),
            ("\\.git$", ""),
            ("^", ""),
            ("^/a\\", "/a"),
        ] {
            assert_eq!(beginning(regex, false), expected, "{regex}");
        }
        assert_eq!(beginning("^/admin/", true), "");
    }
}
