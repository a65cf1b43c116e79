//! Who the caller is, once a provider has said so.

use std::sync::Arc;

use thiserror::Error;

use super::{Grant, ScopeSet, UnixSeconds};

/// The validated caller. It is what the token cache holds, in any number: what it shares with others is not its own.
#[derive(Debug)]
pub struct Principal {
    subject: Box<str>,
    grant: Arc<Grant>,
    provider: Arc<str>,
    expires_at: Option<UnixSeconds>,
    token_id: Option<Box<str>>,
    credential: Option<[u8; 32]>,
}

/// A subject that cannot be told to an upstream.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrincipalError {
    /// No subject at all.
    #[error("the subject is empty")]
    EmptySubject,
    /// Control characters: they are refused, never truncated, because the subject becomes a header.
    #[error("the subject holds a control character")]
    ControlCharacter,
}

impl Principal {
    /// Checks that `subject` can stand in a header; `expires_at` is the credential's own end, if it has one.
    pub fn new(
        subject: &str,
        grant: impl Into<Grant>,
        provider: Arc<str>,
        expires_at: Option<UnixSeconds>,
    ) -> Result<Self, PrincipalError> {
        if subject.is_empty() {
            return Err(PrincipalError::EmptySubject);
        }
        if subject.chars().any(char::is_control) {
            return Err(PrincipalError::ControlCharacter);
        }
        let grant = Arc::new(grant.into());
        Ok(Self { subject: subject.into(), grant, provider, expires_at, token_id: None, credential: None })
    }

    /// With an equal grant that others have, too.
    #[must_use]
    pub fn with_grant(self, grant: Arc<Grant>) -> Self {
        Self { grant, ..self }
    }

    /// What the credential calls itself (RFC 7519 `jti`).
    #[must_use]
    pub fn with_token_id(self, id: Option<String>) -> Self {
        Self { token_id: id.map(Into::into), ..self }
    }

    /// With the SHA-256 digest of the credential.
    #[must_use]
    pub fn with_credential(self, digest: [u8; 32]) -> Self {
        Self { credential: Some(digest), ..self }
    }

    /// The SHA-256 digest of the credential, when there is one that is sent.
    pub fn credential(&self) -> Option<&[u8; 32]> {
        self.credential.as_ref()
    }

    /// What the credential calls itself.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// The subject, as the provider gave it: it can stand in a header.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What the credential grants.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// What the caller may do.
    pub fn scopes(&self) -> &ScopeSet {
        self.grant.scopes()
    }

    /// The name of the provider that validated the credential.
    pub fn provider(&self) -> &Arc<str> {
        &self.provider
    }

    /// When the credential itself ends.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        self.expires_at
    }

    /// True from the second on in which the credential ends.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(subject: &str) -> Result<Principal, PrincipalError> {
        Principal::new(subject, ScopeSet::default(), "test".into(), Some(10))
    }

    #[test]
    fn a_subject_that_would_split_a_header_is_refused() {
        assert_eq!(principal("eve\r\nX-Admin: 1").err(), Some(PrincipalError::ControlCharacter));
        assert_eq!(principal("").err(), Some(PrincipalError::EmptySubject));
        assert_eq!(principal("Zoë").expect("UTF-8 is legal").subject(), "Zoë");
        // What passes is a legal value of a field.
        for byte in 0..=u8::MAX {
            let subject = format!("a{}", char::from(byte));
            let legal = http::HeaderValue::from_bytes(subject.as_bytes()).is_ok();
            assert!(legal || principal(&subject).is_err(), "{byte:x}");
        }
    }

    #[test]
    fn it_ends_in_the_second_of_exp() {
        let alice = principal("alice").expect("legal");
        assert!(!alice.is_expired(9));
        assert!(alice.is_expired(10));
    }
}
