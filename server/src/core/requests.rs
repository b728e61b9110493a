//! Request ids that were answered: a write that is repeated is answered again and not done again.
//!
//! The id's hash also stands in the version it wrote, so that a new owner knows it; this window is for those whose
//! version was superseded since, and moves with its partition. Ten minutes, and bounded.
//!
//! Whoever knows an id has seen the version that it wrote: an owner hands on only ids that were durable before a pull
//! began, and the receiver takes them up when the pull is through. The other way round an owner may have missed an id,
//! where it missed the write and was told a later one: then it asks others before it does a write that has an id.

use std::collections::{BTreeMap, VecDeque};

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::{Key, first_hash, last_hash};
use ringkv_common::message::peer::Stretch;
use ringkv_common::time::Now;
use ringkv_common::version::Siblings;

/// How long an id is remembered, in milliseconds.
const REMEMBERED_MS: u64 = 600_000;
/// Ids at most; beyond it the oldest go.
const IDS_MAX: usize = 1 << 20;

/// Stands among a key's ids for those that were missed. It is no id of any request.
const MISSED: u64 = 0;

/// A write as it is remembered: its key's hash, and its request's.
pub type Done = (u64, u64);

/// How far a write is that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// This node coordinates it, and it is not acknowledged yet.
    UnderWay,
    /// Its version is in the key's state.
    Held,
    /// And durable, or it was acknowledged.
    Durable,
}

/// The ids of writes that were done.
#[derive(Debug, Default)]
pub struct Requests {
    order: VecDeque<(u64, Done)>,
    /// And until when, in monotonic microseconds. In the order of key hashes, so that a partition is a stretch of it.
    known: BTreeMap<Done, (Known, u64)>,
}

impl Requests {
    /// Remembers one that this node does.
    pub fn begun(&mut self, now: Now, key: &Key, request: u64) {
        if request != 0 {
            self.remember(now, (key.hash(), request), Known::UnderWay);
        }
    }

    /// Remembers one that another node does, and whose version is in the key's state.
    pub fn told(&mut self, now: Now, key: &Key, request: u64) {
        if request != 0 {
            self.remember(now, (key.hash(), request), Known::Held);
        }
    }

    /// Remembers those of the versions that a state shows which is joined: they may be superseded from now on, and what is
    /// told of that later may not name them. One that is hidden may never have been acknowledged.
    pub fn saw(&mut self, now: Now, key: &Key, siblings: &Siblings) {
        for version in siblings.visible() {
            self.told(now, key, version.request);
        }
    }

    /// The version of one is durable, or the write that this node did is acknowledged.
    pub fn durable(&mut self, key: &Key, request: u64) {
        if let Some((known, _)) = self.known.get_mut(&(key.hash(), request)) {
            *known = Known::Durable;
        }
    }

    /// Forgets one that this node was doing, and no other node is known to have done. Whether it was so.
    pub fn gives_up(&mut self, key: &Key, request: u64) -> bool {
        let done = (key.hash(), request);
        let under_way = self.known.get(&done).is_some_and(|(known, _)| *known == Known::UnderWay);
        under_way && self.known.remove(&done).is_some()
    }

    /// Writes to a key were missed, and their ids with them: what came later was told, and may have superseded them.
    pub fn missed(&mut self, now: Now, key: &Key) {
        self.remember(now, (key.hash(), MISSED), Known::Durable);
    }

    /// Whether a write to a key may have been done though its id is not known.
    pub fn misses(&self, key: &Key) -> bool {
        self.known.contains_key(&(key.hash(), MISSED))
    }

    /// Remembers what a former owner remembers.
    pub fn learn(&mut self, now: Now, done: Vec<Done>) {
        done.into_iter().for_each(|done| self.remember(now, done, Known::Durable));
    }

    fn remember(&mut self, now: Now, done: Done, known: Known) {
        if bug::on(Bug::ForgetsRequests) {
            return;
        }
        let until_us = now.after_ms(REMEMBERED_MS);
        if let Some((held, until)) = self.known.get_mut(&done) {
            if *held == Known::UnderWay && known != Known::UnderWay {
                // Another one does it too, and has done so.
                *held = known;
            }
            // More may be missed later; but not each time anew.
            if done.1 != MISSED || *until > now.after_ms(REMEMBERED_MS / 2) {
                return;
            }
            *until = until_us;
        } else {
            self.known.insert(done, (known, until_us));
        }
        self.order.push_back((until_us, done));
        while self.order.len() > IDS_MAX || self.order.front().is_some_and(|(until, _)| *until < now.mono_us)
        {
            let Some((until_us, old)) = self.order.pop_front() else { break };
            // What was forgotten and learned again, or renewed, has another place in the order.
            if self.known.get(&old).is_some_and(|(_, until)| *until <= until_us) {
                self.known.remove(&old);
            }
        }
    }

    /// Whether it was done, or is under way here.
    pub fn knows(&self, key: &Key, request: u64) -> bool {
        request != 0 && self.known.contains_key(&(key.hash(), request))
    }

    /// Whether it was done, as far as this node is concerned: what hides it came later.
    pub fn vouches(&self, key: &Key, request: u64) -> bool {
        let known = self.known.get(&(key.hash(), request));
        request != 0 && known.is_some_and(|(known, _)| *known != Known::UnderWay)
    }

    /// All durable ones of a stretch's keys.
    pub fn of_stretch(&self, stretch: &Stretch, partitions: u32) -> Vec<Done> {
        let (first, last) = stretch.hashes(partitions);
        if first > last {
            return Vec::new();
        }
        let known = self.known.range((first, 0)..=(last, u64::MAX));
        let told = |known: Known| known == Known::Durable || bug::on(Bug::TellsUndurableRequests);
        known.filter(|(_, (known, _))| told(*known)).map(|(done, _)| *done).collect()
    }

    /// A partition is dropped: its owner knows them.
    pub fn forget(&mut self, partition: u32, partitions: u32) {
        let all = (first_hash(partition, partitions), 0)..=(last_hash(partition, partitions), u64::MAX);
        let gone: Vec<Done> = self.known.range(all).map(|(done, _)| *done).collect();
        for done in gone {
            self.known.remove(&done);
        }
    }
}
