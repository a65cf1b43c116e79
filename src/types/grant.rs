//! What a credential grants.

use super::ScopeSet;

/// The scopes and the audiences of a credential. A grant is separate from the [`Principal`](super::Principal), because
/// many principals have equal grants. The token cache keeps each different grant once, so that it stays in the
/// processor's caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    scopes: ScopeSet,
    scopes_text: Box<str>,
    audiences: Option<Box<[String]>>,
}

impl Grant {
    /// `audiences` are the audiences of the credential (RFC 7519 `aud`); `None` when the credential says nothing about
    /// audiences.
    pub fn new(scopes: ScopeSet, audiences: Option<Vec<String>>) -> Self {
        Self { scopes_text: scopes.to_string().into(), scopes, audiences: audiences.map(Into::into) }
    }

    /// The scopes of the caller.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// The scopes, separated by spaces. The text is printable ASCII.
    pub fn scopes_text(&self) -> &str {
        &self.scopes_text
    }

    /// The audiences of the credential; `None` when the credential says nothing about audiences: every route accepts
    /// it. An empty list is different: it contains no audience that a route could accept.
    pub fn audiences(&self) -> Option<&[String]> {
        self.audiences.as_deref()
    }
}

impl From<ScopeSet> for Grant {
    fn from(scopes: ScopeSet) -> Self {
        Self::new(scopes, None)
    }
}
