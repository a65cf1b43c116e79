//! The checked credentials of routes, which the edge sends to upstreams.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::auth::ClientProof;
use crate::config::written::token_grant::SubjectTokenType;
use crate::types::{ScopeSet, SigningKey};

/// The credential that the upstream of a route gets in place of the client's.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// The request field that carries the credential.
    pub header: HeaderName,
    /// The word before the credential, separated by a space; empty: no word and no space.
    pub scheme: String,
    /// Where the credential comes from.
    pub kind: CredentialKind,
}

/// Where a credential comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialKind {
    /// From the configuration. This is the whole value of the field, marked as sensitive.
    Secret(HeaderValue),
    /// From a token exchange: the edge exchanges the caller's token for one for the upstream (RFC 8693).
    Exchange(Exchange),
    /// From a token endpoint, as a token for the edge itself (RFC 6749 section 4.4).
    ClientCredentials(TokenGrant),
    /// From the edge, which signs an assertion about who the caller is.
    Assertion(Assertion),
}

/// A checked `exchange`. Its route is not open.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// The token endpoint and what to request there.
    pub grant: TokenGrant,
    /// The `subject_token_type` of the caller's token.
    pub subject_token_type: SubjectTokenType,
    /// The names of those providers of the route whose callers have a bearer token, each with the request field that carries the
    /// token; at least one.
    pub providers: Vec<(Arc<str>, HeaderName)>,
}

/// A token endpoint, and what the edge requests from it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenGrant {
    /// The token endpoint.
    pub url: reqwest::Url,
    /// The edge's client id at the server.
    pub client_id: String,
    /// How the edge authenticates to the server.
    pub proof: ClientProof,
    /// The service that tokens are for, by name (`audience` of the request).
    pub audience: Option<String>,
    /// The service that tokens are for, as an absolute URI without a fragment (`resource` of the request).
    pub resource: Option<String>,
    /// The scopes to request; empty: the server decides.
    pub scopes: ScopeSet,
    /// How long the server may take; at most [`AUTH_TIMEOUT`](crate::config::limits::AUTH_TIMEOUT).
    pub timeout: Duration,
}

/// A checked `assertion`, with the issuer and the key of section `assertions`. Its route is not open.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// The value of `iss`, which names the edge.
    pub issuer: String,
    /// The private key that signs.
    pub key: SigningKey,
    /// The value of `aud`, which names the upstream.
    pub audience: String,
    /// How long an assertion is valid: from [`ASSERTION_MIN`](crate::config::limits::ASSERTION_MIN) to
    /// [`ASSERTION_MAX`](crate::config::limits::ASSERTION_MAX).
    pub lifetime: Duration,
}

/// A checked section `assertions`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertions {
    /// The value of `iss`, which names the edge.
    pub issuer: String,
    /// The first key signs; the public halves of all keys are published. From one to
    /// [`ASSERTION_KEYS`](crate::config::limits::ASSERTION_KEYS) keys, no two the same.
    pub keys: Vec<SigningKey>,
}
