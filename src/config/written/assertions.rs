//! Section `assertions` as written: with what the edge signs who is calling.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `assertions`: the edge as an issuer of short-lived JWTs for upstreams. Their public keys are at `/jwks.json` of
/// the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertions {
    /// What `iss` is, such as `https://edge.example`.
    pub issuer: String,
    /// The first signs, all are published: a new key stands second until every upstream has seen it, then first, and the
    /// old one second for as long as assertions live.
    pub keys: Vec<AssertionKey>,
}

/// A key of section `assertions`. Its `kid` is its RFC 7638 thumbprint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssertionKey {
    /// A PEM file with a PKCS#8 key: P-256 (ES256), P-384 (ES384), Ed25519 (EdDSA) or RSA of at least 2048 bits (RS256).
    /// It is read again with every reload.
    pub file: PathBuf,
}
