//! Patterns for the names of methods, tools, prompts and resources.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::bounds::NAME_PATTERN_CHARS;
use super::excerpt::excerpt;

/// An exact name, or a glob in which `*` stands for any characters, also for none and for `/`. No other character is
/// special: a `?` in the URI of a resource stands for itself. Upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: Box<str>,
    /// The positions of the first and the last `*`, which may be the same one. `None` when the pattern has no `*`.
    stars: Option<(usize, usize)>,
}

/// The text is not a valid name or pattern.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a valid name or pattern: write 1 to {NAME_PATTERN_CHARS} printable characters, such as `get_report` \
     or `get_*`"
)]
pub struct NamePatternError(String);

impl NamePattern {
    /// The pattern as written, but with a single `*` in place of several in a row.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the pattern has no `*`, so that it matches one name only.
    pub fn is_exact(&self) -> bool {
        self.stars.is_none()
    }

    /// True when `name` matches. The time is proportional to the length of the name plus the length of the pattern, not
    /// to their product: the text before the first `*` and after the last one has a fixed place, and each piece between
    /// two `*` is taken at the first place where it occurs.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, last)) = self.stars else { return *self.text == *name };
        let inside = name.strip_prefix(&self.text[..first]).and_then(|name| name.strip_suffix(&self.text[last + 1..]));
        inside.is_some_and(|inside| {
            // With a single `*`, the pattern has no middle.
            let middle = self.text.get(first + 1..last).unwrap_or_default();
            middle.is_empty()
                || middle
                    .split('*')
                    .try_fold(inside, |rest, piece| rest.find(piece).map(|at| &rest[at + piece.len()..]))
                    .is_some()
        })
    }

    /// True when every name that matches `other` matches this pattern too.
    pub fn covers(&self, other: &NamePattern) -> bool {
        // A `*` in the text of the other pattern can only be matched by a `*` of this one, which then also matches
        // everything that the other `*` stands for.
        self.matches(&other.text)
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        if text.is_empty() || text.chars().nth(NAME_PATTERN_CHARS).is_some() || text.chars().any(char::is_control) {
            return Err(NamePatternError(excerpt(text)));
        }
        // Two `*` in a row mean the same as one.
        let mut pattern = String::with_capacity(text.len());
        for sign in text.chars() {
            if sign != '*' || !pattern.ends_with('*') {
                pattern.push(sign);
            }
        }
        let stars = pattern.find('*').zip(pattern.rfind('*'));
        Ok(Self { text: pattern.into(), stars })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().expect("legal")
    }

    #[test]
    fn an_exact_name_matches_itself_only() {
        let name = pattern("file:///a?b=[c]");
        assert!(name.is_exact() && name.matches("file:///a?b=[c]"));
        for other in ["file:///aXb=[c]", "file:///a?b=c", "file:///a?b=[c]d", "FILE:///a?b=[c]", ""] {
            assert!(!name.matches(other), "{other:?}");
        }
    }

    #[test]
    fn stars_stand_for_any_run() {
        for (text, name, fits) in [
            ("*", "", true),
            ("*", "a/b\nc", true),
            ("get_*", "get_", true),
            ("get_*", "get_a/b", true),
            ("get_*", "get", false),
            ("*_report", "_report", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("a*bc*c", "abc", false),
            ("*ab*", "xaab", true),
            ("*é*", "caféx", true),
        ] {
            assert_eq!(pattern(text).matches(name), fits, "{text} {name:?}");
        }
        assert_eq!(pattern("a***b**"), pattern("a*b*"));
        assert_eq!(pattern("a***b**").to_string(), "a*b*");
    }

    #[test]
    fn the_error_for_an_invalid_pattern_is_short() {
        for text in ["", "a\nb", "a\u{7f}", &"x".repeat(257)] {
            let error = text.parse::<NamePattern>().expect_err("illegal").to_string();
            assert!(error.len() < 200 && !error.contains('\n') && error.contains("such as `get_report`"), "{error}");
        }
        assert!("é".repeat(256).parse::<NamePattern>().is_ok());
    }

    #[test]
    fn it_takes_no_longer_for_many_stars() {
        let name = "a".repeat(1 << 20);
        let begun = std::time::Instant::now();
        assert!(!pattern(&("*a".repeat(100) + "b*c")).matches(&name));
        assert!(!pattern(&("*a".repeat(120) + "*b")).matches(&name));
        assert!(pattern(&"*a".repeat(120)).matches(&name));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    /// A slow but simple implementation: a table of which prefixes of the pattern match which prefixes of the name.
    fn reference(pattern: &str, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let mut row: Vec<bool> = std::iter::once(true).chain(name.iter().map(|_| false)).collect();
        for sign in pattern.chars() {
            let above = std::mem::replace(&mut row, vec![false; name.len() + 1]);
            for at in 0..=name.len() {
                row[at] = match sign {
                    '*' => above[at] || (at > 0 && row[at - 1]),
                    _ => at > 0 && above[at - 1] && name[at - 1] == sign,
                };
            }
        }
        row[name.len()]
    }

    proptest! {
        #[test]
        fn it_matches_like_the_table(text in "[abé*]{1,10}", name in "[abé*]{0,12}") {
            prop_assert_eq!(pattern(&text).matches(&name), reference(&text, &name));
        }

        #[test]
        fn a_pattern_covers_another_when_it_matches_all_its_names(
            text in "[ab*]{1,6}", other in "[ab*]{1,6}", runs in proptest::collection::vec("[abc]{0,3}", 6),
        ) {
            let (this, that) = (pattern(&text), pattern(&other));
            // A letter that is in neither pattern can only be matched by a `*`.
            prop_assert_eq!(this.covers(&that), this.matches(&that.as_str().replace('*', "z")));
            if this.covers(&that) {
                let mut runs = runs.iter();
                let pieces = that.as_str().split('*').collect::<Vec<_>>();
                let (last, pieces) = pieces.split_last().expect("there is one piece at least");
                let name: String = pieces
                    .iter()
                    .map(|piece| format!("{piece}{}", runs.next().map_or("", String::as_str)))
                    .chain([(*last).to_owned()])
                    .collect();
                prop_assert!(that.matches(&name) && this.matches(&name), "{} {} {}", text, other, name);
            }
        }
    }
}
