//! The checked credentials of routes: what upstreams are shown.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::auth::ClientProof;
use crate::config::written::token_grant::SubjectTokenType;
use crate::types::{ScopeSet, SigningKey};

/// What the upstream of a route is shown in place of the client's credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// The field that carries it.
    pub header: HeaderName,
    /// What stands before it, with a space between the two; empty: nothing.
    pub scheme: String,
    /// Where it comes from.
    pub kind: CredentialKind,
}

/// Where a credential comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialKind {
    /// The configuration: the whole value of the field, marked as sensitive.
    Secret(HeaderValue),
    /// The caller's own token, exchanged.
    Exchange(Exchange),
    /// A token for the edge itself.
    ClientCredentials(TokenGrant),
    /// The edge, which says who the caller is.
    Assertion(Assertion),
}

/// A checked `exchange`; its route is not open.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Where tokens come from.
    pub grant: TokenGrant,
    /// What the caller's token is said to be.
    pub subject_token_type: SubjectTokenType,
    /// The names of the route's providers whose callers have a token; at least one.
    pub providers: Vec<Arc<str>>,
}

/// A token endpoint, and what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenGrant {
    /// The token endpoint.
    pub url: reqwest::Url,
    /// Who the edge is to it.
    pub client_id: String,
    /// How it proves that.
    pub proof: ClientProof,
    /// Whom tokens are for, by name.
    pub audience: Option<String>,
    /// Whom tokens are for, as an absolute URI without a fragment.
    pub resource: Option<String>,
    /// What tokens are good for; none: what the server gives.
    pub scopes: ScopeSet,
    /// At most [`AUTH_TIMEOUT`](crate::config::limits::AUTH_TIMEOUT).
    pub timeout: Duration,
}

/// A checked `assertion`, with what section `assertions` says of all; its route is not open.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// Who the edge is.
    pub issuer: String,
    /// Signs.
    pub key: SigningKey,
    /// Whom assertions are for.
    pub audience: String,
    /// From [`ASSERTION_MIN`](crate::config::limits::ASSERTION_MIN) to [`ASSERTION_MAX`](crate::config::limits::ASSERTION_MAX).
    pub lifetime: Duration,
}

/// Section `assertions`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertions {
    /// Who the edge is.
    pub issuer: String,
    /// The first signs, all are published; from one to [`ASSERTION_KEYS`](crate::config::limits::ASSERTION_KEYS), no two the same.
    pub keys: Vec<SigningKey>,
}
