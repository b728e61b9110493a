//! Anti-entropy: owners of the same partitions compare what they hold, in the background, and take from each other what
//! they lack (*Dynamo* §4.7). It finds what neither hints nor reads have brought.
//!
//! The store keeps a sum for each of a partition's 256 buckets, a run of hashes each (`store::Sums`). So what differs is
//! found from above, in four messages, and only then keys are looked at:
//!
//! ```text
//!   Roots    of all partitions that both own          ─► Differ   these partitions
//!   Buckets  of one that differs                      ─► Stale    from this bucket to that one
//!   both pull these buckets from each other, by digests of their keys
//! ```
//!
//! Sums are cut to 48 bits on the way: two that differ look alike once in 2^48 times, and at the next write no more.

use std::collections::VecDeque;

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::BUCKETS;
use ringkv_common::message::peer::{Buckets, Id, Message};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use super::Node;
use super::effect::{Effect, Token};
use super::pull::Pull;
use super::task::Task;

/// Milliseconds from one comparison to the next; each is with another node.
const PAUSE_MS: u64 = 5_000;
/// Milliseconds after which a comparison is given up that is not answered.
const PATIENCE_MS: u64 = 3_000;
/// Partitions at most whose buckets are compared in one round: the rest has its turn in the next one.
const PARTITIONS_MAX: usize = 256;
/// Bytes of a sum on the way.
const SUM_BYTES: usize = 6;
/// Repairs that wait at most, and that run at one time.
const REPAIRS_MAX: usize = 1024;
const PULLS_MAX: usize = 4;

/// What anti-entropy has come to in this life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Comparisons that were answered.
    pub rounds: u64,
    /// Partitions that differed.
    pub differed: u64,
    /// Records that were taken from others.
    pub repaired: u64,
}

/// Buckets to be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repair {
    from: NodeName,
    partition: u32,
    buckets: Buckets,
}

/// When to compare with whom, and what came of it.
#[derive(Debug, Default)]
pub struct AntiEntropy {
    /// When the next round begins; `None`: there is nobody to compare with.
    next_us: Option<u64>,
    /// With whom the last one was.
    last: Option<NodeName>,
    waiting: VecDeque<Repair>,
    running: usize,
    pub(super) counts: Counts,
}

impl AntiEntropy {
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.next_us
    }
}

/// A comparison under way.
#[derive(Debug)]
pub enum Exchange {
    /// This node began it, and reads its roots.
    Roots { with: NodeName },
    /// They were sent.
    Asked { with: NodeName },
    /// It reads the buckets of a partition that differs.
    Buckets { with: NodeName, partition: u32 },
    /// Another node began it: this one reads its own roots.
    TheirRoots { from: NodeName, id: Id, epoch: u64, sums: Box<[u8]> },
    /// It reads its own buckets.
    TheirBuckets { from: NodeName, id: Id, epoch: u64, partition: u32, sums: Box<[u8]> },
}

impl Node {
    pub(super) fn tick_anti_entropy(&mut self) {
        if self.anti_entropy.next_us.is_some_and(|at| at <= self.now.mono_us) {
            self.compare_with_next();
        }
    }

    /// Under a new ring what was to be repaired may be somebody else's.
    pub(super) fn anti_entropy_in_ring(&mut self, ring: &Ring) {
        self.anti_entropy.waiting.clear();
        self.anti_entropy.running = 0;
        let alone = self.me.is_none() || ring.owners.width() < 2 || bug::on(Bug::NeverCompares);
        // Not all at the same moment.
        let spread_ms = u64::from(self.id.name.0) % 10 * (PAUSE_MS / 10);
        self.anti_entropy.next_us = (!alone).then(|| self.now.after_ms(PAUSE_MS + spread_ms));
    }

