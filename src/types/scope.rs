//! OAuth scopes and sets of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// One scope token (RFC 6749 section 3.3): printable ASCII without space, `"` and `\`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

/// The text is not a valid scope.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a valid scope: use printable ASCII without spaces, double quotes and backslashes \
     (RFC 6749 section 3.3)"
)]
pub struct ScopeError(String);

impl Scope {
    /// The scope as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if !text.is_empty() && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(ScopeError(text.escape_debug().to_string()))
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scopes, sorted and without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(Box<[Scope]>);

impl ScopeSet {
    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// True when the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `scope` is in the set.
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.binary_search(scope).is_ok()
    }

    /// True when every scope of `needed` is in this set. Always true when `needed` is empty.
    pub fn covers(&self, needed: &ScopeSet) -> bool {
        needed.iter().all(|scope| self.contains(scope))
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.into())
    }
}

/// The scopes, separated by single spaces, as in the `scope` of tokens and challenges.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(scopes: &BTreeSet<String>) -> ScopeSet {
        scopes.iter().map(|scope| scope.parse().expect("the strategy makes legal scopes")).collect()
    }

    #[test]
    fn rejects_what_could_break_a_header() {
        for text in ["", "a b", "a\"b", "a\\b", "a\nb", "ä"] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn covers_is_the_subset_relation(
            have in proptest::collection::btree_set("[a-d]{1,2}", 0..8),
            need in proptest::collection::btree_set("[a-d]{1,2}", 0..8),
        ) {
            prop_assert_eq!(set(&have).covers(&set(&need)), need.is_subset(&have));
        }

        #[test]
        fn order_and_repetition_do_not_matter(mut scopes in proptest::collection::vec("[a-f]{1,2}", 0..10)) {
            let forward: ScopeSet = scopes.iter().map(|s| s.parse().expect("legal")).collect();
            scopes.reverse();
            scopes.extend(scopes.clone());
            let backward: ScopeSet = scopes.iter().map(|s| s.parse().expect("legal")).collect();
            prop_assert_eq!(forward, backward);
        }
    }
}
