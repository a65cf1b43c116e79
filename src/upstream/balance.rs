//! Chooses the endpoint for the next request.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent};

use super::endpoint::Endpoint;
use crate::config::Balance;
use crate::config::limits;

/// The endpoints of a pool at one moment, ready to choose from.
pub struct Table {
    endpoints: Box<[Arc<Endpoint>]>,
    index: HashMap<SocketAddr, usize>,
    /// Indices into `endpoints`, each repeated as often as the endpoint's weight says, and evenly mixed.
    schedule: Box<[u16]>,
    cursor: AtomicUsize,
    strategy: Strategy,
}

enum Strategy {
    RoundRobin,
    LeastRequest,
    Random,
    Hash(Arc<Consistent>),
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.endpoints.iter().map(|endpoint| endpoint.address())).finish()
    }
}

impl Table {
    /// A table of `endpoints`. The list may be empty while no name has been resolved yet.
    pub fn new(endpoints: Vec<Arc<Endpoint>>, balance: &Balance) -> Self {
        let strategy = match balance {
            Balance::RoundRobin => Strategy::RoundRobin,
            Balance::LeastRequest => Strategy::LeastRequest,
            Balance::Random => Strategy::Random,
            Balance::Hash(_) => Strategy::hash(&endpoints),
        };
        let schedule = schedule(&endpoints.iter().map(|endpoint| endpoint.weight()).collect::<Vec<_>>());
        let index = endpoints.iter().enumerate().map(|(index, endpoint)| (endpoint.address(), index)).collect();
        Self { endpoints: endpoints.into(), index, schedule, cursor: AtomicUsize::new(fastrand::usize(..)), strategy }
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint at `address`.
    pub fn get(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        self.index.get(&address).map(|index| &self.endpoints[*index])
    }

    /// Chooses a healthy endpoint that is not in `tried`. `key` is the value that `balance: {hash: ...}` hashes. With
    /// that balance, a request without a key is balanced by least request.
    pub fn choose(&self, key: Option<&[u8]>, tried: &[SocketAddr]) -> Option<&Arc<Endpoint>> {
        let usable = |endpoint: &Arc<Endpoint>| endpoint.is_healthy() && !tried.contains(&endpoint.address());
        let slots = self.schedule.len();
        if slots == 0 {
            return None;
        }
        let slot = match &self.strategy {
            Strategy::Hash(ring) => {
                if let Some(key) = key {
                    return self.on_ring(ring, key, usable);
                }
                return self.less_busy(usable).or_else(|| self.first_usable(fastrand::usize(..slots), usable));
            }
            Strategy::LeastRequest => {
                return self.less_busy(usable).or_else(|| self.first_usable(fastrand::usize(..slots), usable));
            }
            Strategy::RoundRobin => self.cursor.fetch_add(1, Ordering::Relaxed) % slots,
            Strategy::Random => fastrand::usize(..slots),
        };
        self.first_usable(slot, usable)
    }

    /// The first usable endpoint in the schedule, from `slot` to the end and then from the beginning.
    fn first_usable(&self, slot: usize, usable: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
        let (before, after) = self.schedule.split_at(slot);
        after.iter().chain(before).map(|&index| &self.endpoints[usize::from(index)]).find(|endpoint| usable(endpoint))
    }

    /// Picks two random slots and returns the endpoint with fewer requests in flight for its weight. Returns `None`
    /// when one of the two endpoints is not usable.
    fn less_busy(&self, usable: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
        let slots = self.schedule.len();
        let first = fastrand::usize(..slots);
        // The second slot differs from the first one, unless there is only one slot.
        let second = if slots > 1 { (first + fastrand::usize(1..slots)) % slots } else { first };
        let [first, second] = [first, second].map(|slot| &self.endpoints[usize::from(self.schedule[slot])]);
        if !usable(first) || !usable(second) {
            return None;
        }
        let load = |one: &Endpoint, other: &Endpoint| (one.in_flight() + 1) * usize::from(other.weight());
        Some(if load(first, second) <= load(second, first) { first } else { second })
    }

    fn on_ring(
        &self,
        ring: &Arc<Consistent>,
        key: &[u8],
        usable: impl Fn(&Arc<Endpoint>) -> bool,
    ) -> Option<&Arc<Endpoint>> {
        if !self.endpoints.iter().any(&usable) {
            return None;
        }
        let mut points = ring.iter(key);
        for _ in 0..limits::HASH_RING_STEPS {
            let address = points.next()?.addr.as_inet()?;
            let endpoint = self.get(*address)?;
            if usable(endpoint) {
                return Some(endpoint);
            }
        }
        self.endpoints.iter().find(|endpoint| usable(endpoint))
    }
}

impl Strategy {
    fn hash(endpoints: &[Arc<Endpoint>]) -> Self {
        let backends: BTreeSet<Backend> =
            endpoints.iter().map(|endpoint| backend(endpoint.address(), endpoint.weight())).collect();
        Self::Hash(Arc::new(Consistent::build(&backends)))
    }
}

/// The [`Backend`] of Pingora's load balancing for an address and a weight.
pub(super) fn backend(address: SocketAddr, weight: u16) -> Backend {
    Backend { addr: address.into(), weight: weight.into(), ext: http::Extensions::new() }
}

/// Repeats each index as often as its weight says (after dividing all weights by their greatest common divisor). The
/// order is that of smooth weighted round robin: weights 2 and 1 give 0 1 0, not 0 0 1.
fn schedule(weights: &[u16]) -> Box<[u16]> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    if weights.iter().all(|&weight| weight == 1) {
        return (0..weights.len() as u16).collect();
    }
    let mut credit = vec![0; weights.len()];
    let next = |_| {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        let richest =
            (0..credit.len()).max_by_key(|&index| (credit[index], std::cmp::Reverse(index))).unwrap_or_default();
        credit[richest] -= total;
        richest as u16
    };
    (0..total).map(next).collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HashOn;
    use crate::metrics::{Metrics, UpstreamMetrics};
    use pingora::upstreams::peer::HttpPeer;

