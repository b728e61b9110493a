//! Tombstones go when nothing that they supersede can come back.
//!
//! Whoever still holds an older version would bring it back to life where its tombstone is forgotten (scylladb#3560). So
//! a partition's first owner asks before, and asks again after a while that is longer than any message lives:
//!
//! ```text
//!   look ─► Confirm to every node of the ring ─► all owners hold the same, nobody else holds anything of the partition
//!        ─► ten minutes ─► Confirm once more ─► Collect to the owners
//! ```
//!
//! All of it under one ring without a change, and with nobody away: a node that is down blocks it. What was written
//! meanwhile has another digest, and stays. An owner that misses the last word keeps its tombstone, the others get it
//! back from it by anti-entropy, and all begins anew.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Dead, Id, Message};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use ringkv_common::version::Siblings;
use smallvec::SmallVec;

use super::Node;
use super::effect::{Effect, Token};
use super::keys::Turn;
use super::task::Task;

/// How often a node looks for tombstones, in milliseconds.
const LOOK_MS: u64 = 60_000;
/// How long answers are awaited, in milliseconds.
const PATIENCE_MS: u64 = 10_000;
/// Partitions looked at in one round, and tombstones taken of each. A look goes through all records of a partition.
const PARTITIONS_MAX: usize = 8;
const DEAD_MAX: usize = 256;

/// The tombstones of a partition on their way out.
#[derive(Debug)]
struct Candidate {
    /// They were confirmed once, and are asked about again then.
    confirmed_until_us: Option<u64>,
    dead: Vec<Dead>,
    /// Who was asked under which number, and has not answered; empty: nobody was.
    asked: Vec<NodeName>,
    id: Id,
    until_us: u64,
}

/// The tombstones that a node sees to.
#[derive(Debug, Default)]
pub struct Collection {
    look_us: Option<u64>,
    /// Where the next look begins.
    from: u32,
    candidates: BTreeMap<u32, Candidate>,
    /// How many were collected here.
    pub(super) collected: u64,
    /// The partitions that they were of: what a node has that left the ring before may be older.
    partitions: BTreeSet<u32>,
}

/// Why a node has its store look for tombstones.
#[derive(Debug)]
pub enum Looking {
    /// They are its to collect.
    Own,
    /// Another node asks which of them are held here.
    Confirms { from: NodeName, id: Id, epoch: u64, partition: u32, dead: Vec<Dead> },
    /// They are to go.
    Collects { epoch: u64, dead: Vec<Dead> },
}

/// A tombstone that goes when its key has its turn.
#[derive(Debug)]
pub struct Collect {
    pub key: Key,
    digest: u64,
}

impl Collection {
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.look_us
    }

    /// Whether tombstones of a partition were collected here.
    pub(super) fn collected_of(&self, partition: u32) -> bool {
        self.partitions.contains(&partition)
    }
}

impl Node {
    /// Under a new ring all begins anew.
    pub(super) fn collect_in_ring(&mut self, ring: &Ring) {
        self.collection.candidates.clear();
        let quiet = self.me.is_some() && ring.change.is_none();
        self.collection.look_us = quiet.then(|| self.now.after_ms(self.collect_every_ms()));
    }

    fn collect_every_ms(&self) -> u64 {
        LOOK_MS.min(self.id.tombstone_ms / 4).max(1)
    }

    pub(super) fn tick_collect(&mut self) {
        if self.collection.look_us.is_none_or(|at| at > self.now.mono_us) {
            return;
        }
        self.collection.look_us = Some(self.now.after_ms(self.collect_every_ms()));
        let now_us = self.now.mono_us;
        // Who does not answer blocks it.
        self.collection.candidates.retain(|_, c| c.asked.is_empty() || c.until_us > now_us);
        let Some(ring) = self.ring.clone() else { return };
        if self.membership.closes() || self.everybody_else(&ring).any(|name| self.is_away(name)) {
            return;
        }
        let from = self.collection.from;
        let leads = |p: &u32| self.me.is_some_and(|me| ring.owners.owners(*p).first() == Some(&me));
        let all = (from..ring.partitions).chain(0..from).filter(leads);
        let partitions: Vec<u32> = all.filter(|p| self.is_whole(*p)).collect();
        let token = self.tasks.add(Task::Looking(Box::new(Looking::Own)));
        // Those that are asked about already must be among them, whatever was deleted since.
        let (partitions_max, dead_max) =
            (PARTITIONS_MAX, if self.collection.candidates.is_empty() { DEAD_MAX } else { usize::MAX });
        self.out.push(Effect::Dead { token, partitions, partitions_max, dead_max });
    }

