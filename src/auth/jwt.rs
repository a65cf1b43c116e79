//! Validates JSON Web Tokens (RFC 7519) as access tokens (RFC 9068), with the practices of RFC 8725.

use std::collections::HashSet;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::client::OutboundClient;
use super::error::AuthError;
use super::jwks::KeySet;
use super::members::Members;
use crate::config::{self, JwtKeys, JwtProvider};
use crate::types::UnixSeconds;

/// Checks tokens of one issuer.
#[derive(Debug)]
pub(super) struct JwtValidator {
    settings: JwtProvider,
    validation: Validation,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Set(KeySet),
    Secret(DecodingKey),
}

/// What a valid token says.
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) scopes: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) expires_at: UnixSeconds,
    pub(super) audiences: Vec<String>,
    pub(super) token_id: Option<String>,
}

impl JwtValidator {
    pub(super) fn new(name: &Arc<str>, settings: &JwtProvider, client: &OutboundClient) -> Self {
        let mut validation = Validation {
            algorithms: settings.algorithms.iter().copied().map(algorithm).collect(),
            leeway: settings.leeway.as_secs(),
            validate_nbf: true,
            ..Validation::default()
        };
        validation.set_issuer(&[&settings.issuer]);
        if settings.audiences.is_empty() {
            // The route asks, of the list that the principal keeps.
            validation.validate_aud = false;
        } else {
            validation.set_audience(&settings.audiences);
        }
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let keys = match &settings.keys {
            JwtKeys::Url { url, refresh } => {
                Keys::Set(KeySet::from_url(Arc::clone(name), url.clone(), *refresh, client.clone()))
            }
            JwtKeys::File(set) => Keys::Set(KeySet::from_file(Arc::clone(name), set)),
            JwtKeys::Secret(secret) => Keys::Secret(DecodingKey::from_secret(secret.expose())),
        };
        Self { settings: settings.clone(), validation, keys }
    }

    /// The issuer whose tokens these are.
    pub(super) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// See [`KeySet::keep_fresh`].
    pub(super) async fn keep_fresh(&self) {
        if let Keys::Set(keys) = &self.keys {
            keys.keep_fresh().await;
        }
    }

    /// Checks everything: algorithm, kind, key, signature, issuer, audience, times.
    pub(super) async fn validate(&self, token: &str) -> Result<Claims, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Denied("the token is no JWT"))?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(AuthError::Denied("the token is signed with an algorithm that is not accepted"));
        }
        if !header.typ.as_deref().is_none_or(is_access_token_type) {
            return Err(AuthError::Denied("the token is of another kind than an access token"));
        }
        Members::of_header(token)?;
        if header.crit.is_some() {
            return Err(AuthError::Denied("the token has critical header fields that are not understood"));
        }
        let key = match &self.keys {
            Keys::Set(keys) => keys.find(header.kid.as_deref(), header.alg).await?,
            Keys::Secret(key) => key.clone(),
        };
        // The library wants all accepted algorithms to be of the key's family, but an issuer may have keys of several: the
        // token's own, which was checked above, is the only one that the key may serve.
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let claims = jsonwebtoken::decode::<Members>(token, &key, &validation)
            .map_err(|error| AuthError::Denied(reason(error.kind())))?
            .claims
            .beyond_doubt()?;
        self.read(&claims)
    }

    fn read(&self, claims: &Map<String, Value>) -> Result<Claims, AuthError> {
        let subject = claims.get(&self.settings.subject_claim).and_then(Value::as_str);
        let subject = subject.ok_or(AuthError::Denied("the token does not name its subject"))?.to_owned();
        // `exp` was validated; a fraction is legal (RFC 7519 section 2) and rounds down, to the safe side.
        let expires_at = claims.get("exp").and_then(|exp| exp.as_u64().or_else(|| exp.as_f64().map(|exp| exp as u64)));
        let expires_at = expires_at.ok_or(AuthError::Denied("the token does not say when it ends"))?;
        let own = self.settings.scopes_claim.as_deref();
        let scopes: HashSet<String> = [Some("scope"), Some("scp"), own]
            .into_iter()
            .flatten()
            .flat_map(|claim| words(claims.get(claim)))
            .collect();
        let groups = match claims.get(&self.settings.groups_claim) {
            Some(Value::String(group)) => vec![group.clone()],
            other => words(other),
        };
        let audiences = match claims.get("aud") {
            Some(Value::String(audience)) => vec![audience.clone()],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if audiences.is_empty() {
            return Err(AuthError::Denied("the token does not say whom it is meant for"));
        }
        let token_id = claims.get("jti").and_then(Value::as_str).map(str::to_owned);
        Ok(Claims { subject, scopes: scopes.into_iter().collect(), groups, expires_at, audiences, token_id })
    }
}

