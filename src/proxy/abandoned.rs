//! Exchanges that go on without their clients. A call of an older revision is not cancelled when its client leaves, and may take as
//! long as its tool does. Its connection must not keep others out, and a caller must not pile up such calls.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::limits;

/// Who has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A principal: its provider, and its subject.
    Principal(Arc<str>, String),
    /// Anybody at this address, on an open route.
    Address(IpAddr),
}

/// Counts the exchanges that go on without their clients.
#[derive(Debug, Default)]
pub(crate) struct Abandoned(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_caller: HashMap<Caller, usize>,
    all: usize,
}

/// One such exchange, until it is dropped.
#[derive(Debug)]
pub(crate) struct Abandonment {
    counts: Arc<Abandoned>,
    caller: Caller,
}

impl Abandoned {
    /// Counts one more. `None`: there are too many, of this caller or of all, and the exchange has to end.
    pub(crate) fn enter(self: &Arc<Self>, caller: Caller) -> Option<Abandonment> {
        let mut counts = self.lock();
        let own = counts.by_caller.get(&caller).copied().unwrap_or_default();
        if own >= limits::ABANDONED_OF_CALLER || counts.all >= limits::ABANDONED {
            return None;
        }
        counts.all += 1;
        counts.by_caller.insert(caller.clone(), own + 1);
        drop(counts);
        Some(Abandonment { counts: Arc::clone(self), caller })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.all -= 1;
        if let Some(own) = counts.by_caller.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                counts.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_its_share() {
        let all = Arc::new(Abandoned::default());
        let alice = || Caller::Principal("corp".into(), "alice".to_owned());
        let mut entered: Vec<_> = (0..limits::ABANDONED_OF_CALLER).map(|_| all.enter(alice())).collect();
        assert!(entered.iter().all(Option::is_some) && all.enter(alice()).is_none());
        assert!(all.enter(Caller::Principal("other".into(), "alice".to_owned())).is_some());
        entered.pop();
        entered.push(all.enter(alice()));
        assert!(entered.iter().all(Option::is_some));
        drop(entered);
        assert!(all.lock().by_caller.is_empty() && all.lock().all == 0);
    }
}
