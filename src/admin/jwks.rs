//! `GET /jwks.json`: the keys with which upstreams verify the assertions of the edge about callers.

use serde_json::{Value, json};

use crate::config::Config;

/// The key set (RFC 7517 section 5). It contains only public keys, and is empty without section `assertions`.
pub(super) fn key_set(config: &Config) -> Value {
    let keys = config.assertions.iter().flat_map(|assertions| &assertions.keys);
    json!({"keys": keys.map(|key| key.public_jwk()).collect::<Vec<_>>()})
}
