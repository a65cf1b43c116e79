//! The checked providers: who validates credentials.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::jwk::JwkSet;
use serde_json::Value;

use crate::config::written::auth::Algorithm;
use crate::config::written::mtls::CertificateName;
use crate::types::{KeyHash, ScopeSet, Secret, SigningKey, UnixSeconds};

/// Who validates credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// How it does it.
    pub kind: ProviderKind,
    /// What membership in groups gives.
    pub groups: BTreeMap<String, ScopeSet>,
}

/// How a provider validates.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderKind {
    /// Here.
    Jwt(JwtProvider),
    /// By asking a server.
    Lookup(LookupProvider),
    /// By asking the issuer.
    Introspection(IntrospectionProvider),
    /// By the hashes of keys.
    ApiKeys(ApiKeysProvider),
    /// By certificates.
    Mtls(MtlsProvider),
}

/// A checked `jwt`.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtProvider {
    /// What `iss` must be.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
    /// Where keys come from.
    pub keys: JwtKeys,
    /// At least one, all of one kind (symmetric or not).
    pub algorithms: Vec<Algorithm>,
    /// At most [`LEEWAY`](crate::config::limits::LEEWAY).
    pub leeway: Duration,
    /// Which claims say who the caller is.
    pub claims: ClaimNames,
    /// What must be there beside them.
    pub required_claims: Vec<RequiredClaim>,
    /// What `typ` must be, in lower case and without `application/`; `None`: that of an access token, or none.
    pub types: Option<Vec<String>>,
}

/// Which claims say who the caller is.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimNames {
    /// Names the caller.
    pub subject: String,
    /// Further scopes.
    pub scopes: Option<String>,
    /// The caller's groups.
    pub groups: String,
}

/// A claim that a token must have.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredClaim {
    /// Its name.
    pub name: String,
    /// What it may be, or one of what it lists; none: anything but `null`.
    pub values: Vec<Value>,
}

/// Where the keys of a `jwt` provider come from.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// Fetched, and fetched again.
    Url {
        /// From here.
        url: reqwest::Url,
        /// This often.
        refresh: Duration,
    },
    /// Fetched from where the issuer's metadata says (OpenID Connect Discovery, RFC 8414).
    Discovered {
        /// The issuer as a URL, without query and fragment.
        issuer: reqwest::Url,
        /// This often.
        refresh: Duration,
    },
    /// Read with the configuration.
    File(JwkSet),
    /// Shared with the issuer.
    Secret(Secret),
}

/// A checked `lookup`.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupProvider {
    /// What is asked.
    pub url: reqwest::Url,
    /// What may carry the credential.
    pub headers: Vec<HeaderName>,
    /// What else is sent along.
    pub context_headers: Vec<HeaderName>,
    /// The fields for the MCP method and for what it is about, when they are sent.
    pub operation: Option<(HeaderName, HeaderName)>,
    /// Whether the original URI is sent.
    pub original_uri: bool,
    /// Where the subject is found.
    pub subject_headers: Vec<HeaderName>,
    /// Where the scopes are found.
    pub scopes_header: HeaderName,
    /// Where the groups are found.
    pub groups_header: HeaderName,
    /// Where clients get tokens.
    pub issuer: Option<String>,
    /// At most [`AUTH_TIMEOUT`](crate::config::limits::AUTH_TIMEOUT).
    pub timeout: Duration,
}

/// A checked `introspection`.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectionProvider {
    /// What is asked.
    pub url: reqwest::Url,
    /// Who the edge is.
    pub client_id: String,
    /// How it proves that.
    pub proof: ClientProof,
    /// Where clients get tokens.
    pub issuer: Option<String>,
    /// One of these must be in `aud`; `None`: the route says what must.
    pub audiences: Option<Vec<String>>,
    /// Whether `aud` may be absent.
    pub audience_optional: bool,
    /// At most [`LEEWAY`](crate::config::limits::LEEWAY).
    pub leeway: Duration,
    /// Which members say who the caller is.
    pub claims: ClaimNames,
    /// At most [`AUTH_TIMEOUT`](crate::config::limits::AUTH_TIMEOUT).
    pub timeout: Duration,
}

/// How the edge proves who it is to an authorization server.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientProof {
    /// With a password.
    Secret(Secret),
    /// With a signature.
    Key(ClientKey),
}

/// A key that an authorization server knows.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientKey {
    /// Signs.
    pub key: SigningKey,
    /// Its `kid`.
    pub id: Option<String>,
    /// What the server calls itself.
    pub audience: String,
}

/// A checked `api_keys`, with the file that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeysProvider {
    /// By id; at most [`API_KEYS`](crate::config::limits::API_KEYS).
    pub keys: BTreeMap<String, ApiKey>,
    /// Where a key may stand beside `Authorization`.
    pub header: Option<HeaderName>,
}

/// What is known of one API key.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// Of the whole key.
    pub hash: KeyHash,
    /// Who calls with it; it can be told to an upstream.
    pub subject: String,
    /// What they may do.
    pub scopes: ScopeSet,
    /// When it ends.
    pub expires: Option<UnixSeconds>,
}

/// A checked `mtls`; at least one listener asks for certificates.
#[derive(Clone, Debug, PartialEq)]
pub struct MtlsProvider {
    /// Which name says who the caller is.
    pub subject: CertificateName,
    /// What every caller may do.
    pub scopes: ScopeSet,
    /// What single callers may do beyond that; DNS names are in lower case.
    pub subjects: BTreeMap<String, ScopeSet>,
    /// Whether others get in.
    pub allow_unlisted: bool,
}
