//! The checked providers, which validate credentials.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::jwk::JwkSet;
use serde_json::Value;

use crate::config::written::auth::Algorithm;
use crate::config::written::lookup::Anonymous;
use crate::config::written::mtls::CertificateName;
use crate::types::{KeyHash, ScopeSet, Secret, SigningKey, UnixSeconds};

/// A provider, which validates credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// The provider's name.
    pub name: Arc<str>,
    /// How the provider validates.
    pub kind: ProviderKind,
    /// The scopes that members of a group get, by the group's name.
    pub groups: BTreeMap<String, ScopeSet>,
}

/// How a provider validates.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderKind {
    /// The edge verifies JSON Web Tokens itself.
    Jwt(JwtProvider),
    /// The edge asks an authentication server.
    Lookup(LookupProvider),
    /// The edge asks the issuer of the tokens (RFC 7662).
    Introspection(IntrospectionProvider),
    /// The edge compares API keys with their hashes.
    ApiKeys(ApiKeysProvider),
    /// The edge takes the caller's name from the client certificate.
    Mtls(MtlsProvider),
}

/// A checked `jwt`.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtProvider {
    /// The required value of `iss`.
    pub issuer: String,
    /// One of these must be in `aud`; empty: the route decides which audiences are accepted.
    pub audiences: Vec<String>,
    /// The claim that must have one of `audiences`; `None`: `aud`.
    pub audience_claim: Option<Arc<str>>,
    /// The request field that carries the token; `None`: `Authorization`.
    pub header: Option<HeaderName>,
    /// Where the issuer's keys come from.
    pub keys: JwtKeys,
    /// The accepted signature algorithms: at least one, all symmetric or all asymmetric.
    pub algorithms: Vec<Algorithm>,
    /// How far the clocks may differ; at most [`LEEWAY`](crate::config::limits::LEEWAY).
    pub leeway: Duration,
    /// The claims that say who the caller is.
    pub claims: ClaimNames,
    /// Further claims that a token must have.
    pub required_claims: Vec<RequiredClaim>,
    /// The accepted values of `typ`, in lower case and without `application/`; `None`: `at+jwt`, `JWT` or no `typ` at
    /// all.
    pub types: Option<Vec<String>>,
}

/// The names of the claims that say who the caller is.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimNames {
    /// The claim that names the caller.
    pub subject: String,
    /// A claim with scopes, in addition to `scope` and `scp`.
    pub scopes: Option<String>,
    /// The claim with the caller's groups.
    pub groups: String,
}

/// A claim that a token must have.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredClaim {
    /// The claim's name.
    pub name: String,
    /// The claim, or one item of it when it is a list, must equal one of these values. Empty: any value except `null`.
    pub values: Vec<Value>,
}

/// Where the keys of a `jwt` provider come from.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// The keys are fetched from a URL, and refreshed.
    Url {
        /// The URL of the key set.
        url: reqwest::Url,
        /// How often the key set is fetched.
        refresh: Duration,
    },
    /// The keys are fetched from the URL that the issuer's metadata names (OpenID Connect Discovery, RFC 8414).
    Discovered {
        /// The issuer as a URL, without query and fragment.
        issuer: reqwest::Url,
        /// How often the key set is fetched.
        refresh: Duration,
    },
    /// The keys are read from a file, together with the configuration.
    File(JwkSet),
    /// The key is a secret that the edge shares with the issuer.
    Secret(Secret),
}

/// A checked `lookup`.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupProvider {
    /// The URL of the authentication server.
    pub url: reqwest::Url,
    /// The request fields that may carry the credential.
    pub headers: Vec<HeaderName>,
    /// Whether the server is asked about requests without a credential.
    pub anonymous: Anonymous,
    /// Further request fields that are sent to the server.
    pub context_headers: Vec<HeaderName>,
    /// The fields for the MCP method, and for the name or URI that it is about; `None`: they are not sent.
    pub operation: Option<(HeaderName, HeaderName)>,
    /// Whether the fields `X-Original-URI`, `X-Original-Method` and `X-Original-URL` are sent.
    pub original_uri: bool,
    /// The response fields that may carry the subject.
    pub subject_headers: Vec<HeaderName>,
    /// The response field that carries the scopes.
    pub scopes_header: HeaderName,
    /// The response field that carries the groups.
    pub groups_header: HeaderName,
    /// The authorization server at which clients get tokens.
    pub issuer: Option<String>,
    /// How long the server may take; at most [`AUTH_TIMEOUT`](crate::config::limits::AUTH_TIMEOUT).
    pub timeout: Duration,
}

/// A checked `introspection`.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectionProvider {
    /// The introspection endpoint.
    pub url: reqwest::Url,
    /// The edge's client id at the server.
    pub client_id: String,
    /// How the edge authenticates to the server.
    pub proof: ClientProof,
    /// The authorization server at which clients get tokens.
    pub issuer: Option<String>,
    /// One of these must be in `aud`; `None`: the route decides which audiences are accepted.
    pub audiences: Option<Vec<String>>,
    /// Whether the response may lack `aud`.
    pub audience_optional: bool,
    /// How far the clocks may differ; at most [`LEEWAY`](crate::config::limits::LEEWAY).
    pub leeway: Duration,
    /// The members of the response that say who the caller is.
    pub claims: ClaimNames,
    /// How long the server may take; at most [`AUTH_TIMEOUT`](crate::config::limits::AUTH_TIMEOUT).
    pub timeout: Duration,
}

/// How the edge authenticates to an authorization server.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientProof {
    /// With a client secret.
    Secret(Secret),
    /// With a signed assertion (RFC 7523).
    Key(ClientKey),
}

/// A key that the edge signs with. The authorization server knows its public half.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientKey {
    /// The private key.
    pub key: SigningKey,
    /// The key's `kid`.
    pub id: Option<String>,
    /// The `aud` of the signature: the name by which the server knows itself.
    pub audience: String,
}

/// A checked `api_keys`, with the content of the file that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeysProvider {
    /// The keys by their id; at most [`API_KEYS`](crate::config::limits::API_KEYS).
    pub keys: BTreeMap<String, ApiKey>,
    /// A request field that may carry a key, in addition to `Authorization`.
    pub header: Option<HeaderName>,
}

/// What the edge knows of one API key.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// The hash of the whole key.
    pub hash: KeyHash,
    /// Who calls with this key. It is valid as a header value, so that it can be sent to upstreams.
    pub subject: String,
    /// The scopes of a caller with this key.
    pub scopes: ScopeSet,
    /// When the key expires; `None`: never.
    pub expires: Option<UnixSeconds>,
}

/// A checked `mtls`. At least one listener requests client certificates.
#[derive(Clone, Debug, PartialEq)]
pub struct MtlsProvider {
    /// The kind of name in the certificate that says who the caller is.
    pub subject: CertificateName,
    /// The scopes of every caller.
    pub scopes: ScopeSet,
    /// Further scopes of single callers, by their names. DNS names are in lower case.
    pub subjects: BTreeMap<String, ScopeSet>,
    /// Whether callers that are not in `subjects` are allowed.
    pub allow_unlisted: bool,
}
