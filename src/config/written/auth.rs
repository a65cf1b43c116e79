//! Section `auth` as written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api_keys::ApiKeys;
use super::claims::{RequiredClaims, default_groups_claim, default_leeway, default_subject_claim};
use super::introspection::Introspection;
use super::lookup::Lookup;
use super::mtls::Mtls;
use crate::config::limits;
use crate::config::units::{Header, ScopeName, SecretSource, Span, Url};

/// Section `auth.cache`. A change of `capacity` needs a restart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// How many principals the cache holds (default 100000).
    pub capacity: u64,
    /// How long the cache keeps the decision that a credential is valid (default 5m), but never past the credential's
    /// own end.
    pub ttl: Span,
    /// How long the cache keeps the decision that a credential is not valid (default and maximum 5s).
    pub negative_ttl: Span,
    /// How long before its end an entry that is in use is validated again in the background (default: never; at most
    /// half of `ttl`). This time is shortened at random, by up to half, so that entries of the same age are not
    /// validated all at once. A credential that is refused then is refused from then on.
    pub refresh_ahead: Option<Span>,
    /// How long after its end an entry may still be used while its provider is unavailable (default: not at all; at
    /// most 60s). It is never used after the credential itself has expired.
    pub stale_if_error: Option<Span>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            capacity: 100_000,
            ttl: Span(Duration::from_secs(300)),
            negative_ttl: Span(limits::NEGATIVE_TTL),
            refresh_ahead: None,
            stale_if_error: None,
        }
    }
}

/// One provider. It has exactly one of `jwt`, `lookup`, `introspection`, `api_keys` and `mtls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Validates JSON Web Tokens in the edge itself (RFC 7519, RFC 9068).
    pub jwt: Option<Jwt>,
    /// Sends credentials to an authentication server, like `auth_request` of nginx.
    pub lookup: Option<Lookup>,
    /// Sends opaque tokens to their authorization server (RFC 7662).
    pub introspection: Option<Introspection>,
    /// Validates API keys, of which it knows the hashes.
    pub api_keys: Option<ApiKeys>,
    /// Identifies clients by their certificates.
    pub mtls: Option<Mtls>,
    /// The scopes that members of a group get, by the name of the group. Not for `api_keys` and `mtls`.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<ScopeName>>,
}

/// `jwt` of a provider. The keys come from `jwks` or `secret`. Without either, the edge reads the metadata of `issuer`
/// to find them (OpenID Connect Discovery, RFC 8414).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The value that `iss` must have. The edge also announces it to clients as their authorization server.
    pub issuer: String,
    /// One of these must be in `aud`. Without the list, `aud` must contain one of `audiences` of the route, or else its
    /// `public_url`.
    pub audiences: Option<Vec<String>>,
    /// The claim that must have one of `audiences`, for issuers whose access tokens have no `aud` (such as `client_id` with
    /// Amazon Cognito). A token that has `aud` too must have one of `audiences` there as well. Default: `aud`.
    pub audience_claim: Option<String>,
    /// The field of requests that carries the token (default `Authorization`). With a field of its own, `Authorization` is the
    /// upstream's, and is sent on to it.
    pub header: Option<Header>,
    /// Where the issuer's public keys are, if its metadata does not say it or must not be used.
    pub jwks: Option<Jwks>,
    /// A secret of at least 32 bytes that the issuer has too. For HS256, HS384 and HS512 only.
    pub secret: Option<SecretSource>,
    /// The accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may differ from the edge's (default 10s, at most 30s).
    #[serde(default = "default_leeway")]
    pub leeway: Span,
    /// The claim with the caller's subject (default `sub`).
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// A claim with scopes, in addition to `scope` and `scp`: a string with spaces, or a list.
    pub scopes_claim: Option<String>,
    /// The claim with the caller's groups (default `groups`).
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Claims that a token must have: `[client_id]`, or with the accepted values: `{tenant: acme, azp: [web, cli]}`. A
    /// claim that is a list must contain one of the values.
    #[serde(default)]
    pub required_claims: RequiredClaims,
    /// The accepted values of `typ` in the token's header, such as `[at+jwt]` (default: `at+jwt`, `JWT`, or no `typ`).
    pub typ: Option<Vec<String>>,
}

/// `jwks` of a provider: exactly one of `url` and `file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// The URL from which the edge fetches the key set (RFC 7517).
    pub url: Option<Url>,
    /// A file with the key set.
    pub file: Option<PathBuf>,
    /// How often the edge fetches `url` again in the background (default 5m, at least 10s).
    #[serde(default = "default_refresh")]
    pub refresh: Span,
}

pub(crate) fn default_refresh() -> Span {
    Span(Duration::from_secs(300))
}

/// The signature algorithms of RFC 7518 section 3.1 and RFC 8037, without `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// True for the algorithms whose key is a shared secret.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}