    fn everybody_else(&self, ring: &Ring) -> impl Iterator<Item = NodeName> {
        let me = self.id.name;
        let names: Vec<NodeName> = ring.nodes.iter().map(|node| node.name).collect();
        names.into_iter().filter(move |name| *name != me)
    }

    /// The tombstones that the store holds, with their partitions, in the order asked for.
    pub(super) fn on_dead(&mut self, token: Token, found: Vec<(u32, Vec<(Key, u64)>)>) {
        let Some(Task::Looking(looking)) = self.tasks.take(token) else { return };
        match *looking {
            Looking::Own => self.ask_about(found),
            Looking::Confirms { from, id, epoch, partition, dead } => {
                if self.same_epoch(from, id, epoch) {
                    let held: Vec<Dead> = found.iter().flat_map(|(_, keys)| self.settled(keys)).collect();
                    let dead = dead.into_iter().filter(|one| held.contains(one)).collect();
                    let clean = !self.holds_what_others_own(partition) && !self.tells_of(partition);
                    self.send(from, Message::Confirmed { id, dead, clean });
                }
            }
            Looking::Collects { epoch, dead } if epoch == self.epoch() => {
                for (key, digest) in found.into_iter().flat_map(|(_, keys)| keys) {
                    if dead.contains(&(key.hash(), digest)) {
                        self.collect(key, digest);
                    }
                }
            }
            Looking::Collects { .. } => {}
        }
    }

    /// Those of them that nothing is under way for: what is still told may be older.
    fn settled(&self, keys: &[(Key, u64)]) -> Vec<Dead> {
        let under_way: HashSet<u64> = self.tasks.written().map(Key::hash).collect();
        let settled = keys.iter().filter(|(key, _)| !under_way.contains(&key.hash()));
        settled.map(|(key, digest)| (key.hash(), *digest)).collect()
    }

    /// Whether this node still tells others of a key of a partition, though it may own nothing of it.
    fn tells_of(&self, partition: u32) -> bool {
        let owns = self.ring.as_ref().is_some_and(|r| self.me.is_some_and(|me| r.holds(me, partition)));
        let of = |key: &Key| self.ring.as_ref().is_some_and(|r| key.partition(r.partitions) == partition);
        !owns && self.tasks.written().any(of)
    }

    fn holds_what_others_own(&self, partition: u32) -> bool {
        let owns = self.ring.as_ref().is_some_and(|r| self.me.is_some_and(|me| r.holds(me, partition)));
        !owns && self.membership.has_data(partition)
    }

    /// Asks everybody about the tombstones of these partitions, for the first time or, where the time is up, once more.
    fn ask_about(&mut self, found: Vec<(u32, Vec<(Key, u64)>)>) {
        let Some(ring) = self.ring.clone().filter(|ring| ring.change.is_none()) else { return };
        if let Some((last, _)) = found.last() {
            self.collection.from = (last + 1) % ring.partitions.max(1);
        }
        let now_us = self.now.mono_us;
        for (partition, keys) in found {
            let mut dead = self.settled(&keys);
            let before = self.collection.candidates.get(&partition);
            let confirmed_until_us = match before {
                Some(candidate) if !candidate.asked.is_empty() => continue,
                Some(Candidate { confirmed_until_us: Some(until), .. }) if *until > now_us => continue,
                Some(candidate) => {
                    dead.retain(|one| candidate.dead.contains(one));
                    candidate.confirmed_until_us
                }
                None => {
                    dead.truncate(DEAD_MAX);
                    None
                }
            };
            if dead.is_empty() {
                self.collection.candidates.remove(&partition);
                continue;
            }
            let id = self.tasks.number();
            let asked: Vec<NodeName> = self.everybody_else(&ring).collect();
            for name in &asked {
                let owner = ring.index_of(*name).is_some_and(|index| ring.holds(index, partition));
                let dead = if owner { dead.clone() } else { Vec::new() };
                self.send(*name, Message::Confirm { id, epoch: ring.epoch, partition, dead });
            }
            let alone = asked.is_empty();
            let until_us = self.now.after_ms(PATIENCE_MS);
            let candidate = Candidate { confirmed_until_us, dead, asked, id, until_us };
            self.collection.candidates.insert(partition, candidate);
            if alone {
                self.confirmed_by_all(partition);
            }
        }
    }

