//! Moving data: new owners pull what they gain, and former owners have pulled from them what nobody may lose.
//!
//! There is one mechanism, the *pull*: stretch by stretch through a partition, the receiver says what it has there
//! (hashes and digests, nothing in a first copy), the giver sends what differs, the receiver joins it into its own
//! state and makes it durable. A pull is idempotent and knows no order, so it may be cut off and begun again
//! anywhere; what writes bring meanwhile is joined the same way.
//!
//! ```text
//!   copy      pull, knowing nothing         ─► copied      everything from before the change
//!   both      pull, knowing what is there   ─► verified    what was written before writes needed both rows
//!   switch    only after a restart: pull    ─► verified
//!   (done)    Surrender ─► owner pulls, knowing what is there ─► Released ─► former owner drops the partition
//! ```
//!
//! A pull under `both` begins after the giver adopted `both`, for a giver answers only its own epoch. Every write it
//! acknowledged before is in its store, and every later one needed the receiver's own yes: when the pull is through,
//! the receiver has them all, though writes never stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv_common::message::peer::Purpose;
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Report;
use ringkv_common::ring::{Phase, Ring, SignalId};

use super::Node;
use super::effect::Token;
use super::pull::Pull;
use super::task::Task;

/// Partitions pulled at one time.
const PULLS_MAX: usize = 4;

/// A partition that this node gains in the change.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) from: NodeName,
    pub(super) copied: bool,
    pub(super) verified: bool,
    pub(super) active: bool,
}

/// What moves to and from this node.
#[derive(Debug, Default)]
pub struct Transfers {
    /// The change that `incoming` belongs to.
    pub(super) change: Option<SignalId>,
    pub(super) incoming: BTreeMap<u32, Incoming>,
    /// Pulls of what former owners hand over to this node, by partition.
    pub(super) handed_over: BTreeMap<u32, Token>,
    /// Partitions that this node hands over: when to offer them again, or `None` before their turn.
    pub(super) surrenders: BTreeMap<u32, Option<u64>>,
    /// When to look for such partitions again: a late join may have brought one.
    pub(super) look_at_us: Option<u64>,
    pub(super) keys_moved: u64,
    pub(super) bytes_moved: u64,
    pub(super) stuck: Option<String>,
}

impl Transfers {
    /// Whether a gained partition is complete.
    pub(super) fn has(&self, partition: u32) -> bool {
        self.incoming.get(&partition).is_some_and(|i| i.verified)
    }

    /// Partitions that still are to be handed over.
    pub(super) fn surrendering(&self) -> usize {
        self.surrenders.len()
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        self.surrenders.values().flatten().copied().chain(self.look_at_us).min()
    }

    pub(super) fn report(&self) -> Report {
        let count = |f: fn(&Incoming) -> bool| self.incoming.values().filter(|i| f(i)).count() as u32;
        Report {
            incoming: self.incoming.len() as u32,
            copied: count(|i| i.copied || i.verified),
            verified: count(|i| i.verified),
            keys_moved: self.keys_moved,
            bytes_moved: self.bytes_moved,
            stuck: self.stuck.clone(),
            ..Report::default()
        }
    }
}

impl Node {
    /// A new ring is in force: pulls of the old one end, those of the new one begin.
    pub(super) fn begin_transfers(&mut self, ring: &Arc<Ring>) {
        let mut tokens = self.tasks.tokens();
        tokens.sort_unstable();
        for token in tokens {
            if matches!(self.tasks.get(token), Some(Task::Pull(_))) {
                self.tasks.take(token);
            }
        }
        self.transfers.handed_over.clear();
        self.transfers.stuck = None;
        let change = ring.change.as_ref().map(|c| c.signal.clone());
        if self.transfers.change != change {
            self.transfers.change = change;
            self.transfers.incoming = self.gained(ring);
            (self.transfers.keys_moved, self.transfers.bytes_moved) = (0, 0);
        }
        self.transfers.incoming.values_mut().for_each(|i| i.active = false);
        self.pull_on();
        self.transfers.surrenders.clear();
        self.surrender(ring);
    }

    fn gained(&self, ring: &Ring) -> BTreeMap<u32, Incoming> {
        let Some(me) = self.me else { return BTreeMap::new() };
        let incoming = |from| Incoming { from, copied: false, verified: false, active: false };
        ring.incoming(me).into_iter().map(|(p, from)| (p, incoming(from[0]))).collect()
    }

    /// Begins as many pulls as may run at once.
    pub(super) fn pull_on(&mut self) {
        let Some(phase) = self.ring.as_ref().and_then(|r| r.change.as_ref()).map(|c| c.phase) else { return };
        let due = |i: &Incoming| if phase == Phase::Copy { !i.copied } else { !i.verified };
        let active = self.transfers.incoming.values().filter(|i| i.active).count();
        let idle = self.transfers.incoming.iter().filter(|(_, i)| !i.active && due(i));
        let begin: Vec<(u32, NodeName, bool)> =
            idle.take(PULLS_MAX.saturating_sub(active)).map(|(p, i)| (*p, i.from, i.copied)).collect();
        for (partition, from, copied) in begin {
            if let Some(incoming) = self.transfers.incoming.get_mut(&partition) {
                incoming.active = true;
            }
            self.pull(Pull::new(partition, from, Purpose::Move, copied, Some(phase)));
        }
    }
}