    /// Begins a round with the node behind the last one that it shares partitions with.
    fn compare_with_next(&mut self) {
        self.anti_entropy.next_us = Some(self.now.after_ms(PAUSE_MS));
        let Some(ring) = self.ring.clone() else { return };
        // What is being repaired would be found once more.
        if !self.anti_entropy.waiting.is_empty() || self.membership.closes() {
            return;
        }
        let mut names: Vec<NodeName> = ring.nodes.iter().map(|node| node.name).collect();
        names.sort_unstable();
        let behind = names.partition_point(|name| Some(*name) <= self.anti_entropy.last);
        names.rotate_left(behind);
        let with = names.into_iter().find(|name| {
            *name != self.id.name && !self.is_away(*name) && !shared(&ring, self.id.name, *name).is_empty()
        });
        let Some(with) = with else { return };
        self.anti_entropy.last = Some(with);
        self.compare(with);
    }

    /// Begins a round with every node that it shares partitions with and that answers. Returns them.
    pub(super) fn compare_with_all(&mut self) -> Vec<NodeName> {
        let Some(ring) = self.ring.clone() else { return Vec::new() };
        let names = ring.nodes.iter().map(|node| node.name).filter(|name| *name != self.id.name);
        let shares = |name: &NodeName| !shared(&ring, self.id.name, *name).is_empty();
        let with: Vec<NodeName> = names.filter(|name| !self.is_away(*name) && shares(name)).collect();
        with.iter().for_each(|name| self.compare(*name));
        with
    }

    fn compare(&mut self, with: NodeName) {
        let token = self.exchange(Exchange::Roots { with });
        self.out.push(Effect::Sums { token, partition: None });
    }

    fn exchange(&mut self, exchange: Exchange) -> Token {
        let token = self.tasks.add(Task::Exchange(Box::new(exchange)));
        self.tasks.alarm(token, self.now.after_ms(PATIENCE_MS));
        token
    }

    /// The store's sums are here: roots by partition, or those of one partition by bucket.
    pub(super) fn on_sums(&mut self, token: Token, sums: &[(u32, u64)]) {
        let Some(ring) = self.ring.clone() else { return };
        let Some(Task::Exchange(exchange)) = self.tasks.take(token) else { return };
        let me = self.id.name;
        match *exchange {
            Exchange::Roots { with } => {
                let id = self.exchange(Exchange::Asked { with });
                let sums = bytes_of(&shared(&ring, me, with), sums);
                self.send(with, Message::Roots { id, epoch: ring.epoch, sums });
            }
            Exchange::Buckets { with, partition } => {
                let id = self.exchange(Exchange::Asked { with });
                let sums = bytes_of(&all_buckets(), sums);
                self.send(with, Message::Buckets { id, epoch: ring.epoch, partition, sums });
            }
            Exchange::TheirRoots { from, id, epoch, sums: theirs } => {
                if self.same_epoch(from, id, epoch) {
                    let shared = shared(&ring, me, from);
                    let differ = differing(&bytes_of(&shared, sums), &theirs);
                    let partitions = differ.into_iter().filter_map(|at| shared.get(at).copied());
                    let partitions = partitions.take(PARTITIONS_MAX).collect();
                    self.send(from, Message::Differ { id, partitions });
                }
            }
            Exchange::TheirBuckets { from, id, epoch, partition, sums: theirs } => {
                if self.same_epoch(from, id, epoch) {
                    let differ = differing(&bytes_of(&all_buckets(), sums), &theirs);
                    let ends = differ.first().zip(differ.last());
                    let buckets = ends.and_then(|(first, last)| {
                        Some(Buckets { first: u8::try_from(*first).ok()?, last: u8::try_from(*last).ok()? })
                    });
                    self.send(from, Message::Stale { id, partition, buckets });
                    buckets.into_iter().for_each(|buckets| self.repair(Repair { from, partition, buckets }));
                }
            }
            Exchange::Asked { .. } => {}
        }
    }

    pub(super) fn on_roots(&mut self, from: NodeName, id: Id, epoch: u64, sums: Box<[u8]>) {
        if self.same_epoch(from, id, epoch) && !self.overloaded(from, id) {
            let token = self.exchange(Exchange::TheirRoots { from, id, epoch, sums });
            self.out.push(Effect::Sums { token, partition: None });
        }
    }

