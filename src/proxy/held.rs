//! The memory that large request bodies and lists take while the edge checks or filters them. All together take at most
//! `limits.held_bytes`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much all requests of an edge hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<AtomicU64>);

/// How much one request holds. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    all: Held,
    bytes: u64,
}

impl Held {
    /// Holds nothing yet.
    pub(super) fn begin(&self) -> HeldBytes {
        HeldBytes { all: self.clone(), bytes: 0 }
    }
}

impl HeldBytes {
    /// Takes `more` bytes. False, and nothing is taken, when all requests together would hold more than `limit`.
    #[must_use]
    pub(super) fn take(&mut self, more: u64, limit: u64) -> bool {
        let fits = |held: u64| held.checked_add(more).filter(|sum| *sum <= limit);
        let taken = self.all.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl HeldBytes {
    /// Changes what the request holds to `bytes`. False, and nothing changes, when all requests together would hold more than
    /// `limit`.
    #[must_use]
    pub(super) fn set(&mut self, bytes: u64, limit: u64) -> bool {
        if bytes > self.bytes {
            return self.take(bytes - self.bytes, limit);
        }
        self.all.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = Held::default();
        let (mut one, mut two) = (held.begin(), held.begin());
        assert!(one.take(60, 100) && !two.take(50, 100) && two.take(40, 100) && !one.take(1, 100));
        drop(one);
        assert!(two.take(60, 100) && !two.take(u64::MAX, 100));
        assert!(two.set(10, 100) && two.set(100, 100) && !two.set(101, 100));
        drop(two);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }
}
