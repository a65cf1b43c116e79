//! `exchange` and `client_credentials` of a route's credential: where a token comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::introspection::PrivateKey;
use super::lookup::default_lookup_timeout;
use crate::config::units::{ScopeName, SecretSource, Span, Url};

/// A token endpoint, and what is asked of it: exactly one of `client_secret` and `private_key` says who the edge is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenGrant {
    /// The token endpoint of the authorization server (RFC 6749 section 3.2).
    pub token_url: Url,
    /// Who the edge is to it.
    pub client_id: String,
    /// The edge's password (`client_secret_basic`, RFC 6749 section 2.3.1).
    pub client_secret: Option<SecretSource>,
    /// The edge's key, with which it signs who it is (`private_key_jwt`, RFC 7523).
    pub private_key: Option<PrivateKey>,
    /// Of `exchange`: what the caller's token is said to be (default `access_token`).
    pub subject_token_type: Option<SubjectTokenType>,
    /// The upstream's name at the server (RFC 8693 section 2.1).
    pub audience: Option<String>,
    /// The upstream's URI (RFC 8707).
    pub resource: Option<String>,
    /// What the token is to be good for. Default: what the server gives.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// How long the server may take (default and maximum 2s).
    #[serde(default = "default_lookup_timeout")]
    pub timeout: Span,
}

/// What a caller's token is said to be (RFC 8693 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectTokenType {
    /// An access token, of whatever form.
    #[default]
    AccessToken,
    /// A JWT.
    Jwt,
}
