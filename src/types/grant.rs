//! What a credential grants.

use super::ScopeSet;

/// What the holder of a credential may do, and where. It is apart from the holder because many hold the same: the token
/// cache keeps one of each, which stays in the processor's caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    scopes: ScopeSet,
    scopes_text: Box<str>,
    audiences: Option<Box<[String]>>,
}

impl Grant {
    /// `audiences` are those whom the credential says that it is meant for (RFC 7519 `aud`); `None` when it cannot say.
    pub fn new(scopes: ScopeSet, audiences: Option<Vec<String>>) -> Self {
        Self { scopes_text: scopes.to_string().into(), scopes, audiences: audiences.map(Into::into) }
    }

    /// What the holder may do.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// The scopes, separated by spaces: printable ASCII.
    pub fn scopes_text(&self) -> &str {
        &self.scopes_text
    }

    /// Whom the credential is meant for; `None` when it cannot say.
    pub fn audiences(&self) -> Option<&[String]> {
        self.audiences.as_deref()
    }
}

impl From<ScopeSet> for Grant {
    fn from(scopes: ScopeSet) -> Self {
        Self::new(scopes, None)
    }
}
