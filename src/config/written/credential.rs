//! `credential` of a route as written: what the edge sends to the upstream to authenticate.

use std::time::Duration;

use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::token_grant::TokenGrant;
use crate::config::units::{Header, SecretSource, Span};

/// The credential that the upstream gets in place of the client's: exactly one of the first four keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// A secret that the upstream knows. A reload reads it again.
    pub secret: Option<SecretSource>,
    /// A token for the upstream that the edge gets in exchange for the caller's token (RFC 8693).
    pub exchange: Option<TokenGrant>,
    /// A token for the edge itself, the same for all callers (RFC 6749 section 4.4).
    pub client_credentials: Option<TokenGrant>,
    /// A short-lived JWT, signed by the edge, that tells who the caller is. Needs section `assertions`.
    pub assertion: Option<Assertion>,
    /// The field that carries the credential (default `Authorization`).
    #[serde(default = "authorization")]
    pub header: Header,
    /// The word before the credential, followed by a space (default: `Bearer` in `Authorization`, else nothing).
    pub scheme: Option<String>,
}

/// `assertion` of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The `aud` of the JWT. The upstream must check it.
    pub audience: String,
    /// How long the JWT is valid (default 60s, from 5s to 5m).
    #[serde(default = "minute")]
    pub lifetime: Span,
}

fn authorization() -> Header {
    Header(AUTHORIZATION)
}

fn minute() -> Span {
    Span(Duration::from_secs(60))
}
