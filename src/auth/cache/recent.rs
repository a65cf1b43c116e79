//! A table of the entries of the token cache that were used most recently, where each is found in one step.
//!
//! moka follows five pointers to reach an entry, and as many more to keep the order of use. With very many callers, the
//! memory behind these pointers is not in the processor's caches, and waiting for it costs more than all other work for
//! a token. Here, a place in one table leads directly to the entry.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::TokenKey;
use super::entry::Entry;
use crate::config::limits;

/// How many entries share one place of the table. With their lock they fill one line of the processor's caches.
const WAYS: usize = 5;
/// One of this many uses of an entry goes to moka. Otherwise moka would take the entry for unused and evict it. With
/// one of four, a large number of credentials that came only once already displaced active callers.
const MOKA_SHARE: u8 = 2;

/// The table. When moka evicts an entry, its listener [`ends`](Entry::end) the entry and then has the table
/// [`forget`](Self::forget) it.
#[derive(Debug)]
pub(super) struct Recent(Box<[Set]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set(Mutex<Ways>);

#[derive(Debug, Default)]
struct Ways {
    entries: [Option<Arc<Entry>>; WAYS],
    /// Parts of the keys of `entries`. Most entries with another key are recognized by their tag, without reading the
    /// entry.
    tags: [u16; WAYS],
    /// How often each entry was used, modulo [`MOKA_SHARE`].
    uses: [u8; WAYS],
    /// The position that was last cleared for a new entry.
    last_cleared: u8,
}

impl Recent {
    /// A table with room for most of `capacity` entries, but at most for [`limits::RECENT_ENTRIES`]. It takes 16 to 32
    /// bytes for each entry.
    pub(super) fn new(capacity: u64) -> Self {
        // With an average of four entries for each place, few places would need more than five.
        let sets = (capacity.min(limits::RECENT_ENTRIES) as usize / 4).next_power_of_two();
        Self((0..sets).map(|_| Set::default()).collect())
    }

    /// The entry for `key`, if the table has it and it has not ended. Sometimes returns `None` all the same, so that
    /// the caller uses moka.
    pub(super) fn get(&self, key: TokenKey) -> Option<Arc<Entry>> {
        // If the lock is taken, the caller uses moka instead of waiting.
        let mut ways = self.set(key).try_lock().ok()?;
        let at = ways.find(key)?;
        ways.uses[at] = (ways.uses[at] + 1) % MOKA_SHARE;
        let entry = ways.entries[at].as_ref().filter(|entry| entry.lasts(Instant::now()))?;
        (ways.uses[at] != 0).then(|| Arc::clone(entry))
    }

    /// Adds an entry that moka has just returned.
    pub(super) fn put(&self, key: TokenKey, entry: &Arc<Entry>) {
        let Ok(mut ways) = self.set(key).try_lock() else { return };
        if entry.has_ended() {
            return;
        }
        let at = ways.find(key).unwrap_or_else(|| ways.make_room());
        ways.tags[at] = tag(key);
        ways.uses[at] = 0;
        let before = ways.entries[at].replace(Arc::clone(entry));
        drop(ways);
        // Dropped only after the lock was released.
        drop(before);
    }

    /// Removes an entry that has ended.
    pub(super) fn forget(&self, key: TokenKey, entry: &Arc<Entry>) {
        let mut ways = self.set(key).lock().unwrap_or_else(PoisonError::into_inner);
        let at = ways.find(key).filter(|at| ways.entries[*at].as_ref().is_some_and(|known| Arc::ptr_eq(known, entry)));
        let gone = at.and_then(|at| ways.entries[at].take());
        drop(ways);
        drop(gone);
    }

    fn set(&self, key: TokenKey) -> &Mutex<Ways> {
        let [hash, _] = key.halves();
        &self.0[hash as usize & (self.0.len() - 1)].0
    }
}

fn tag(key: TokenKey) -> u16 {
    key.halves()[1] as u16
}

impl Ways {
    fn find(&self, key: TokenKey) -> Option<usize> {
        let tag = tag(key);
        let is_it = |entry: &Arc<Entry>| entry.key == key;
        (0..WAYS).find(|at| self.tags[*at] == tag && self.entries[*at].as_ref().is_some_and(is_it))
    }

    /// A free position, or else each of the positions in turn.
    fn make_room(&mut self) -> usize {
        self.entries.iter().position(Option::is_none).unwrap_or_else(|| {
            self.last_cleared = (self.last_cleared + 1) % WAYS as u8;
            usize::from(self.last_cleared)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::key::KeyMaker;
    use crate::config::Cache as Settings;
    use crate::types::{Principal, ScopeSet};

    fn keys(count: u32) -> Vec<TokenKey> {
        let maker = KeyMaker::new();
        (0..count).map(|token| maker.key(0, [&token.to_le_bytes()[..]])).collect()
    }

    fn entry(key: TokenKey, settings: &Settings) -> Arc<Entry> {
        let principal = Principal::new("alice", ScopeSet::default(), "test".into(), None).expect("legal");
        Arc::new(Entry::new(key, principal, 0, settings))
    }

    #[test]
    fn the_table_is_bounded() {
        assert_eq!(size_of::<Set>(), 64, "one line of the processor's caches");
        let bytes = |capacity| size_of_val(&*Recent::new(capacity).0);
        assert_eq!((bytes(0), bytes(1), bytes(100_000), bytes(u64::MAX)), (64, 64, 2 << 20, 16 << 20));
    }

    #[test]
    fn most_entries_are_found_and_only_by_their_own_key() {
        let recent = Recent::new(10_000);
        let entries: Vec<_> = keys(10_000).into_iter().map(|key| entry(key, &Settings::default())).collect();
        for entry in &entries {
            recent.put(entry.key, entry);
        }
        let found = entries.iter().filter_map(|entry| Some((entry, recent.get(entry.key)?)));
        let right = found.map(|(entry, found)| assert!(Arc::ptr_eq(entry, &found))).count();
        assert!((9_000..=10_000).contains(&right), "{right}");
        assert!(keys(1_000).into_iter().all(|other| recent.get(other).is_none()), "keys of another cache");
    }

    #[test]
    fn some_uses_go_to_moka() {
        let recent = Recent::new(1);
        let entry = entry(keys(1)[0], &Settings::default());
        recent.put(entry.key, &entry);
        let given: Vec<bool> = (0..2 * usize::from(MOKA_SHARE)).map(|_| recent.get(entry.key).is_some()).collect();
        let once = [vec![true; usize::from(MOKA_SHARE) - 1], vec![false]].concat();
        assert_eq!(given, once.repeat(2));
    }

    #[test]
    fn an_entry_that_has_ended_is_not_returned() {
        let recent = Recent::new(1);
        let key = keys(1)[0];
        let [first, second] = [(); 2].map(|()| entry(key, &Settings::default()));
        recent.put(key, &first);
        first.end();
        recent.forget(key, &first);
        assert!(recent.get(key).is_none());
        recent.put(key, &first);
        assert!(recent.get(key).is_none(), "it had ended before it was added");
        recent.put(key, &second);
        recent.forget(key, &first);
        assert!(recent.get(key).is_some_and(|found| Arc::ptr_eq(&found, &second)), "another entry was removed");
        let short = Settings { ttl: crate::config::Span(std::time::Duration::ZERO), ..Settings::default() };
        recent.put(key, &entry(key, &short));
        assert!(recent.get(key).is_none(), "its lifetime is over");
    }

    #[test]
    fn nothing_is_returned_or_added_while_the_place_is_locked() {
        let recent = Recent::new(1);
        let entry = entry(keys(1)[0], &Settings::default());
        recent.put(entry.key, &entry);
        let held = recent.set(entry.key).lock().expect("the lock is not poisoned");
        assert!(recent.get(entry.key).is_none());
        recent.put(entry.key, &entry);
        drop(held);
        assert!(recent.get(entry.key).is_some());
    }
}