    pub(super) fn on_differ(&mut self, from: NodeName, token: Token, partitions: Vec<u32>) {
        let Some(ring) = self.ring.clone() else { return };
        if !self.asked_of(token, from) {
            return;
        }
        self.tasks.take(token);
        self.anti_entropy.counts.rounds += 1;
        let shared = shared(&ring, self.id.name, from);
        let partitions = partitions.into_iter().filter(|p| shared.contains(p)).take(PARTITIONS_MAX);
        for partition in partitions {
            self.anti_entropy.counts.differed += 1;
            let token = self.exchange(Exchange::Buckets { with: from, partition });
            self.out.push(Effect::Sums { token, partition: Some(partition) });
        }
    }

    pub(super) fn on_buckets(&mut self, from: NodeName, id: Id, epoch: u64, partition: u32, sums: Box<[u8]>) {
        let known = self.ring.as_ref().is_some_and(|ring| partition < ring.partitions);
        if known && self.same_epoch(from, id, epoch) && !self.overloaded(from, id) {
            let token = self.exchange(Exchange::TheirBuckets { from, id, epoch, partition, sums });
            self.out.push(Effect::Sums { token, partition: Some(partition) });
        }
    }

    pub(super) fn on_stale(
        &mut self,
        from: NodeName,
        token: Token,
        partition: u32,
        buckets: Option<Buckets>,
    ) {
        if !self.asked_of(token, from) {
            return;
        }
        self.tasks.take(token);
        buckets.into_iter().for_each(|buckets| self.repair(Repair { from, partition, buckets }));
    }

    fn asked_of(&mut self, token: Token, from: NodeName) -> bool {
        matches!(self.tasks.get(token), Some(Task::Exchange(exchange))
            if matches!(**exchange, Exchange::Asked { with } if with == from))
    }

    /// Has buckets pulled, now or when others are through. Beyond the bound the next round finds them again.
    fn repair(&mut self, repair: Repair) {
        let owns = |ring: &Ring| {
            repair.partition < ring.partitions
                && self.me.is_some_and(|me| ring.owners.owners(repair.partition).contains(&me))
        };
        let known = self.ring.as_deref().is_some_and(owns);
        let waits = self.anti_entropy.waiting.contains(&repair);
        if known && !waits && self.anti_entropy.waiting.len() < REPAIRS_MAX {
            self.anti_entropy.waiting.push_back(repair);
            self.repair_on();
        }
    }

    fn repair_on(&mut self) {
        while self.anti_entropy.running < PULLS_MAX {
            let Some(Repair { from, partition, buckets }) = self.anti_entropy.waiting.pop_front() else {
                return;
            };
            self.anti_entropy.running += 1;
            self.pull(Pull::repair(partition, from, buckets));
        }
    }

    /// A repair is through, or was given up: the next round finds what is left.
    pub(super) fn repaired(&mut self) {
        self.anti_entropy.running = self.anti_entropy.running.saturating_sub(1);
        self.repair_on();
    }

    /// Nobody answered in time.
    pub(super) fn end_exchange(&mut self, token: Token) {
        self.tasks.take(token);
    }
}

/// The partitions that both nodes own, in order.
fn shared(ring: &Ring, a: NodeName, b: NodeName) -> Vec<u32> {
    let (Some(a), Some(b)) = (ring.index_of(a), ring.index_of(b)) else { return Vec::new() };
    let both = |p: &u32| {
        let row = ring.owners.owners(*p);
        row.contains(&a) && row.contains(&b)
    };
    (0..ring.partitions).filter(both).collect()
}

fn all_buckets() -> Vec<u32> {
    (0..BUCKETS as u32).collect()
}

/// The sums of these numbers, six bytes each; 0 where there is none. `sums` is sorted.
fn bytes_of(numbers: &[u32], sums: &[(u32, u64)]) -> Box<[u8]> {
    let sum = |n: &u32| sums.binary_search_by_key(n, |(number, _)| *number).map_or(0, |at| sums[at].1);
    let cut = |n| sum(n).to_le_bytes().into_iter().take(SUM_BYTES);
    numbers.iter().flat_map(cut).collect()
}

/// The places at which two lists of sums differ. Of another length it is no list of the same things.
fn differing(a: &[u8], b: &[u8]) -> Vec<usize> {
    if a.len() != b.len() {
        return Vec::new();
    }
    let pairs = a.chunks_exact(SUM_BYTES).zip(b.chunks_exact(SUM_BYTES)).enumerate();
    pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect()
}
