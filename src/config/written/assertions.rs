//! Section `assertions` as written: the keys with which the edge signs JWTs for upstreams.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `assertions`: the edge issues short-lived JWTs for upstreams. `/jwks.json` of the admin listener publishes
/// the public keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertions {
    /// The `iss` of the JWTs, such as `https://edge.example`.
    pub issuer: String,
    /// At most 8 keys. The first key signs, and all are published. To change the key, add the new one in second place
    /// until every upstream has fetched it. Then move it to the first place, and remove the old one when its last JWT
    /// has expired.
    pub keys: Vec<AssertionKey>,
}

/// A key of section `assertions`. Its `kid` is its thumbprint (RFC 7638).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssertionKey {
    /// A PEM file with a PKCS#8 key: P-256 (ES256), P-384 (ES384), Ed25519 (EdDSA) or RSA of at least 2048 bits
    /// (RS256). A reload reads it again.
    pub file: PathBuf,
}
