//! The keys of the token cache.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use highway::{HighwayHash, HighwayHasher, Key};
use ring::rand::{SecureRandom, SystemRandom};

/// The key of a cache entry. It is a hash that is keyed with a secret of this process. So nobody can make two
/// credentials with the same key, and the cache contains no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey([u64; 2]);

impl TokenKey {
    /// The halves of the key. Each is a hash of the whole input.
    pub(in crate::auth) fn halves(self) -> [u64; 2] {
        self.0
    }
}

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// A [`TokenKey`] is already a keyed hash, so hash maps use its first half as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct AlreadyHashed(u64);

pub(super) type BuildAlreadyHashed = BuildHasherDefault<AlreadyHashed>;

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Makes [`TokenKey`]s.
#[derive(Debug)]
pub(super) struct KeyMaker(Key);

impl KeyMaker {
    /// Uses a new random secret.
    ///
    /// # Panics
    /// The operating system gives no random numbers.
    pub(super) fn new() -> Self {
        let word = || {
            let mut word = [0; 8];
            SystemRandom::new().fill(&mut word).expect("the operating system gives random numbers");
            u64::from_le_bytes(word)
        };
        Self(Key([word(), word(), word(), word()]))
    }

    /// The key for a provider instance and for the `parts` of a request on which its decision depends.
    pub(super) fn key<'a>(&self, provider: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenKey {
        let mut hasher = HighwayHasher::new(self.0);
        hasher.append(&provider.to_le_bytes());
        for part in parts {
            // The length comes first, so that ("ab", "c") and ("a", "bc") have different keys.
            hasher.append(&part.len().to_le_bytes());
            hasher.append(part);
        }
        TokenKey(hasher.finalize128())
    }
}
