//! Remembers which provider of a route was chosen for a token, for the next request with this token. Finding the issuer
//! in a token costs more than all other work for a cached token.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cache::TokenKey;
use crate::config::limits;

/// A table in which each token has one place. A new token overwrites an older one in the same place. An attacker cannot
/// make two tokens count as the same one, because keys are keyed hashes. Even then, a wrong entry would only select the
/// provider, and that provider still verifies the token.
#[derive(Debug)]
pub(super) struct Choices(Box<[AtomicU64]>);

impl Choices {
    /// A table for a route with this many providers. With only one provider there is no choice to remember.
    pub(super) fn among(providers: usize) -> Self {
        let places = if providers > 1 { limits::PROVIDER_CHOICES } else { 0 };
        Self((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    /// The position of the provider that was chosen for this token.
    pub(super) fn get(&self, key: TokenKey) -> Option<usize> {
        let (place, mark) = self.place(key)?;
        let word = place.load(Ordering::Relaxed);
        // The lowest byte is the provider's position plus one. Zero marks an empty place.
        (word & !0xFF == mark).then_some((word & 0xFF) as usize)?.checked_sub(1)
    }

    /// Remembers the position of the provider that was chosen for this token.
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
    fn remembered_choices_are_right_and_their_number_is_bounded() {
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
    fn positions_that_do_not_fit_and_single_providers_are_not_remembered() {
        let (choices, keys) = (Choices::among(1_000), keys(2));
        choices.put(keys[0], 254);
        choices.put(keys[1], 255);
        assert_eq!((choices.get(keys[0]), choices.get(keys[1])), (Some(254), None));
        let only = Choices::among(1);
        only.put(keys[0], 0);
        assert_eq!(only.get(keys[0]), None);
    }
}
