//! Tokens of an issuer that shares a secret with the edge.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

const SECRET: &str = "a secret of 32 bytes for the tests";

/// Signs tokens, and has the configuration with which the edge accepts them.
pub struct Tokens;

/// The claims of a token.
pub struct Claims(pub Value);

impl Tokens {
    pub const ISSUER: &str = "https://issuer.example";

    /// The secret's file: its name, which [`Self::PROVIDER`] uses, and its text.
    pub const SECRET_FILE: (&str, &str) = ("issuer.secret", SECRET);

    /// The provider `local` of a configuration.
    pub const PROVIDER: &str = "local: {jwt: {issuer: 'https://issuer.example', audiences: [mcp-edge], \
                                algorithms: [HS256], secret: {file: issuer.secret}, leeway: 1s}}";

    /// A valid token.
    pub fn token(subject: &str, scopes: &str) -> String {
        Self::sign(&Claims::good(subject, scopes).0)
    }

    pub fn sign(claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "at+jwt"})), part(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}

impl Claims {
    pub fn good(subject: &str, scopes: &str) -> Self {
        let now = mcp_edge::types::unix_now();
        Self(
            json!({"iss": Tokens::ISSUER, "aud": "mcp-edge", "sub": subject, "scope": scopes, "iat": now, "exp": now + 600}),
        )
    }

    pub fn with(mut self, claim: &str, value: Value) -> Self {
        self.0[claim] = value;
        self
    }
}
