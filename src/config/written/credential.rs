//! `credential` of a route as written: what the upstream is shown.

use std::time::Duration;

use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::token_grant::TokenGrant;
use crate::config::units::{Header, SecretSource, Span};

/// What the upstream is shown in place of the client's credential: exactly one of the first four.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// A secret that the upstream knows. It is read again with every reload.
    pub secret: Option<SecretSource>,
    /// A token for the upstream, in exchange for the caller's own (RFC 8693).
    pub exchange: Option<TokenGrant>,
    /// A token for the edge itself, whoever the caller is (RFC 6749 section 4.4).
    pub client_credentials: Option<TokenGrant>,
    /// A short-lived JWT that the edge signs, and that says who the caller is. Wants section `assertions`.
    pub assertion: Option<Assertion>,
    /// The field that carries it (default `Authorization`).
    #[serde(default = "authorization")]
    pub header: Header,
    /// What stands before it, with a space between the two (default `Bearer` in `Authorization`, else nothing).
    pub scheme: Option<String>,
}

/// `assertion` of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// What `aud` is: the upstream, which must look at it.
    pub audience: String,
    /// How long one can be used (default 60s, from 5s to 5m).
    #[serde(default = "minute")]
    pub lifetime: Span,
}

fn authorization() -> Header {
    Header(AUTHORIZATION)
}

fn minute() -> Span {
    Span(Duration::from_secs(60))
}
