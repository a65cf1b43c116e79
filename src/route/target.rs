//! The path of a request to the upstream.

use std::borrow::Cow;

use crate::config::Rewrite;

/// The path for the upstream. `path` is canonical and starts with `prefix`, which ends at a segment boundary.
pub fn upstream_path<'a>(rewrite: &Rewrite, prefix: &str, path: &'a str) -> Cow<'a, str> {
    let rest = &path[prefix.len()..];
    match rewrite {
        Rewrite::Keep => Cow::Borrowed(path),
        Rewrite::Strip if rest.is_empty() => Cow::Borrowed("/"),
        Rewrite::Strip => Cow::Borrowed(rest),
        Rewrite::Replace(other) if other.is_empty() && rest.is_empty() => Cow::Borrowed("/"),
        Rewrite::Replace(other) => Cow::Owned(format!("{other}{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_keep_replace() {
        let to = |rewrite: &Rewrite, path| upstream_path(rewrite, "/fininfo", path).into_owned();
        assert_eq!(to(&Rewrite::Strip, "/fininfo/mcp"), "/mcp");
        assert_eq!(to(&Rewrite::Strip, "/fininfo"), "/");
        assert_eq!(to(&Rewrite::Strip, "/fininfo/"), "/");
        assert_eq!(to(&Rewrite::Keep, "/fininfo/mcp"), "/fininfo/mcp");
        assert_eq!(to(&Rewrite::Replace("/v2".into()), "/fininfo/mcp"), "/v2/mcp");
        assert_eq!(to(&Rewrite::Replace("/v2".into()), "/fininfo"), "/v2");
        assert_eq!(to(&Rewrite::Replace(String::new()), "/fininfo"), "/");
    }
}