    pub(super) fn on_confirm(&mut self, from: NodeName, id: Id, epoch: u64, partition: u32, dead: Vec<Dead>) {
        let known = self.ring.as_ref().is_some_and(|ring| partition < ring.partitions);
        if !known || !self.same_epoch(from, id, epoch) || self.overloaded(from, id) {
            return;
        }
        let looking = Looking::Confirms { from, id, epoch, partition, dead };
        let token = self.tasks.add(Task::Looking(Box::new(looking)));
        self.look_in(token, partition);
    }

    fn look_in(&mut self, token: Token, partition: u32) {
        let effect =
            Effect::Dead { token, partitions: vec![partition], partitions_max: 1, dead_max: usize::MAX };
        self.out.push(effect);
    }

    pub(super) fn on_confirmed(&mut self, from: NodeName, id: Id, dead: Vec<Dead>, clean: bool) {
        let Some(ring) = self.ring.clone() else { return };
        let of = self.collection.candidates.iter_mut().find(|(_, candidate)| candidate.id == id);
        let Some((partition, candidate)) = of else { return };
        let partition = *partition;
        if !candidate.asked.contains(&from) {
            return;
        }
        candidate.asked.retain(|name| *name != from);
        if ring.index_of(from).is_some_and(|index| ring.holds(index, partition)) {
            candidate.dead.retain(|one| dead.contains(one));
        }
        if !clean || candidate.dead.is_empty() {
            self.collection.candidates.remove(&partition);
        } else if candidate.asked.is_empty() {
            self.confirmed_by_all(partition);
        }
    }

    /// Every owner holds them and nobody keeps a hint: they go now, or after a while.
    fn confirmed_by_all(&mut self, partition: u32) {
        let Some(ring) = self.ring.clone() else { return };
        let now_us = self.now.mono_us;
        let until_us = self.now.after_ms(self.id.tombstone_ms);
        let Some(candidate) = self.collection.candidates.get_mut(&partition) else { return };
        if candidate.confirmed_until_us.is_none_or(|until| until > now_us) {
            candidate.confirmed_until_us = Some(until_us);
            return;
        }
        let Some(Candidate { dead, .. }) = self.collection.candidates.remove(&partition) else { return };
        let row = ring.owners.owners(partition);
        for name in ring.names(row).filter(|name| *name != self.id.name).collect::<Vec<_>>() {
            self.send(name, Message::Collect { epoch: ring.epoch, partition, dead: dead.clone() });
        }
        self.on_collect(ring.epoch, partition, dead);
    }

    pub(super) fn on_collect(&mut self, epoch: u64, partition: u32, dead: Vec<Dead>) {
        let quiet = self.ring.as_ref().is_some_and(|r| r.change.is_none() && partition < r.partitions);
        if quiet && epoch == self.epoch() && !self.tasks.full() {
            let token = self.tasks.add(Task::Looking(Box::new(Looking::Collects { epoch, dead })));
            self.look_in(token, partition);
        }
    }

    fn collect(&mut self, key: Key, digest: u64) {
        if self.tasks.full() {
            return;
        }
        let token = self.tasks.add(Task::Collect(Box::new(Collect { key: key.clone(), digest })));
        match self.keys.enter(&key, token) {
            Turn::Read => self.out.push(Effect::Read { token, key }),
            Turn::Now => self.proceed(token, &key),
            Turn::Later => {}
            Turn::Full => drop(self.tasks.take(token)),
        }
    }

    pub(super) fn proceed_collect(&mut self, token: Token, key: &Key) {
        let Some(Task::Collect(collect)) = self.tasks.get(token) else { return };
        let digest = collect.digest;
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let state = busy.state.as_mut().expect("the caller has seen to it");
        // What is written meanwhile brings more than the tombstone.
        if !busy.writes.is_empty() || state.digest() != digest || !state.is_dead() {
            return drop(self.tasks.take(token));
        }
        *state = Siblings::default();
        busy.writes.push((token, SmallVec::new()));
        self.collection.collected += 1;
        let partition = self.ring.as_ref().map(|ring| key.partition(ring.partitions));
        self.collection.partitions.extend(partition);
        self.out.push(Effect::Persist { token, key: key.clone(), siblings: Siblings::default() });
    }
}