    fn table(weights: &[u16], balance: &Balance) -> Table {
        let metrics = Arc::new(Metrics::new().expect("the families are consistent"));
        let upstream = UpstreamMetrics::new(&metrics, &"u".into());
        let endpoint = |(index, weight): (usize, &u16)| {
            let address = SocketAddr::from(([127, 0, 0, 1], 8000 + index as u16));
            let peer = HttpPeer::new(address, false, String::new());
            let metrics = upstream.endpoint(&address.to_string());
            Arc::new(Endpoint::new(address, address.to_string(), *weight, peer, metrics))
        };
        Table::new(weights.iter().enumerate().map(endpoint).collect(), balance)
    }

    fn counts(table: &Table, key: impl Fn(usize) -> Option<String>) -> Vec<usize> {
        let mut counts = vec![0; table.endpoints.len()];
        for round in 0..6000 {
            let key = key(round);
            let chosen = table.choose(key.as_deref().map(str::as_bytes), &[]).expect("an endpoint is healthy");
            counts[usize::from(chosen.address().port()) - 8000] += 1;
        }
        counts
    }

    #[test]
    fn schedules_are_smooth() {
        assert_eq!(*schedule(&[2, 1]), [0_u16, 1, 0]);
        assert_eq!(*schedule(&[6, 3, 3]), [0_u16, 1, 2, 0]);
        assert!(schedule(&[]).is_empty());
    }

    #[test]
    fn round_robin_keeps_the_weights_exactly() {
        assert_eq!(counts(&table(&[3, 2, 1], &Balance::RoundRobin), |_| None), [3000, 2000, 1000]);
    }

    #[test]
    fn random_keeps_the_weights_roughly() {
        let counts = counts(&table(&[2, 1], &Balance::Random), |_| None);
        assert!((3600..4400).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn least_request_avoids_the_busy_endpoint() {
        let table = table(&[1, 1], &Balance::LeastRequest);
        let busy: Vec<_> = (0..5).map(|_| table.endpoints[0].begin()).collect();
        assert_eq!(counts(&table, |_| None), [0, 6000]);
        drop(busy);
        assert!(counts(&table, |_| None).iter().all(|&count| count > 1000));
    }

    #[test]
    fn a_key_keeps_its_endpoint_while_that_endpoint_is_healthy() {
        let table = table(&[1, 1, 1], &Balance::Hash(HashOn::default()));
        let at = |key: &str| table.choose(Some(key.as_bytes()), &[]).map(|endpoint| endpoint.address());
        let keys: Vec<String> = (0..300).map(|key| format!("key-{key}")).collect();
        let before: Vec<_> = keys.iter().map(|key| at(key)).collect();
        let gone = table.endpoints[1].address();
        table.endpoints[1].set_healthy(false);
        for (key, before) in keys.iter().zip(before) {
            let after = at(key);
            assert_ne!(after, Some(gone));
            assert!(before == after || before == Some(gone), "{key} moved although its endpoint is healthy");
        }
    }

    #[test]
    fn unhealthy_and_tried_endpoints_are_skipped() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random, Balance::Hash(HashOn::default())] {
            let table = table(&[1, 1, 1], &balance);
            let address = |index: usize| table.endpoints[index].address();
            table.endpoints[0].set_healthy(false);
            for _ in 0..50 {
                let chosen = table.choose(Some(b"k"), &[address(1)]).map(|endpoint| endpoint.address());
                assert_eq!(chosen, Some(address(2)), "{balance:?}");
            }
            assert!(table.choose(Some(b"k"), &[address(1), address(2)]).is_none(), "{balance:?}");
        }
    }
}
