//! Which provider of a route tokens were taken to, for tokens that come again: to find the issuer in a token costs more
//! than all else that is done with one that is cached.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cache::TokenKey;
use crate::config::limits;

/// Each token has one place, where it displaces another. Keys are keyed hashes, so nobody can make two tokens meet in more
/// than their place; what was remembered only says who is asked, which verifies the token all the same.
#[derive(Debug)]
pub(super) struct Choices(Box<[AtomicU64]>);

impl Choices {
    /// None are remembered where there is only one provider.
    pub(super) fn among(providers: usize) -> Self {
        let places = if providers > 1 { limits::PROVIDER_CHOICES } else { 0 };
        Self((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    /// Which of the providers it was.
    pub(super) fn get(&self, key: TokenKey) -> Option<usize> {
        let (place, mark) = self.place(key)?;
        let word = place.load(Ordering::Relaxed);
        // Zero is nobody's: the lowest byte is one more than the number of the provider.
        (word & !0xFF == mark).then_some((word & 0xFF) as usize)?.checked_sub(1)
    }

    /// Remembers the one with this number.
    pub(super) fn put(&self, key: TokenKey, provider: usize) {
        if let (Some((place, mark)), Ok(number)) = (self.place(key), u8::try_from(provider + 1)) {
            place.store(mark | u64::from(number), Ordering::Relaxed);
        }
    }

    fn place(&self, key: TokenKey) -> Option<(&AtomicU64, u64)> {
        let [first, second] = key.halves();
        self.0.get(first as usize % limits::PROVIDER_CHOICES).map(|place| (place, second & !0xFF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::TokenCache;
    use crate::metrics::Metrics;

    fn keys(count: u32) -> Vec<TokenKey> {
        let cache = TokenCache::new(1, &Metrics::new().expect("the families are consistent"));
        (0..count).map(|token| cache.key(0, [&token.to_le_bytes()[..]])).collect()
    }

    #[test]
    fn what_is_remembered_is_right_and_bounded() {
        let (choices, keys) = (Choices::among(3), keys(10_000));
        assert!(keys.iter().all(|key| choices.get(*key).is_none()));
        for (index, key) in keys.iter().enumerate() {
            choices.put(*key, index % 3);
            assert_eq!(choices.get(*key), Some(index % 3));
        }
        let known = keys.iter().enumerate().filter(|(index, key)| choices.get(**key).is_some_and(|at| at == index % 3));
        let wrong = keys.iter().enumerate().filter(|(index, key)| choices.get(**key).is_some_and(|at| at != index % 3));
        assert_eq!((known.count() > limits::PROVIDER_CHOICES / 2, wrong.count()), (true, 0));
    }

    #[test]
    fn more_than_can_be_told_apart_are_not_remembered() {
        let (choices, keys) = (Choices::among(1_000), keys(2));
        choices.put(keys[0], 254);
        choices.put(keys[1], 255);
        assert_eq!((choices.get(keys[0]), choices.get(keys[1])), (Some(254), None));
        let only = Choices::among(1);
        only.put(keys[0], 0);
        assert_eq!(only.get(keys[0]), None);
    }
}
