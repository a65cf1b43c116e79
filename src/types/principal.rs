//! Who the caller is, once a provider has said so.

use std::sync::Arc;

use http::HeaderValue;
use thiserror::Error;

use super::{ScopeSet, UnixSeconds};

/// The validated caller. It is what the token cache holds, so everything that a request needs of it is made once, here.
#[derive(Debug)]
pub struct Principal {
    subject: Arc<str>,
    scopes: ScopeSet,
    provider: Arc<str>,
    expires_at: Option<UnixSeconds>,
    audiences: Option<Box<[String]>>,
    token_id: Option<Box<str>>,
    credential: Option<[u8; 32]>,
    subject_header: HeaderValue,
    scopes_header: HeaderValue,
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
        scopes: ScopeSet,
        provider: Arc<str>,
        expires_at: Option<UnixSeconds>,
    ) -> Result<Self, PrincipalError> {
        if subject.is_empty() {
            return Err(PrincipalError::EmptySubject);
        }
        if subject.chars().any(char::is_control) {
            return Err(PrincipalError::ControlCharacter);
        }
        let subject_header =
            HeaderValue::from_bytes(subject.as_bytes()).map_err(|_| PrincipalError::ControlCharacter)?;
        let scopes_header = HeaderValue::from_str(&scopes.to_string()).map_err(|_| PrincipalError::ControlCharacter)?;
        Ok(Self {
            subject: subject.into(),
            scopes,
            provider,
            expires_at,
            audiences: None,
            token_id: None,
            credential: None,
            subject_header,
            scopes_header,
        })
    }

    /// Whom the credential says that it is meant for (RFC 7519 `aud`).
    #[must_use]
    pub fn with_audiences(self, audiences: Option<Vec<String>>) -> Self {
        Self { audiences: audiences.map(Into::into), ..self }
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

    /// Whom the credential is meant for; `None` when it cannot say.
    pub fn audiences(&self) -> Option<&[String]> {
        self.audiences.as_deref()
    }

    /// What the credential calls itself.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// The subject, as the provider gave it.
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }

    /// What the caller may do.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
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

    /// The subject as a header value for the upstream.
    pub fn subject_header(&self) -> &HeaderValue {
        &self.subject_header
    }

    /// The scopes, separated by spaces, as a header value for the upstream.
    pub fn scopes_header(&self) -> &HeaderValue {
        &self.scopes_header
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
        assert_eq!(principal("Zoë").expect("UTF-8 is legal").subject().as_ref(), "Zoë");
    }

    #[test]
    fn it_ends_in_the_second_of_exp() {
        let alice = principal("alice").expect("legal");
        assert!(!alice.is_expired(9));
        assert!(alice.is_expired(10));
    }
}
