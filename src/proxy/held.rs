//! The memory that large request bodies and lists take while the edge checks or filters them. All together take at most
//! `limits.held_bytes`, and one caller or upstream, with several of them, at most a part of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::config::limits;

/// How much all requests of an edge hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    all: u64,
    /// What each owner holds. Owners that hold nothing are not in it.
    owners: HashMap<Owner, u64>,
}

/// Who a message counts for: a caller, a client's address, or an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner(u64);

impl Owner {
    /// `what` tells kinds of owners apart. Owners with the same hash share their part; nobody can choose hashes.
    pub(super) fn of(what: &'static str, owner: impl Hash) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(SEED.hash_one((what, owner)))
    }
}

/// How much one request holds. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    sums: Held,
    owner: Owner,
    bytes: u64,
}

impl Held {
    /// Holds nothing yet.
    pub(super) fn begin(&self, owner: Owner) -> HeldBytes {
        HeldBytes { sums: self.clone(), owner, bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldBytes {
    /// Takes `more` bytes. False, and nothing is taken, when all requests together would hold more than `limit`, or several
    /// requests of this owner more than their part of it.
    #[must_use]
    pub(super) fn take(&mut self, more: u64, limit: u64) -> bool {
        let mut sums = self.sums.lock();
        let own = sums.owners.get(&self.owner).copied().unwrap_or_default();
        // One request alone may take what is free: otherwise the largest allowed body might not fit.
        let is_alone = own == self.bytes;
        let part = own.saturating_add(more) <= limit / limits::HELD_DIVISOR;
        let all = sums.all.checked_add(more).filter(|all| *all <= limit);
        let Some(all) = all.filter(|_| is_alone || part) else { return false };
        sums.all = all;
        sums.owners.insert(self.owner, own + more);
        self.bytes += more;
        true
    }

    /// Changes what the request holds to `bytes`. False, and nothing changes, when [`take`](Self::take) would be false.
    #[must_use]
    pub(super) fn set(&mut self, bytes: u64, limit: u64) -> bool {
        if bytes > self.bytes {
            return self.take(bytes - self.bytes, limit);
        }
        self.give_back(self.bytes - bytes);
        true
    }

    fn give_back(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        let mut sums = self.sums.lock();
        sums.all -= bytes;
        if let Some(own) = sums.owners.get_mut(&self.owner) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                sums.owners.remove(&self.owner);
            }
        }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = Held::default();
        let (mut one, mut two) = (held.begin(Owner::of("a", 1)), held.begin(Owner::of("a", 2)));
        assert!(one.take(60, 100) && !two.take(50, 100) && two.take(40, 100) && !one.take(1, 100));
        drop(one);
        assert!(two.take(60, 100) && !two.take(u64::MAX, 100));
        assert!(two.set(10, 100) && two.set(100, 100) && !two.set(101, 100));
        drop(two);
        let sums = held.0.lock().expect("no panic");
        assert_eq!(sums.all, 0);
        assert!(sums.owners.is_empty());
    }

    #[test]
    fn one_owner_leaves_room_for_others() {
        let held = Held::default();
        let mut first = held.begin(Owner::of("caller", "alice"));
        assert!(first.take(90, 100), "one message alone may take what is free");
        drop(first);
        let mut many: Vec<_> = (0..10).map(|_| held.begin(Owner::of("caller", "alice"))).collect();
        let taken = many.iter_mut().filter_map(|one| one.take(10, 100).then_some(())).count();
        assert_eq!(taken as u64, 10 / limits::HELD_DIVISOR);
        assert!(held.begin(Owner::of("caller", "bob")).take(40, 100));
        assert!(held.begin(Owner::of("upstream", "alice")).take(40, 100), "another kind of owner");
    }
}
