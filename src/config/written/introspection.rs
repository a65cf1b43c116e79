//! `introspection` of a provider as written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claims::{default_groups_claim, default_leeway, default_subject_claim};
use super::lookup::default_lookup_timeout;
use crate::config::units::{SecretSource, Span, Url};

/// `introspection` of a provider: exactly one of `client_secret` and `private_key` says who the edge is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// The introspection endpoint, which is sent the token with POST.
    pub url: Url,
    /// Who the edge is to it.
    pub client_id: String,
    /// The edge's password (`client_secret_basic`, RFC 6749 section 2.3.1).
    pub client_secret: Option<SecretSource>,
    /// The edge's key, with which it signs who it is (`private_key_jwt`, RFC 7523).
    pub private_key: Option<PrivateKey>,
    /// The authorization server that clients are pointed to (RFC 9728); `iss` of an answer must be the same if it is there.
    pub issuer: Option<String>,
    /// One of these must be in `aud` of the answer. Without the list, a token must be meant for the route that it is used
    /// on: its `audiences`, or else its `public_url`.
    pub audiences: Option<Vec<String>>,
    /// Whether an answer may say nothing of `aud` (default false), as those of some servers always do: the token then opens
    /// all routes that name this provider. What an answer does say of `aud` counts all the same.
    #[serde(default)]
    pub audience_optional: bool,
    /// How far the server's clock may differ (default 10s, at most 30s).
    #[serde(default = "default_leeway")]
    pub leeway: Span,
    /// The member that names the caller (default `sub`).
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// A member with scopes beside `scope` and `scp`: a string with spaces, or a list.
    pub scopes_claim: Option<String>,
    /// The member with the caller's groups (default `groups`).
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// How long the server may take (default and maximum 2s).
    #[serde(default = "default_lookup_timeout")]
    pub timeout: Span,
}

/// A key with which the edge signs who it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateKey {
    /// A PEM file with a PKCS#8 key: RSA of at least 2048 bits (RS256), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
    pub file: PathBuf,
    /// What the server knows the key by (`kid`).
    pub id: Option<String>,
    /// What the server calls itself in `aud`: its issuer or its token endpoint. Default: `issuer`, or
    /// `token_url`, beside this key.
    pub audience: Option<String>,
}
