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

use ringkv_common::bug::{self, Bug};
use ringkv_common::message::peer::Purpose;
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Report;
use ringkv_common::ring::{Phase, Ring, SignalId};

use super::Node;
use super::effect::Token;
use super::fill::compared_min;
use super::pull::Pull;
use super::quorums::Row;
use super::task::Task;

/// Partitions pulled at one time.
const PULLS_MAX: usize = 4;

/// A partition that this node has to receive.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Owners that may give it.
    pub(super) from: Row,
    /// With how many of them it has to be compared.
    pub(super) needed: usize,
    /// With whom it was.
    pub(super) compared: Row,
    /// Those of them that had lost what they held.
    pub(super) lacking: Row,
    /// How often a source was given up.
    pub(super) given_up: usize,
    pub(super) copied: bool,
    pub(super) active: bool,
}

impl Incoming {
    pub(super) fn of(from: Row, needed: usize) -> Incoming {
        Incoming {
            from,
            needed,
            compared: Row::new(),
            lacking: Row::new(),
            given_up: 0,
            copied: false,
            active: false,
        }
    }

    /// Whether it has been compared with as many owners as it takes.
    pub(super) fn verified(&self) -> bool {
        self.compared.len() >= self.needed || self.copied && bug::on(Bug::SkipsComparison)
    }
}

/// A partition that this node holds and does not own.
#[derive(Debug)]
pub(super) struct Surrender {
    /// It owned it before, or is leaving: it waits for no owner that is away.
    pub(super) former: bool,
    /// It is offered though an owner is away, since somebody wants to see that.
    pub(super) forced: bool,
    /// What it held when it was offered last.
    pub(super) held: u64,
    /// Owners that have all of that.
    pub(super) confirmed: Row,
    /// When to offer it again; `None`: before its turn.
    pub(super) at_us: Option<u64>,
}

impl Surrender {
    pub(super) fn of(former: bool) -> Surrender {
        Surrender { former, forced: false, held: 0, confirmed: Row::new(), at_us: None }
    }
}

/// What moves to and from this node.
#[derive(Debug, Default)]
pub struct Transfers {
    /// The change that `incoming` belongs to.
    pub(super) change: Option<SignalId>,
    pub(super) incoming: BTreeMap<u32, Incoming>,
    /// Partitions whose data went with this node's memory, and that other owners have.
    pub(super) fills: BTreeMap<u32, Incoming>,
    /// Pulls of what former owners hand over to this node, by partition.
    pub(super) handed_over: BTreeMap<u32, Token>,
    /// Partitions that this node hands over.
    pub(super) surrenders: BTreeMap<u32, Surrender>,
    /// When to look for such partitions again: a late join may have brought one.
    pub(super) look_at_us: Option<u64>,
    pub(super) keys_moved: u64,
    pub(super) bytes_moved: u64,
    pub(super) stuck: Option<String>,
}

impl Transfers {
    /// Whether a gained partition is complete.
    pub(super) fn has(&self, partition: u32) -> bool {
        self.incoming.get(&partition).is_some_and(Incoming::verified)
    }

    /// Partitions of earlier rings that still are to be handed over.
    pub(super) fn surrendering(&self) -> usize {
        self.surrenders.values().filter(|surrender| surrender.former).count()
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        self.surrenders.values().filter_map(|surrender| surrender.at_us).chain(self.look_at_us).min()
    }

    pub(super) fn report(&self) -> Report {
        let count = |f: fn(&Incoming) -> bool| self.incoming.values().filter(|i| f(i)).count() as u32;
        Report {
            incoming: self.incoming.len() as u32,
            copied: count(|i| i.copied || i.verified()),
            verified: count(Incoming::verified),
            filling: self.fills.len() as u32,
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
        self.transfers.fills.values_mut().for_each(|fill| fill.active = false);
        self.pull_on();
        self.fill_on();
        self.surrender_anew(ring);
    }

    fn gained(&self, ring: &Ring) -> BTreeMap<u32, Incoming> {
        let Some(me) = self.me else { return BTreeMap::new() };
        let incoming = |p: u32, mut from: Row| {
            // What an owner that stays holds itself it need not compare with, unless it has lost it.
            let holds = ring.owners.owners(p).contains(&me) && !self.transfers.fills.contains_key(&p);
            let mine = usize::from(holds);
            let needed = compared_min(from.len());
            from.retain(|name| *name != self.id.name);
            Incoming::of(from, needed - mine)
        };
        ring.incoming(me).into_iter().map(|(p, from)| (p, incoming(p, from))).collect()
    }

    /// Begins as many pulls as may run at once.
    pub(super) fn pull_on(&mut self) {
        let Some(phase) = self.ring.as_ref().and_then(|r| r.change.as_ref()).map(|c| c.phase) else { return };
        let due =
            |i: &Incoming| if phase == Phase::Copy { !i.copied && !i.from.is_empty() } else { !i.verified() };
        let active = self.transfers.incoming.values().filter(|i| i.active).count();
        let idle = self.transfers.incoming.iter().filter(|(_, i)| !i.active && due(i));
        let begin: Vec<u32> = idle.map(|(p, _)| *p).take(PULLS_MAX.saturating_sub(active)).collect();
        for partition in begin {
            let Some(from) = self.source(partition, Purpose::Move) else { continue };
            if let Some(incoming) = self.transfers.incoming.get_mut(&partition) {
                incoming.active = true;
                let copied = incoming.copied;
                self.pull(Pull::new(partition, from, Purpose::Move, copied, Some(phase)));
            }
        }
    }

    /// Whom to pull a partition from: an owner that it was not compared with yet and that answers, if there is one; after
    /// each that was given up, the next.
    pub(super) fn source(&self, partition: u32, purpose: Purpose) -> Option<NodeName> {
        let incoming = match purpose {
            Purpose::Fill => self.transfers.fills.get(&partition)?,
            _ => self.transfers.incoming.get(&partition)?,
        };
        let mut from: Row =
            incoming.from.iter().filter(|name| !incoming.compared.contains(name)).copied().collect();
        from.sort_by_key(|name| self.is_away(*name));
        from.get(incoming.given_up % from.len().max(1)).copied()
    }

    /// An owner does not give a partition: another one is asked.
    pub(super) fn give_up_source(&mut self, partition: u32, purpose: Purpose) {
        let incoming = match purpose {
            Purpose::Fill => self.transfers.fills.get_mut(&partition),
            _ => self.transfers.incoming.get_mut(&partition),
        };
        if let Some(incoming) = incoming {
            incoming.given_up += 1;
            incoming.active = false;
        }
        match purpose {
            Purpose::Fill => self.fill_on(),
            _ => self.pull_on(),
        }
    }
}
