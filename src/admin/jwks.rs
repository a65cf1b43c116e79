//! `GET /jwks.json`: the keys with which upstreams verify what the edge says about callers.

use serde_json::{Value, json};

use crate::config::Config;

/// A key set (RFC 7517 section 5) of the public halves only; empty without section `assertions`.
pub(super) fn key_set(config: &Config) -> Value {
    let keys = config.assertions.iter().flat_map(|assertions| &assertions.keys);
    json!({"keys": keys.map(|key| key.public_jwk()).collect::<Vec<_>>()})
}
