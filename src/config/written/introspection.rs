//! `introspection` of a provider as written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claims::{default_groups_claim, default_leeway, default_subject_claim};
use super::lookup::default_lookup_timeout;
use crate::config::units::{SecretSource, Span, Url};

/// `introspection` of a provider. The edge authenticates with exactly one of `client_secret` and `private_key`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// The introspection endpoint. The edge sends tokens to it with POST.
    pub url: Url,
    /// The client id of the edge at the server.
    pub client_id: String,
    /// The client secret of the edge (`client_secret_basic`, RFC 6749 section 2.3.1).
    pub client_secret: Option<SecretSource>,
    /// The private key with which the edge signs to authenticate (`private_key_jwt`, RFC 7523).
    pub private_key: Option<PrivateKey>,
    /// The authorization server where clients get tokens (RFC 9728). If an answer has `iss`, it must have this value.
    pub issuer: Option<String>,
    /// One of these must be in `aud` of the answer. Without the list, `aud` must contain one of `audiences` of the
    /// route, or else its `public_url`.
    pub audiences: Option<Vec<String>>,
    /// Whether an answer may be without `aud` (default false), because some servers never send it. A token without
    /// `aud` is then accepted on all routes that name this provider. An `aud` that is in an answer is always checked.
    #[serde(default)]
    pub audience_optional: bool,
    /// How far the server's clock may differ from the edge's (default 10s, at most 30s).
    #[serde(default = "default_leeway")]
    pub leeway: Span,
    /// The member of the answer with the caller's subject (default `sub`).
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// A member with scopes, in addition to `scope` and `scp`: a string with spaces, or a list.
    pub scopes_claim: Option<String>,
    /// The member with the caller's groups (default `groups`).
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// How long the server may take to answer (default and maximum 2s).
    #[serde(default = "default_lookup_timeout")]
    pub timeout: Span,
}

/// A private key with which the edge authenticates to an authorization server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateKey {
    /// A PEM file with a PKCS#8 key: RSA of at least 2048 bits (RS256), P-256 (ES256), P-384 (ES384) or Ed25519
    /// (EdDSA).
    pub file: PathBuf,
    /// The id (`kid`) by which the server knows the key.
    pub id: Option<String>,
    /// The `aud` of the signed JWT: the issuer or the token endpoint of the server. Default: `issuer` or `token_url` of
    /// the section that contains this key.
    pub audience: Option<String>,
}
