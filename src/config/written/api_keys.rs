//! `api_keys` of a provider as written, and the file of keys that it names.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Header, ScopeName};

/// `api_keys` of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// A YAML file with a list of at most 10000 keys: `{id, hash, subject, scopes, expires}`. `mcp-edge hash-key` makes
    /// them.
    pub file: PathBuf,
    /// A field of the request that may carry a key, such as `X-API-Key`, in addition to `Authorization: Bearer`.
    pub header: Option<Header>,
}

/// One key in the file. The file contains only the hash of the key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyEntry {
    /// The middle part of the key, by which its entry is found: at most 64 lower-case letters, digits and hyphens.
    pub id: String,
    /// `sha256:HEX` for random keys, or `$argon2id$...`.
    pub hash: String,
    /// The subject of callers with this key.
    pub subject: String,
    /// The scopes of callers with this key.
    #[serde(default)]
    pub scopes: Vec<ScopeName>,
    /// When the key expires: a date (then at 00:00 UTC), or a time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl ApiKeyEntry {
    /// [`Self::expires`] in seconds since 1970.
    ///
    /// # Errors
    /// The text is not a date. The error says what to write instead.
    pub fn expires_at(&self) -> Result<Option<u64>, String> {
        let Some(text) = &self.expires else { return Ok(None) };
        let moment = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.clone() };
        let moment = humantime::parse_rfc3339(&moment).ok();
        let seconds = moment.and_then(|moment| moment.duration_since(std::time::UNIX_EPOCH).ok());
        match seconds {
            Some(seconds) => Ok(Some(seconds.as_secs())),
            None => Err("is not a valid date: write one such as `2027-01-31` or `2027-01-31T12:00:00Z`".to_owned()),
        }
    }
}
