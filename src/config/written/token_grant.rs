//! `exchange` and `client_credentials` of a route's credential: how the edge gets a token.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::introspection::PrivateKey;
use super::lookup::default_lookup_timeout;
use crate::config::units::{ScopeName, SecretSource, Span, Url};

/// A token endpoint and the request to it. The edge authenticates with exactly one of `client_secret` and
/// `private_key`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenGrant {
    /// The token endpoint of the authorization server (RFC 6749 section 3.2).
    pub token_url: Url,
    /// The client id of the edge at the server.
    pub client_id: String,
    /// The client secret of the edge (`client_secret_basic`, RFC 6749 section 2.3.1).
    pub client_secret: Option<SecretSource>,
    /// The private key with which the edge signs to authenticate (`private_key_jwt`, RFC 7523).
    pub private_key: Option<PrivateKey>,
    /// The type of the caller's token, for `exchange` only (default `access_token`).
    pub subject_token_type: Option<SubjectTokenType>,
    /// The name of the upstream at the server (RFC 8693 section 2.1).
    pub audience: Option<String>,
    /// The URI of the upstream (RFC 8707).
    pub resource: Option<String>,
    /// The scopes to request. Default: none, so the server chooses.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// How long the server may take to answer (default and maximum 2s).
    #[serde(default = "default_lookup_timeout")]
    pub timeout: Span,
}

/// The type of a caller's token (RFC 8693 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectTokenType {
    /// An access token of any format.
    #[default]
    AccessToken,
    /// A JWT.
    Jwt,
}
