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
use crate::config::units::{ScopeName, SecretSource, Span, Url};

/// Section `auth.cache`. `capacity` is read at start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// How many principals are kept (default 100000).
    pub capacity: u64,
    /// How long an allowed credential is believed, if it does not end earlier itself (default 5m).
    pub ttl: Span,
    /// How long a denied credential stays denied (default and maximum 5s).
    pub negative_ttl: Span,
    /// How long before its end an entry that is in use is validated anew without a request that waits (default: never). Up
    /// to half of the span is left to chance. A credential that is refused then is refused from then on.
    pub refresh_ahead: Option<Span>,
    /// How long after the end of its entry a credential that was allowed may pass while its provider cannot tell (default:
    /// not at all; at most 60s). Never past the credential's own end.
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

/// One provider: exactly one kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Validates JSON Web Tokens here (RFC 7519, RFC 9068).
    pub jwt: Option<Jwt>,
    /// Asks an authentication server: what nginx calls `auth_request`.
    pub lookup: Option<Lookup>,
    /// Asks the issuer of opaque tokens (RFC 7662).
    pub introspection: Option<Introspection>,
    /// Knows API keys by their hashes.
    pub api_keys: Option<ApiKeys>,
    /// Knows clients by their certificates.
    pub mtls: Option<Mtls>,
    /// Scopes that membership in a group gives, by the group's name.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<ScopeName>>,
}

/// `jwt` of a provider: `jwks` or `secret` gives the keys; without either they are found where the metadata of `issuer`
/// says (OpenID Connect Discovery, RFC 8414).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// What `iss` must be; it is also announced to clients as their authorization server.
    pub issuer: String,
    /// One of these must be in `aud`. Without the list, a token must be meant for the route that it is used on: its
    /// `audiences`, or else its `public_url`.
    pub audiences: Option<Vec<String>>,
    /// Where the issuer's public keys are, when its metadata does not say it or is not to be asked.
    pub jwks: Option<Jwks>,
    /// A secret shared with the issuer, for HS256, HS384 and HS512 only.
    pub secret: Option<SecretSource>,
    /// The signature algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may differ (default 10s, at most 30s).
    #[serde(default = "default_leeway")]
    pub leeway: Span,
    /// The claim that names the caller (default `sub`).
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// A claim with scopes beside `scope` and `scp`: a string with spaces, or a list.
    pub scopes_claim: Option<String>,
    /// The claim with the caller's groups (default `groups`).
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Claims that must be there: `[client_id]`, or with their values: `{tenant: acme, azp: [web, cli]}`. A claim that is
    /// a list must hold one of the values.
    #[serde(default)]
    pub required_claims: RequiredClaims,
    /// What `typ` in the token's header must be, such as `[at+jwt]`; default: `at+jwt`, `JWT` or nothing.
    pub typ: Option<Vec<String>>,
}

/// `jwks` of a provider: exactly one of `url` and `file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// Where the key set (RFC 7517) is fetched from.
    pub url: Option<Url>,
    /// A file with a key set.
    pub file: Option<PathBuf>,
    /// How often a URL is fetched again in the background (default 5m).
    #[serde(default = "default_refresh")]
    pub refresh: Span,
}

pub(crate) fn default_refresh() -> Span {
    Span(Duration::from_secs(300))
}

/// Signature algorithms of RFC 7518 section 3.1 and RFC 8037. `none` is not among them.
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
