//! Consul as far as the cluster uses it: keys with ModifyIndex, a lock of a session, a catalog with TTL checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Candidate, Signal};
use ringkv_common::ring::{Node, Outcome, Ring, SignalId};

/// A session without renewal ends after this time.
const SESSION_TTL_US: u64 = 10_000_000;
/// A lock whose session ended stays free for so long.
const LOCK_DELAY_US: u64 = 1_000_000;
/// A service's check turns critical after this time without a heartbeat.
const CHECK_TTL_US: u64 = 10_000_000;
/// A service that is critical for so long is removed.
const REAP_US: u64 = 60_000_000;

/// What is kept in its store.
#[derive(Clone, Debug, Default)]
struct Keys {
    ring: Option<(Arc<Ring>, u64)>,
    signals: BTreeMap<String, (Vec<u8>, u64)>,
    results: BTreeMap<String, Outcome>,
}

#[derive(Clone, Debug)]
struct Registration {
    node: Node,
    passed_us: u64,
}

/// One Consul.
#[derive(Debug, Default)]
pub struct Consul {
    /// Nobody reaches it.
    pub away: bool,
    /// `cluster_size`.
    pub size: Option<u16>,
    index: u64,
    keys: Keys,
    backup: Keys,
    /// The session that holds the lock, and when it was last renewed.
    lock: Option<(u64, u64)>,
    lock_free_us: u64,
    catalog: BTreeMap<NodeName, Registration>,
}

impl Consul {
    /// An empty Consul where the operator has set `cluster_size`.
    pub fn new(size: u16) -> Consul {
        Consul { size: Some(size), ..Consul::default() }
    }

    /// The ring and its ModifyIndex, 0 where there is none.
    pub fn ring(&self) -> (Option<Arc<Ring>>, u64) {
        self.keys.ring.as_ref().map_or((None, 0), |(ring, index)| (Some(ring.clone()), *index))
    }

    /// Compare-and-set of the ring.
    pub fn write_ring(&mut self, ring: Arc<Ring>, index: u64) -> bool {
        let won = self.ring().1 == index;
        if won {
            self.index += 1;
            self.keys.ring = Some((ring, self.index));
        }
        won
    }

    /// Writes a signal, as `consul kv put` does: the same value changes nothing.
    pub fn signal(&mut self, name: &str, value: &str) {
        if self.keys.signals.get(name).is_some_and(|(held, _)| held == value.as_bytes()) {
            return;
        }
        self.index += 1;
        self.keys.signals.insert(name.into(), (value.into(), self.index));
    }

    /// All signals.
    pub fn signals(&self) -> Vec<Signal> {
        let signal = |(name, (value, index)): (&String, &(Vec<u8>, u64))| Signal {
            id: SignalId { name: name.clone(), index: *index },
            value: value.clone(),
        };
        self.keys.signals.iter().map(signal).collect()
    }

    /// Deletes a signal that has this index.
    pub fn forget(&mut self, id: &SignalId) {
        if self.keys.signals.get(&id.name).is_some_and(|(_, index)| *index == id.index) {
            self.keys.signals.remove(&id.name);
            self.index += 1;
        }
    }

    /// Writes a signal's result.
    pub fn answer(&mut self, outcome: Outcome) {
        self.index += 1;
        self.keys.results.insert(outcome.signal.name.clone(), outcome);
    }

    /// A signal's result.
    pub fn result(&self, name: &str) -> Option<&Outcome> {
        self.keys.results.get(name)
    }

    /// Removes a signal's result, so that the next one can be told from it.
    pub fn forget_result(&mut self, name: &str) {
        self.keys.results.remove(name);
    }

    /// Tries for the lock.
    pub fn lock(&mut self, session: u64, now_us: u64) -> bool {
        self.expire(now_us);
        if self.lock.is_none() && now_us >= self.lock_free_us {
            self.lock = Some((session, now_us));
        }
        self.holds(session)
    }

    /// Whether this session holds it.
    pub fn holds(&self, session: u64) -> bool {
        self.lock.is_some_and(|(holder, _)| holder == session)
    }

    /// Keeps the session alive.
    pub fn renew(&mut self, session: u64, now_us: u64) {
        self.expire(now_us);
        if self.holds(session) {
            self.lock = Some((session, now_us));
        }
    }

    /// Gives it back.
    pub fn unlock(&mut self, session: u64) {
        if self.holds(session) {
            self.lock = None;
        }
    }

    fn expire(&mut self, now_us: u64) {
        if self.lock.is_some_and(|(_, renewed)| renewed + SESSION_TTL_US < now_us) {
            self.lock = None;
            self.lock_free_us = now_us + LOCK_DELAY_US;
        }
    }

    /// A node's heartbeat: registers it where it is not.
    pub fn heartbeat(&mut self, node: &Node, now_us: u64) {
        self.catalog.insert(node.name, Registration { node: node.clone(), passed_us: now_us });
    }

    /// A node that ends takes itself out.
    pub fn deregister(&mut self, name: NodeName) {
        self.catalog.remove(&name);
    }

    /// The catalog.
    pub fn candidates(&mut self, now_us: u64) -> Vec<Candidate> {
        self.catalog.retain(|_, r| r.passed_us + CHECK_TTL_US + REAP_US >= now_us);
        let candidate = |r: &Registration| Candidate {
            node: r.node.clone(),
            healthy: r.passed_us + CHECK_TTL_US >= now_us,
        };
        self.catalog.values().map(candidate).collect()
    }

    /// Remembers the keys for [`Consul::set_back`].
    pub fn back_up(&mut self) {
        self.backup = self.keys.clone();
    }

    /// Restores the keys of the last backup: an operator's old snapshot. Sessions are gone with it.
    pub fn set_back(&mut self) {
        self.keys = self.backup.clone();
        // A restored store counts on, and its entries keep the indices they had.
        self.lock = None;
    }

    /// Everything is gone but `cluster_size`, which the operator writes again.
    pub fn wipe(&mut self) {
        self.keys = Keys::default();
        self.catalog.clear();
        self.lock = None;
    }
}