/// A string with spaces, or a list of strings.
fn words(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// `at+jwt` (RFC 9068 section 2.1) and, because many issuers say no more, `JWT`. ID tokens that call themselves
/// anything else, and other kinds of token, are none.
fn is_access_token_type(typ: &str) -> bool {
    let typ = typ.strip_prefix("application/").unwrap_or(typ);
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("jwt")
}

/// The issuer that a token claims, unverified: it only selects who is to verify it.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(token).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind::*;
    match kind {
        ExpiredSignature => "the token has expired",
        ImmatureSignature => "the token is not valid yet",
        InvalidSignature => "the token's signature is wrong",
        InvalidAudience => "the token is for another audience",
        InvalidIssuer => "the token is from another issuer",
        MissingRequiredClaim(_) => "the token lacks a required claim",
        InvalidAlgorithm | InvalidKeyFormat => "the token is signed with an algorithm that is not accepted",
        _ => "the token is no valid JWT",
    }
}

fn algorithm(algorithm: config::Algorithm) -> Algorithm {
    match algorithm {
        config::Algorithm::HS256 => Algorithm::HS256,
        config::Algorithm::HS384 => Algorithm::HS384,
        config::Algorithm::HS512 => Algorithm::HS512,
        config::Algorithm::RS256 => Algorithm::RS256,
        config::Algorithm::RS384 => Algorithm::RS384,
        config::Algorithm::RS512 => Algorithm::RS512,
        config::Algorithm::PS256 => Algorithm::PS256,
        config::Algorithm::PS384 => Algorithm::PS384,
        config::Algorithm::PS512 => Algorithm::PS512,
        config::Algorithm::ES256 => Algorithm::ES256,
        config::Algorithm::ES384 => Algorithm::ES384,
        config::Algorithm::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Secret, unix_now};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::hmac;
    use serde_json::json;
    use std::time::Duration;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn token(header: Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn claims() -> Value {
        let now = unix_now();
        json!({"iss": "https://idp", "aud": ["mcp-edge"], "sub": "alice", "exp": now + 60, "nbf": now - 1,
               "scope": "a b", "scp": ["c"], "groups": ["analysts"]})
    }

    async fn validate(token: &str) -> Result<Claims, AuthError> {
        super::super::install_crypto();
        let settings = JwtProvider {
            issuer: "https://idp".into(),
            audiences: vec!["mcp-edge".into()],
            keys: JwtKeys::Secret(Secret::new(SECRET)),
            algorithms: vec![config::Algorithm::HS256],
            leeway: Duration::from_secs(10),
            subject_claim: "sub".into(),
            scopes_claim: None,
            groups_claim: "groups".into(),
        };
        let client = OutboundClient::new().expect("a client needs no network");
        JwtValidator::new(&"test".into(), &settings, &client).validate(token).await
    }

    fn with(change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut claims = claims();
        change(claims.as_object_mut().expect("an object"));
        token(json!({"alg": "HS256", "typ": "at+jwt"}), &claims)
    }

    #[tokio::test]
    async fn a_good_token_gives_its_claims() {
        let claims = validate(&with(|_| ())).await.expect("valid");
        let mut scopes = claims.scopes;
        scopes.sort_unstable();
        assert_eq!((claims.subject.as_str(), scopes.join(" ").as_str()), ("alice", "a b c"));
        assert_eq!(claims.groups, ["analysts"]);
    }

    #[tokio::test]
    async fn times_have_a_leeway_and_no_more() {
        let now = unix_now();
        assert!(validate(&with(|claims| drop(claims.insert("exp".into(), json!(now - 5))))).await.is_ok());
        assert!(validate(&with(|claims| drop(claims.insert("exp".into(), json!(now - 15))))).await.is_err());
        assert!(validate(&with(|claims| drop(claims.insert("nbf".into(), json!(now + 15))))).await.is_err());
    }

    #[tokio::test]
    async fn whatever_is_wrong_is_denied() {
        let good = with(|_| ());
        let (message, _) = good.rsplit_once('.').expect("three parts");
        let header = |header: Value| token(header, &claims());
        for (what, token) in [
            ("no signature", format!("{message}.")),
            ("another signature", format!("{message}.AAAA")),
            ("four parts", format!("{good}.x")),
            ("no JWT", "abc".into()),
            ("alg none", header(json!({"alg": "none"}))),
            ("alg not in the list", header(json!({"alg": "HS384"}))),
            ("alg of a public key", header(json!({"alg": "RS256"}))),
            ("crit", header(json!({"alg": "HS256", "crit": ["exp"]}))),
            ("another kind", header(json!({"alg": "HS256", "typ": "oauth-id-jag+jwt"}))),
            ("no exp", with(|claims| drop(claims.remove("exp")))),
            ("no aud", with(|claims| drop(claims.remove("aud")))),
            ("another aud", with(|claims| drop(claims.insert("aud".into(), json!("other"))))),
            ("no iss", with(|claims| drop(claims.remove("iss")))),
            ("another iss", with(|claims| drop(claims.insert("iss".into(), json!("https://evil"))))),
            ("no sub", with(|claims| drop(claims.remove("sub")))),
            ("exp as a string", with(|claims| drop(claims.insert("exp".into(), json!("9999999999"))))),
        ] {
            assert!(matches!(validate(&token).await, Err(AuthError::Denied(_))), "{what}");
        }
    }
}
