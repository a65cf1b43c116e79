//! Signs assertions: JWTs that tell an upstream who the caller is, and that the upstream can verify.

use serde_json::{Value, json};

use super::error::UpstreamTokenError;
use crate::auth::outbound::client_authentication::random_id;
use crate::config::{Assertion, limits};
use crate::types::{Principal, UnixSeconds, unix_now};

/// Signs assertions for one audience. Each assertion is for one request and has its own `jti`.
#[derive(Debug)]
pub(super) struct Signer {
    settings: Assertion,
    /// The key's `kid`.
    id: String,
}

impl Signer {
    pub(super) fn new(settings: &Assertion) -> Self {
        Self { id: settings.key.id(), settings: settings.clone() }
    }

    /// A signed JWT about `principal` (RFC 7519). Its `typ` is `JWT` and not `at+jwt`, so that nobody mistakes it for
    /// an access token of the caller's authorization server (RFC 8725 section 3.11).
    pub(super) fn sign(&self, principal: &Principal) -> Result<String, UpstreamTokenError> {
        let cannot = UpstreamTokenError::Unavailable("the edge cannot sign the assertion for the upstream");
        let claims = self.claims(principal, unix_now(), random_id().ok_or(cannot)?);
        self.settings.key.sign_jwt(json!({"typ": "JWT", "kid": self.id}), &claims).map_err(|_| cannot)
    }

    fn claims(&self, principal: &Principal, now: UnixSeconds, id: String) -> Value {
        // The assertion must not outlive the caller's credential, but it lasts at least `limits::ASSERTION_MIN`,
        // because a credential that is accepted within its leeway has already ended.
        let least = now + limits::ASSERTION_MIN.as_secs();
        let end = now + self.settings.lifetime.as_secs();
        let end = principal.expires_at().map_or(end, |credential| end.min(credential.max(least)));
        json!({
            "iss": self.settings.issuer, "sub": principal.subject(), "provider": **principal.provider(),
            "aud": self.settings.audience, "scope": principal.scopes().to_string(), "iat": now, "nbf": now, "exp": end,
            "jti": id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ScopeSet, SigningKey};
    use std::time::Duration;

    #[test]
    fn an_assertion_ends_with_the_callers_credential() {
        let pem = include_bytes!("../../../tests/fixtures/keys/rsa.pem");
        let key = SigningKey::from_pem(pem).expect("a key");
        let lifetime = Duration::from_secs(60);
        let signer = Signer::new(&Assertion { issuer: "edge".into(), key, audience: "a".into(), lifetime });
        for (credential, end) in
            [(None, 1060), (Some(2000), 1060), (Some(1030), 1030), (Some(1001), 1005), (Some(995), 1005)]
        {
            let scopes: ScopeSet = ["b", "a"].into_iter().map(|scope| scope.parse().expect("legal")).collect();
            let alice = Principal::new("alice", scopes, "corp".into(), credential).expect("legal");
            let expected = json!({
                "iss": "edge", "sub": "alice", "provider": "corp", "aud": "a", "scope": "a b", "iat": 1000, "nbf": 1000,
                "exp": end, "jti": "1",
            });
            assert_eq!(signer.claims(&alice, 1000, "1".into()), expected, "{credential:?}");
        }
    }
}
