//! API keys and their hashes. A key is `mcpe_ID_SECRET`. The prefix distinguishes it from other tokens, and lets
//! scanners for leaked secrets recognize it. The id selects the entry, so that only one hash has to be verified.

use std::fmt;
use std::str::FromStr;

use super::bounds::{API_KEY_ID_BYTES, API_KEY_SECRET_BYTES, ARGON2_KIB, ARGON2_LANES, ARGON2_PASSES};
use super::hex::hex;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The prefix of every key.
const PREFIX: &str = "mcpe_";
/// The length of the random part of a new key, in bytes.
const RANDOM_BYTES: usize = 32;

/// The id in `token`, if `token` has the form of an API key.
pub fn api_key_id(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    (is_api_key_id(id) && secret.len() >= API_KEY_SECRET_BYTES).then_some(id)
}

/// True for 1 to 64 lower-case letters, digits and hyphens.
pub fn is_api_key_id(id: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !id.is_empty() && id.len() <= API_KEY_ID_BYTES && id.bytes().all(legal)
}

/// A new key with a secret of 256 bits. `None` when the system provides no random numbers.
pub fn new_api_key(id: &str) -> Option<String> {
    let mut secret = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut secret).ok()?;
    Some(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// The hash of a whole key, written `sha256:HEX` or `$argon2id$...` (PHC string).
///
/// SHA-256 is enough for random secrets of at least 128 bits: nobody can guess them, however fast each guess is.
/// Argon2id is for secrets that a person has chosen.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyHash {
    /// A SHA-256 hash.
    Sha256([u8; 32]),
    /// An Argon2id hash, as a PHC string whose parameters are within the limits.
    Argon2(String),
}

/// Why a text is not accepted as the hash of a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyHashError {
    /// The text has no known form. The error does not repeat it, because it may be the key itself.
    #[error(
        "is not a valid hash: write `sha256:` and 64 hexadecimal digits, or `$argon2id$...`, as `mcp-edge hash-key` \
         prints them"
    )]
    Form,
    /// Verifying the hash would take too much memory or time.
    #[error("costs too much to verify: use at most m=65536 (64 MiB), t=10 and p=16")]
    Cost,
}

impl KeyHash {
    /// The SHA-256 of `key`.
    pub fn sha256(key: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self::Sha256(hash)
    }

    /// The Argon2id hash of `key`, with a random salt and the parameters that OWASP recommends (19 MiB, two passes).
    /// `None` when the system provides no random numbers.
    pub fn argon2(key: &str) -> Option<Self> {
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
        argon2.hash_password_with_salt(key.as_bytes(), &salt).ok().map(|hash| Self::Argon2(hash.to_string()))
    }

    /// True when this is the hash of `key`. The time that this takes does not depend on how much of the key is right.
    pub fn verify(&self, key: &str) -> bool {
        match self {
            Self::Sha256(hash) => bool::from(digest(&SHA256, key.as_bytes()).as_ref().ct_eq(hash)),
            Self::Argon2(hash) => Argon2::default().verify_password(key.as_bytes(), hash.as_str()).is_ok(),
        }
    }

    /// True when [`Self::verify`] takes milliseconds of processor time and megabytes of memory.
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Argon2(_))
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            let digits = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let mut hash = [0; 32];
            for (index, byte) in hash.iter_mut().enumerate().filter(|_| digits) {
                *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).map_err(|_| KeyHashError::Form)?;
            }
            return if digits { Ok(Self::Sha256(hash)) } else { Err(KeyHashError::Form) };
        }
        if !text.starts_with("$argon2id$") {
            return Err(KeyHashError::Form);
        }
        let hash = PasswordHash::new(text).map_err(|_| KeyHashError::Form)?;
        let params = Params::try_from(&hash).map_err(|_| KeyHashError::Form)?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(KeyHashError::Form);
        }
        if params.m_cost() > ARGON2_KIB || params.t_cost() > ARGON2_PASSES || params.p_cost() > ARGON2_LANES {
            return Err(KeyHashError::Cost);
        }
        Ok(Self::Argon2(text.to_owned()))
    }
}

/// The form that a file of keys has.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hash) => {
                write!(f, "sha256:{}", hex(hash))
            }
            Self::Argon2(hash) => f.write_str(hash),
        }
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_key() {
        let secret = "0123456789abcdefghij_-";
        assert_eq!(api_key_id(&format!("mcpe_ci-1_{secret}")), Some("ci-1"));
        assert_eq!(api_key_id(&new_api_key("robot").expect("randomness")), Some("robot"));
        for token in [
            String::new(),
            "mcpe_".into(),
            "mcpe_ci".into(),
            "mcpe_ci_short".into(),
            format!("mcpe__{secret}"),
            format!("mcpe_CI_{secret}"),
            format!("mcpe_c.i_{secret}"),
            format!("mcpe_{}_{secret}", "a".repeat(65)),
            format!("MCPE_ci_{secret}"),
            format!("xmcpe_ci_{secret}"),
        ] {
            assert_eq!(api_key_id(&token), None, "{token}");
        }
        assert_ne!(new_api_key("a"), new_api_key("a"));
    }

    #[test]
    fn hashes_are_read_as_they_are_shown() {
        let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).expect("legal"));
        let cheap = cheap.hash_password_with_salt(b"key", b"saltsalt").expect("legal").to_string();
        for hash in [KeyHash::sha256("key"), KeyHash::Argon2(cheap)] {
            let read: KeyHash = hash.to_string().parse().expect("a hash");
            assert_eq!(read, hash);
            assert!(read.verify("key"));
            assert!(!read.verify("kez") && !read.verify("") && !read.verify("keyy"));
            assert_eq!(format!("{read:?}"), "KeyHash(..)");
        }
        assert_eq!(
            KeyHash::sha256("abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn invalid_hashes_are_refused() {
        let salt_and_hash = "c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA";
        for (text, error) in [
            (String::new(), KeyHashError::Form),
            ("hunter2".into(), KeyHashError::Form),
            ("sha256:".into(), KeyHashError::Form),
            (format!("sha256:{}", "g".repeat(64)), KeyHashError::Form),
            (format!("sha256:{}", "é".repeat(32)), KeyHashError::Form),
            (format!("sha256:{}", "a".repeat(63)), KeyHashError::Form),
            (format!("$argon2i$v=19$m=8,t=1,p=1${salt_and_hash}"), KeyHashError::Form),
            ("$argon2id$".into(), KeyHashError::Form),
            ("$argon2id$v=19$m=8,t=1,p=1".into(), KeyHashError::Form),
            ("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ".into(), KeyHashError::Form),
            (format!("$argon2id$v=19$m=65537,t=1,p=1${salt_and_hash}"), KeyHashError::Cost),
            (format!("$argon2id$v=19$m=8,t=11,p=1${salt_and_hash}"), KeyHashError::Cost),
            (format!("$argon2id$v=19$m=1024,t=1,p=17${salt_and_hash}"), KeyHashError::Cost),
        ] {
            assert_eq!(text.parse::<KeyHash>().err(), Some(error), "{text}");
        }
    }
}
