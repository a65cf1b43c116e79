//! What a cache entry is found by.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use highway::{HighwayHash, HighwayHasher, Key};
use ring::rand::{SecureRandom, SystemRandom};

/// What an entry is found by. The hash is keyed with a key of this process, so that nobody can make two credentials meet,
/// and the cache keeps no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey([u64; 2]);

impl TokenKey {
    /// Both are hashes of the whole.
    pub(in crate::auth) fn halves(self) -> [u64; 2] {
        self.0
    }
}

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// A [`TokenKey`] is a keyed hash already: its first half serves the maps as it is.
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
    /// With a key of its own.
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

    /// The key for everything that an answer depends on.
    pub(super) fn key<'a>(&self, providers: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenKey {
        let mut hasher = HighwayHasher::new(self.0);
        hasher.append(&providers.to_le_bytes());
        for part in parts {
            // The length first: ("ab", "c") and ("a", "bc") are different requests.
            hasher.append(&part.len().to_le_bytes());
            hasher.append(part);
        }
        TokenKey(hasher.finalize128())
    }
}
