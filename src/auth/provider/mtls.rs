//! Maps client certificates to callers and scopes. The listener has already verified the certificates.

use super::claims::Claims;
use crate::auth::error::AuthError;
use crate::config::{CertificateName, MtlsProvider};
use crate::types::{ClientCertificate, unix_now};

/// Identifies callers by their client certificates.
#[derive(Debug)]
pub(crate) struct MtlsValidator {
    settings: MtlsProvider,
}

impl MtlsValidator {
    pub(crate) fn new(settings: &MtlsProvider) -> Self {
        Self { settings: settings.clone() }
    }

    /// The claims of the holder of `certificate`. The expiry is checked for every request, because a connection or a
    /// resumed TLS session may outlive the certificate.
    pub(crate) fn validate(&self, certificate: &ClientCertificate) -> Result<Claims, AuthError> {
        if certificate.not_after < unix_now() {
            return Err(AuthError::Denied("the client certificate has expired"));
        }
        let names = match self.settings.subject {
            CertificateName::SanUri => &certificate.uris,
            CertificateName::SanDns => &certificate.dns_names,
            CertificateName::CommonName => &certificate.common_names,
        };
        let subject = match names.as_slice() {
            [name] => name,
            [] => return Err(AuthError::Denied("the client certificate does not name its subject")),
            _ => return Err(AuthError::Denied("the client certificate names more than one subject")),
        };
        let own = self.settings.subjects.get(subject);
        if own.is_none() && !self.settings.allow_unlisted {
            return Err(AuthError::Forbidden("the subject of the client certificate is not listed"));
        }
        let scopes = self.settings.scopes.iter().chain(own.into_iter().flat_map(|own| own.iter()));
        Ok(Claims {
            subject: subject.clone(),
            scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
            groups: Vec::new(),
            expires_at: Some(certificate.not_after.saturating_add(1)),
            audiences: None,
            token_id: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScopeSet;

    fn scopes(text: &str) -> ScopeSet {
        text.split_whitespace().map(|scope| scope.parse().expect("legal")).collect()
    }

    #[test]
    fn a_certificate_needs_one_listed_name_and_must_not_have_expired() {
        let settings = |subject, allow_unlisted| {
            let subjects = [("spiffe://a/robot".to_owned(), scopes("c")), ("robot".to_owned(), scopes(""))];
            let subjects = subjects.into_iter().collect();
            MtlsValidator::new(&MtlsProvider { subject, scopes: scopes("a b"), subjects, allow_unlisted })
        };
        let certificate = |uris: &[&str], not_after| ClientCertificate {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            dns_names: vec!["robot.example".into()],
            common_names: vec!["robot".into()],
            not_after,
        };
        let later = unix_now() + 60;
        let robot = certificate(&["spiffe://a/robot"], later);
        let claims = settings(CertificateName::SanUri, false).validate(&robot).expect("the subject is listed");
        assert_eq!((claims.subject.as_str(), claims.scopes.join(" ").as_str()), ("spiffe://a/robot", "a b c"));
        assert_eq!(claims.expires_at, Some(later + 1));
        assert_eq!(settings(CertificateName::CommonName, false).validate(&robot).expect("listed").subject, "robot");
        let unlisted = settings(CertificateName::SanDns, false).validate(&robot);
        assert!(matches!(unlisted, Err(AuthError::Forbidden(_))));
        let unlisted =
            settings(CertificateName::SanDns, true).validate(&robot).expect("the subject need not be listed");
        assert_eq!((unlisted.subject.as_str(), unlisted.scopes.join(" ").as_str()), ("robot.example", "a b"));
        for wrong in [
            certificate(&[], later),
            certificate(&["spiffe://a/robot", "spiffe://a/other"], later),
            certificate(&["spiffe://a/robot"], unix_now() - 1),
        ] {
            let denied = settings(CertificateName::SanUri, true).validate(&wrong);
            assert!(matches!(denied, Err(AuthError::Denied(_))), "{wrong:?}");
        }
    }
}
