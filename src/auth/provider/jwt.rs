//! Validates JSON Web Tokens (RFC 7519) as access tokens (RFC 9068), with the practices of RFC 8725.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::claims;
use super::claims::{Claims, audiences};
use super::discovery::Discovery;
use super::jwks::{KeySet, Location};
use super::members::Members;
use crate::auth::error::AuthError;
use crate::auth::outbound::client::OutboundClient;
use crate::config;
use crate::config::{JwtKeys, JwtProvider};
use crate::metrics::{KeyMetrics, Metrics};
use crate::types::{UnixSeconds, unix_now};

/// Validates the tokens of one issuer.
#[derive(Debug)]
pub(crate) struct JwtValidator {
    settings: JwtProvider,
    validation: Validation,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Set(Box<KeySet>),
    Secret(DecodingKey),
}

impl JwtValidator {
    pub(crate) fn new(name: &Arc<str>, settings: &JwtProvider, client: &OutboundClient, metrics: &Metrics) -> Self {
        let mut validation = Validation {
            algorithms: settings.algorithms.iter().copied().map(algorithm).collect(),
            leeway: settings.leeway.as_secs(),
            validate_nbf: true,
            ..Validation::default()
        };
        validation.set_issuer(&[&settings.issuer]);
        // Checked below, also for issuers that write the audience in another claim.
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "iss"]);
        let fetched = |location: Location, refresh: Duration| {
            let metrics = KeyMetrics::new(metrics, name);
            Keys::Set(Box::new(KeySet::fetched(Arc::clone(name), location, refresh, client.clone(), metrics)))
        };
        let keys = match &settings.keys {
            JwtKeys::Url { url, refresh } => fetched(Location::Url(Arc::new(url.clone())), *refresh),
            JwtKeys::Discovered { issuer, refresh } => {
                fetched(Location::Metadata(Discovery::new(&settings.issuer, issuer)), *refresh)
            }
            JwtKeys::File(set) => Keys::Set(Box::new(KeySet::from_file(Arc::clone(name), set))),
            JwtKeys::Secret(secret) => Keys::Secret(DecodingKey::from_secret(secret.expose())),
        };
        Self { settings: settings.clone(), validation, keys }
    }

    /// The issuer whose tokens these are.
    pub(crate) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// The request field of its own from which the token is read.
    pub(crate) fn header(&self) -> Option<&HeaderName> {
        self.settings.header.as_ref()
    }

    /// See [`KeySet::keep_fresh`].
    pub(crate) async fn keep_fresh(&self) {
        if let Keys::Set(keys) = &self.keys {
            keys.keep_fresh().await;
        }
    }

    /// Checks the algorithm, type, key, signature, issuer, audience and times of a token.
    pub(crate) async fn validate(&self, token: &str) -> Result<Claims, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Denied("the token is not a JWT"))?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(AuthError::Denied("the token is signed with an algorithm that is not accepted"));
        }
        if !self.accepts_type(header.typ.as_deref()) {
            return Err(AuthError::Denied("the `typ` of the token is not that of an access token"));
        }
        Members::of_header(token)?;
        if header.crit.is_some() {
            return Err(AuthError::Denied("the token has critical header fields (`crit`) that are not supported"));
        }
        let key = match &self.keys {
            Keys::Set(keys) => keys.find(header.kid.as_deref(), header.alg).await?,
            Keys::Secret(key) => key.clone(),
        };
        // The library requires all accepted algorithms to be of the key's family, but an issuer may have keys of
        // several families. So only the token's own algorithm, which was checked above, is accepted here.
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let claims = jsonwebtoken::decode::<Members>(token, &key, &validation)
            .map_err(|error| refusal(error.kind()))?
            .claims
            .beyond_doubt()?;
        if let Some(required) = self.settings.required_claims.iter().find(|required| !claims::meets(&claims, required))
        {
            let name = required.name.as_str().into();
            let problem = match claims.get(&required.name) {
                None | Some(Value::Null) => "is missing",
                Some(_) => "has none of the values that this provider requires",
            };
            return Err(AuthError::Claim { name, problem });
        }
        let audiences = self.audiences(&claims)?;
        let read = Claims::read(&claims, &self.settings.claims)?;
        self.check_times(read.expires_at, claims.get("iat"))?;
        Ok(Claims { audiences: Some(audiences), ..read })
    }

    /// For whom the token was issued. It must be for one of this provider's `audiences`, if there are any.
    fn audiences(&self, claims: &Map<String, Value>) -> Result<Vec<String>, AuthError> {
        let own = self.settings.audience_claim.as_deref();
        let mut all = Vec::new();
        for name in own.into_iter().chain(["aud"]) {
            let named = audiences(claims.get(name));
            let problem = match named {
                // RFC 7519 section 4.1.3: a token that names its audience is only for that audience.
                None if own.is_some() && name == "aud" => continue,
                None => "is missing",
                Some(named) if named.is_empty() => "has no valid audience",
                Some(named)
                    if !self.settings.audiences.is_empty()
                        && !named.iter().any(|one| self.settings.audiences.contains(one)) =>
                {
                    "names another audience"
                }
                Some(named) => {
                    all.extend(named);
                    continue;
                }
            };
            return Err(AuthError::Claim { name: name.into(), problem });
        }
        Ok(all)
    }

    /// The library takes a token for valid in the second in which it expires, and does not look at `iat`.
    fn check_times(&self, expires_at: Option<UnixSeconds>, issued_at: Option<&Value>) -> Result<(), AuthError> {
        let (now, leeway) = (unix_now(), self.settings.leeway.as_secs());
        // `exp` was validated, so it is a number.
        let end = expires_at.ok_or(AuthError::Denied("the token does not say when it expires"))?;
        if end.saturating_add(leeway) <= now {
            return Err(AuthError::Denied("the token has expired"));
        }
        let problem = match issued_at.filter(|date| !date.is_null()).map(claims::numeric_date) {
            None => return Ok(()),
            Some(Some(issued)) if issued <= now.saturating_add(leeway) => return Ok(()),
            Some(Some(_)) => "is in the future",
            Some(None) => "is not a valid number",
        };
        Err(AuthError::Claim { name: "iat".into(), problem })
    }

    /// Without configured `types`, accepts `at+jwt` (RFC 9068 section 2.1). Also accepts `JWT` and tokens without
    /// `typ`, because many issuers write no more. Any other `typ` is refused, such as that of an ID-JAG, because it
    /// marks another kind of token.
    fn accepts_type(&self, typ: Option<&str>) -> bool {
        let typ = typ.map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        match (&self.settings.types, typ) {
            (Some(types), Some(typ)) => types.iter().any(|own| own == typ),
            (Some(_), None) => false,
            (None, typ) => matches!(typ, None | Some("at+jwt" | "jwt")),
        }
    }
}

