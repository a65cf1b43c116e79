//! The caller that a provider has validated.

use std::sync::Arc;

use thiserror::Error;

use super::{Grant, ScopeSet, UnixSeconds};

/// The validated caller. The token cache holds very many principals, so they share the values that many of them have in
/// common.
#[derive(Debug)]
pub struct Principal {
    subject: Box<str>,
    grant: Arc<Grant>,
    provider: Arc<str>,
    expires_at: Option<UnixSeconds>,
    token_id: Option<Box<str>>,
    credential: Option<[u8; 32]>,
    /// In a box, because most credentials have none.
    twin: Option<Box<[u8; 32]>>,
}

/// The subject cannot be sent to an upstream.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrincipalError {
    /// The subject is empty.
    #[error("the subject is empty")]
    EmptySubject,
    /// The subject contains control characters. It is refused, not changed, because it becomes the value of a header
    /// field.
    #[error("the subject contains a control character")]
    ControlCharacter,
    /// The subject begins or ends with white space, which a header field cannot carry: the upstream would see somebody else.
    #[error("the subject begins or ends with white space")]
    OuterSpace,
}

impl Principal {
    /// Checks that `subject` can be the value of a header field. `expires_at` is when the credential expires, if it
    /// does.
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
        if subject.trim() != subject {
            return Err(PrincipalError::OuterSpace);
        }
        let grant = Arc::new(grant.into());
        Ok(Self { subject: subject.into(), grant, provider, expires_at, token_id: None, credential: None, twin: None })
    }

    /// Replaces the grant with an equal one that other principals use too.
    #[must_use]
    pub fn with_grant(self, grant: Arc<Grant>) -> Self {
        Self { grant, ..self }
    }

    /// Adds the id of the token (RFC 7519 `jti`).
    #[must_use]
    pub fn with_token_id(self, id: Option<String>) -> Self {
        Self { token_id: id.map(Into::into), ..self }
    }

    /// Adds the SHA-256 digest of the credential.
    #[must_use]
    pub fn with_credential(self, digest: [u8; 32]) -> Self {
        Self { credential: Some(digest), ..self }
    }

    /// Adds the SHA-256 digest of another text of the same credential.
    #[must_use]
    pub fn with_twin(self, digest: Option<[u8; 32]>) -> Self {
        Self { twin: digest.map(Box::new), ..self }
    }

    /// True when `digest` is that of the credential, in any text that everybody can make of it.
    pub fn has_credential(&self, digest: &[u8; 32]) -> bool {
        self.credential.as_ref() == Some(digest) || self.twin.as_deref() == Some(digest)
    }

    /// The SHA-256 digest of the credential. `None` when the request carried no token, as with a client certificate.
    pub fn credential(&self) -> Option<&[u8; 32]> {
        self.credential.as_ref()
    }

    /// The id of the token (RFC 7519 `jti`).
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// The subject as the provider gave it. It can be the value of a header field.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The scopes and the audiences of the credential.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// The caller's scopes.
    pub fn scopes(&self) -> &ScopeSet {
        self.grant.scopes()
    }

    /// The name of the provider that validated the credential.
    pub fn provider(&self) -> &Arc<str> {
        &self.provider
    }

    /// When the credential expires.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        self.expires_at
    }

    /// True from the second on in which the credential expires.
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
        assert_eq!(principal(" admin").err(), Some(PrincipalError::OuterSpace));
        assert_eq!(principal("admin\u{a0}").err(), Some(PrincipalError::OuterSpace));
        assert_eq!(principal("Zoë").expect("UTF-8 is legal").subject(), "Zoë");
        // Every subject that is accepted must be a legal header value.
        for byte in 0..=u8::MAX {
            let subject = format!("a{}", char::from(byte));
            let legal = http::HeaderValue::from_bytes(subject.as_bytes()).is_ok();
            assert!(legal || principal(&subject).is_err(), "{byte:x}");
        }
    }

    #[test]
    fn it_expires_in_the_second_of_exp() {
        let alice = principal("alice").expect("legal");
        assert!(!alice.is_expired(9));
        assert!(alice.is_expired(10));
    }
}
