//! The entries of the token cache that were used last, where they are found in one step.
//!
//! moka follows five pointers to an entry, and keeps an order of use over as many more. With very many callers none of them
//! is in the processor's caches, and to wait for each costs more than all else that is done with a token. Here a place in
//! one table leads to the entry.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::TokenKey;
use super::entry::Entry;
use crate::config::limits;

/// How many entries share a place: with their lock they fill a line of the processor's caches.
const WAYS: usize = 5;
/// One of so many uses is left to moka, which would else let go what it takes to be unused. With one of four, very many
/// credentials that come once already put out callers who are active.
const TOLD: u8 = 2;

/// What moka lets go is gone here, too: its listener [`ends`](Entry::end) the entry, and then has it forgotten.
#[derive(Debug)]
pub(super) struct Recent(Box<[Set]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set(Mutex<Ways>);

#[derive(Debug, Default)]
struct Ways {
    entries: [Option<Arc<Entry>>; WAYS],
    /// Parts of their keys: most others need not be looked at.
    tags: [u16; WAYS],
    uses: [u8; WAYS],
    /// Whose turn it is to make room.
    next: u8,
}

impl Recent {
    /// Room for most of `capacity` entries, and of [`limits::RECENT_ENTRIES`] at most: 16 to 32 bytes for each.
    pub(super) fn new(capacity: u64) -> Self {
        // With four for each place few have more than five.
        let sets = (capacity.min(limits::RECENT_ENTRIES) as usize / 4).next_power_of_two();
        Self((0..sets).map(|_| Set::default()).collect())
    }

    /// The entry behind `key`, if it is here and its time is not over. Now and then it is not given, so that moka is asked.
    pub(super) fn get(&self, key: TokenKey) -> Option<Arc<Entry>> {
        // Who would have to wait asks moka, too.
        let mut ways = self.set(key).try_lock().ok()?;
        let at = ways.find(key)?;
        ways.uses[at] = (ways.uses[at] + 1) % TOLD;
        let entry = ways.entries[at].as_ref().filter(|entry| entry.lasts(Instant::now()))?;
        (ways.uses[at] != 0).then(|| Arc::clone(entry))
    }

    /// Remembers an entry that moka has just given.
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
        // Here, outside the lock.
        drop(before);
    }

    /// Forgets an entry that has ended.
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

    /// A free one, or one of the others in turn.
    fn make_room(&mut self) -> usize {
        self.entries.iter().position(Option::is_none).unwrap_or_else(|| {
            self.next = (self.next + 1) % WAYS as u8;
            usize::from(self.next)
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
    fn most_of_as_many_as_there_is_room_for_are_found_and_each_by_its_own_key() {
        let recent = Recent::new(10_000);
        let entries: Vec<_> = keys(10_000).into_iter().map(|key| entry(key, &Settings::default())).collect();
        for entry in &entries {
            recent.put(entry.key, entry);
        }
        let found = entries.iter().filter_map(|entry| Some((entry, recent.get(entry.key)?)));
        let right = found.map(|(entry, found)| assert!(Arc::ptr_eq(entry, &found))).count();
        assert!((9_000..=10_000).contains(&right), "{right}");
        assert!(keys(1_000).into_iter().all(|other| recent.get(other).is_none()), "of another process");
    }

    #[test]
    fn moka_is_asked_now_and_then() {
        let recent = Recent::new(1);
        let entry = entry(keys(1)[0], &Settings::default());
        recent.put(entry.key, &entry);
        let given: Vec<bool> = (0..2 * usize::from(TOLD)).map(|_| recent.get(entry.key).is_some()).collect();
        let once = [vec![true; usize::from(TOLD) - 1], vec![false]].concat();
        assert_eq!(given, once.repeat(2));
    }

    #[test]
    fn what_has_ended_is_not_given_whichever_comes_first() {
        let recent = Recent::new(1);
        let key = keys(1)[0];
        let [first, second] = [(); 2].map(|()| entry(key, &Settings::default()));
        recent.put(key, &first);
        first.end();
        recent.forget(key, &first);
        assert!(recent.get(key).is_none());
        recent.put(key, &first);
        assert!(recent.get(key).is_none(), "it had ended when it came");
        recent.put(key, &second);
        recent.forget(key, &first);
        assert!(recent.get(key).is_some_and(|found| Arc::ptr_eq(&found, &second)), "another one was forgotten");
        let short = Settings { ttl: crate::config::Span(std::time::Duration::ZERO), ..Settings::default() };
        recent.put(key, &entry(key, &short));
        assert!(recent.get(key).is_none(), "its time is over");
    }

    #[test]
    fn one_that_has_to_wait_is_not_served_here() {
        let recent = Recent::new(1);
        let entry = entry(keys(1)[0], &Settings::default());
        recent.put(entry.key, &entry);
        let held = recent.set(entry.key).lock().expect("nobody has panicked");
        assert!(recent.get(entry.key).is_none());
        recent.put(entry.key, &entry);
        drop(held);
        assert!(recent.get(entry.key).is_some());
    }
}