/// The issuer that a token claims. It is not verified: it only selects the provider that verifies the token.
pub(crate) fn claimed_issuer(token: &str) -> Option<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(token).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

fn refusal(kind: &jsonwebtoken::errors::ErrorKind) -> AuthError {
    use jsonwebtoken::errors::ErrorKind::*;
    AuthError::Denied(match kind {
        MissingRequiredClaim(name) => return AuthError::Claim { name: name.as_str().into(), problem: "is missing" },
        ExpiredSignature => "the token has expired",
        ImmatureSignature => "the token is not valid yet",
        InvalidSignature => "the token's signature is wrong",
        InvalidIssuer => "the token is from another issuer",
        InvalidAlgorithm | InvalidKeyFormat => "the token is signed with an algorithm that is not accepted",
        _ => "the token is not a valid JWT",
    })
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
    use crate::config::{ClaimNames, RequiredClaim};
    use crate::types::Secret;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::hmac;
    use serde_json::json;

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

    fn settings() -> JwtProvider {
        JwtProvider {
            issuer: "https://idp".into(),
            audiences: vec!["mcp-edge".into()],
            audience_claim: None,
            header: None,
            keys: JwtKeys::Secret(Secret::new(SECRET)),
            algorithms: vec![config::Algorithm::HS256],
            leeway: Duration::from_secs(10),
            claims: ClaimNames { subject: "sub".into(), scopes: None, groups: "groups".into() },
            required_claims: Vec::new(),
            types: None,
        }
    }

    async fn validate(token: &str) -> Result<Claims, AuthError> {
        validate_as(&settings(), token).await
    }

    async fn validate_as(settings: &JwtProvider, token: &str) -> Result<Claims, AuthError> {
        crate::auth::install_crypto();
        let client = OutboundClient::new().expect("a client needs no network");
        let metrics = Metrics::new().expect("the families are consistent");
        JwtValidator::new(&"test".into(), settings, &client, &metrics).validate(token).await
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
    async fn invalid_tokens_are_denied() {
        let good = with(|_| ());
        let (message, _) = good.rsplit_once('.').expect("three parts");
        let header = |header: Value| token(header, &claims());
        for (what, token) in [
            ("no signature", format!("{message}.")),
            ("another signature", format!("{message}.AAAA")),
            ("four parts", format!("{good}.x")),
            ("not a JWT", "abc".into()),
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
            let refused = validate(&token).await;
            assert!(matches!(refused, Err(AuthError::Denied(_) | AuthError::Claim { .. })), "{what}");
        }
    }

    /// Case E3: a token of Cognito has no `aud`, and one of a client that asked for a resource (RFC 8707) has both.
    #[tokio::test]
    async fn another_claim_may_bind_a_token_to_the_edge() {
        let settings = JwtProvider {
            audiences: vec!["web".into(), "https://edge.example/a/mcp".into()],
            audience_claim: Some("client_id".into()),
            ..settings()
        };
        for (client, aud, expected) in [
            (json!("web"), Value::Null, Ok(1)),
            (json!(["cli", "web"]), Value::Null, Ok(2)),
            (json!("web"), json!("https://edge.example/a/mcp"), Ok(2)),
            (
                json!("web"),
                json!("https://other.example/mcp"),
                Err("the claim `aud` of the token names another audience"),
            ),
            (json!("cli"), Value::Null, Err("the claim `client_id` of the token names another audience")),
            (json!("cli"), json!("web"), Err("the claim `client_id` of the token names another audience")),
            (Value::Null, json!("web"), Err("the claim `client_id` of the token is missing")),
            (json!([]), Value::Null, Err("the claim `client_id` of the token has no valid audience")),
        ] {
            let token = with(|claims| {
                for (name, value) in [("client_id", &client), ("aud", &aud)] {
                    match value {
                        Value::Null => drop(claims.remove(name)),
                        value => drop(claims.insert(name.into(), value.clone())),
                    }
                }
            });
            let found = validate_as(&settings, &token).await;
            let found =
                found.map(|claims| claims.audiences.unwrap_or_default().len()).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{client} {aud}");
        }
    }

    /// Case E9.
    #[tokio::test]
    async fn dates_and_scopes_are_read_strictly() {
        let now = unix_now();
        let strict = JwtProvider { leeway: Duration::ZERO, ..settings() };
        for (claim, value, expected) in [
            ("exp", json!(now), false),
            ("exp", json!(now + 30), true),
            ("iat", json!(now - 30), true),
            ("iat", json!(now + 30), false),
            ("iat", json!("now"), false),
            ("iat", Value::Null, true),
            ("scope", json!("a b"), true),
            ("scope", json!("a\tb"), false),
            ("scope", json!("a b\u{0}"), false),
            ("scp", json!(["a", "b\n"]), false),
        ] {
            let token = with(|claims| drop(claims.insert(claim.into(), value.clone())));
            assert_eq!(validate_as(&strict, &token).await.is_ok(), expected, "{claim} {value}");
        }
    }

    /// Other kinds of token are not accepted as access tokens (RFC 9068 section 2.1, RFC 8725 section 3.11).
    #[tokio::test]
    async fn kinds_of_token() {
        let any = settings();
        let strict = JwtProvider { types: Some(vec!["at+jwt".into()]), ..settings() };
        for (typ, accepted, by_strict) in [
            (json!("at+jwt"), true, true),
            (json!("AT+JWT"), true, true),
            (json!("application/at+jwt"), true, true),
            (json!("Application/AT+JWT"), true, true),
            (json!("JWT"), true, false),
            (Value::Null, true, false),
            (json!(""), false, false),
            (json!("id_token+jwt"), false, false),
            (json!("oauth-id-jag+jwt"), false, false),
            (json!("application/oauth-id-jag+jwt"), false, false),
            (json!("logout+jwt"), false, false),
            (json!("dpop+jwt"), false, false),
            (json!(1), false, false),
        ] {
            let mut header = json!({"alg": "HS256", "typ": typ});
            if typ.is_null() {
                header.as_object_mut().expect("an object").remove("typ");
            }
            let token = token(header, &claims());
            assert_eq!(validate_as(&any, &token).await.is_ok(), accepted, "{typ}");
            assert_eq!(validate_as(&strict, &token).await.is_ok(), by_strict, "{typ}");
        }
    }

    #[tokio::test]
    async fn required_claims() {
        let required = |name: &str, values: Vec<Value>| JwtProvider {
            required_claims: vec![RequiredClaim { name: name.into(), values }],
            ..settings()
        };
        let token = with(|claims| drop(claims.insert("client_id".into(), json!("web"))));
        assert!(validate_as(&required("client_id", vec![]), &token).await.is_ok());
        assert!(validate_as(&required("client_id", vec![json!("web")]), &token).await.is_ok());
        for settings in [required("client_id", vec![json!("cli")]), required("tenant", vec![])] {
            let error = validate_as(&settings, &token).await.expect_err("refused").to_string();
            assert!(error.contains(&settings.required_claims[0].name), "{error}");
        }
    }
}
