//! Versions: what a key's value was, who wrote it, and what it superseded.
//!
//! A *dot* (actor, counter) names one write. A key's state is a set of *siblings*, each with its dot, and a *clock*
//! that says which dots the state has seen. A version that is seen but absent was superseded; one that is absent
//! and unseen is news. That is all that a merge needs, and it makes the merge a join: commutative, associative,
//! idempotent (Almeida et al., *Scalable and Accurate Causality Tracking for Eventually Consistent Stores*, 2014).
//!
//! ```text
//!   replica A  clock {x:2}      {x2 "b"}          x2 superseded x1, so A drops x1;
//!   replica B  clock {x:1,y:1}  {x1 "a", y1 "c"}  y1 is news to A, so it stays beside x2
//!   join       clock {x:2,y:1}  {x2 "b", y1 "c"}
//! ```
//!
//! Replicas exchange the whole state of a key, never a lone version; this is what lets one counter per actor stand
//! for everything below it, though counters run over the node and not over the key.
//!
//! Versions written without a context obey one more rule: of several that are concurrent only the one with the
//! highest stamp is shown (the actor breaks ties). It is a rule of the view, [`Siblings::visible`], and not of the
//! join, so that the join keeps its laws.

mod actor;
mod bytes;
mod context;
mod room;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use twox_hash::XxHash3_128;

use crate::bug::{self, Bug};
use crate::time::Stamp;
pub use actor::{Actor, ActorError, Clock, Dot};
pub use context::{CONTEXT_ENTRIES_MAX, Context, ContextError, Foreign};
pub use room::{NoRoom, SIBLINGS_MAX};

/// What a version holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// The JSON text that was sent, byte for byte.
    Json(#[serde(with = "bytes")] Arc<[u8]>),
    /// Raw bytes, sent as a second frame.
    Binary(#[serde(with = "bytes")] Arc<[u8]>),
    /// Deleted here.
    Tombstone,
}

impl Content {
    /// The bytes held; none for a tombstone.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Json(bytes) | Content::Binary(bytes) => bytes,
            Content::Tombstone => &[],
        }
    }

    /// Whether a delete wrote it.
    pub fn is_tombstone(&self) -> bool {
        matches!(self, Content::Tombstone)
    }
}

/// One write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// Its name, unique in the cluster for ever.
    pub dot: Dot,
    /// Orders versions written without a context.
    pub stamp: Stamp,
    /// Hash of the request id that wrote it, 0 where there was none: two siblings with the same one are one.
    pub request: u64,
    /// Written with a context: then it is superseded only by a context that covers it.
    pub contextual: bool,
    /// The value, or a tombstone.
    pub content: Content,
}

/// All that a replica holds of one key. The default is "never heard of it".
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Siblings {
    /// Every dot that this state has seen: present below, or superseded.
    pub clock: Clock,
    /// The versions that nothing seen supersedes, sorted by dot.
    pub versions: SmallVec<[Version; 1]>,
    /// Entries of contexts that no actor of ours made: kept, and covering nothing.
    pub foreign: Foreign,
}

impl Siblings {
    /// Nothing is known of the key.
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty() && self.versions.is_empty()
    }

    /// The highest stamp held, which the next write must pass.
    pub fn stamp_max(&self) -> Stamp {
        self.versions.iter().map(|v| v.stamp).max().unwrap_or_default()
    }

    /// Applies a write whose dot is new. Without a context it supersedes all that is held; with one, what that covers.
    pub fn write(&mut self, context: Option<&Context>, version: Version) {
        match context {
            None => self.versions.clear(),
            Some(context) => {
                let covered = |held: &Version| context.clock.covers(held.dot);
                // Two versions of one request are one write: whoever saw one saw it.
                let requests: SmallVec<[u64; 2]> =
                    self.versions.iter().filter(|held| covered(held)).map(|held| held.request).collect();
                let seen = |held: &Version| held.request != 0 && requests.contains(&held.request);
                self.versions.retain(|held| !covered(held) && !seen(held));
                self.clock.join(&context.clock);
                self.foreign.join(&context.foreign);
            }
        }
        self.insert(version);
    }

    /// Applies a write without a context whose dot is new once more: it supersedes what other such writes left, and stands
    /// beside what contexts wrote meanwhile.
    pub fn write_above(&mut self, version: Version) {
        self.versions.retain(|held| held.contextual);
        self.insert(version);
    }

    /// Has the version without a context that is shown supersede those that it hides.
    pub fn settle_plain(&mut self) {
        let shown = self.versions.iter().filter(|v| !v.contextual).max_by_key(|v| (v.stamp, v.dot));
        if let Some(shown) = shown.map(|v| v.dot) {
            self.versions.retain(|held| held.contextual || held.dot == shown);
        }
    }

    /// Adds a version, beside all that is there.
    pub fn insert(&mut self, version: Version) {
        self.clock.see(version.dot);
        let at = self.versions.partition_point(|held| held.dot < version.dot);
        self.versions.insert(at, version);
    }

    /// Joins another replica's state of the same key into this one. Returns whether anything changed.
    pub fn join(&mut self, other: &Siblings) -> bool {
        if self == other {
            return false;
        }
        if self.is_empty() {
            *self = other.clone();
            return true;
        }
        let before = (self.versions.len(), self.clock.clone(), self.foreign.clone());
        let news: SmallVec<[&Version; 1]> =
            other.versions.iter().filter(|v| !self.clock.covers(v.dot)).collect();
        self.versions
            .retain(|held| !other.clock.covers(held.dot) || other.versions.iter().any(|v| v.dot == held.dot));
        let gained = !news.is_empty();
        self.versions.extend(news.into_iter().cloned());
        self.versions.sort_unstable_by_key(|v| v.dot);
        if bug::on(Bug::ForgetsClock) {
            self.versions.iter().for_each(|v| self.clock.see(v.dot));
        } else {
            self.clock.join(&other.clock);
        }
        self.foreign.join(&other.foreign);
        gained || before != (self.versions.len(), self.clock.clone(), self.foreign.clone())
    }

    /// The versions a reader sees, tombstones included, newest first: all written with a context, and of those
    /// written without one the highest stamp. Two with the same request are one.
    pub fn visible(&self) -> SmallVec<[&Version; 1]> {
        if let [only] = self.versions.as_slice() {
            return SmallVec::from_iter([only]);
        }
        let mut all: SmallVec<[&Version; 1]> = self.versions.iter().collect();
        all.sort_unstable_by_key(|v| std::cmp::Reverse((v.stamp, v.dot)));
        let mut plain_seen = false;
        let mut requests: SmallVec<[u64; 4]> = SmallVec::new();
        all.retain(|v| {
            let superseded = !v.contextual && std::mem::replace(&mut plain_seen, true);
            let repeated = v.request != 0 && requests.contains(&v.request);
            requests.push(v.request);
            !superseded && !repeated
        });
        all
    }

    /// The values a reader sees, newest first: [`Siblings::visible`] without tombstones.
    pub fn values(&self) -> SmallVec<[&Version; 1]> {
        let mut seen = self.visible();
        seen.retain(|v| !v.content.is_tombstone());
        seen
    }

    /// Whether it is deleted, and nothing else: all that is held are tombstones, or nothing but what was seen.
    pub fn is_dead(&self) -> bool {
        !self.is_empty() && self.versions.iter().all(|v| v.content.is_tombstone())
    }

    /// The version that a request wrote, where it is still held.
    pub fn of_request(&self, request: u64) -> Option<&Version> {
        self.versions.iter().find(|v| request != 0 && v.request == request)
    }

    /// Whether a version of a request is held, and none of it shown.
    pub fn hides_request(&self, request: u64) -> bool {
        self.versions.len() > 1
            && self.of_request(request).is_some()
            && !self.visible().iter().any(|v| v.request == request)
    }

    /// Whether a version is held, and not shown.
    pub fn hides(&self, dot: Dot) -> bool {
        self.versions.iter().any(|v| v.dot == dot) && !self.visible().iter().any(|v| v.dot == dot)
    }

    /// A hash of the whole state: replicas whose digests are equal hold the same. See [`digest`].
    pub fn digest(&self) -> u64 {
        let versions = self.versions.iter().map(|v| v.dot);
        digest(self.clock.entries().iter().copied().chain(versions), self.versions.len())
    }

    /// What a client sends back to settle what it was shown.
    pub fn context(&self) -> Context {
        Context { clock: self.clock.clone(), foreign: self.foreign.clone() }
    }
}

/// The digest of a state with these dots, those of its clock and then those of its so many versions: XXH3-64 over them.
/// A dot names its content, so that needs no reading.
pub fn digest(dots: impl Iterator<Item = Dot>, versions: usize) -> u64 {
    // Every write digests two states: room for four writers, so that it allocates nothing.
    let mut bytes: SmallVec<[u8; 128]> = SmallVec::new();
    for dot in dots {
        let mut both = [0; 24];
        both[..16].copy_from_slice(&dot.actor.id.to_le_bytes());
        both[16..].copy_from_slice(&dot.counter.to_le_bytes());
        bytes.extend_from_slice(&both);
    }
    bytes.push(versions as u8);
    crate::key::hash(&bytes)
}

/// What a record adds to the sum of its bucket: XXH3-128 with seed 0 over the key's hash and the state's [`digest`], 8
/// bytes each, little-endian.
///
/// Sums of marks, modulo 2^128, compare whole sets: they know no order, a record is taken out by subtracting what it
/// added, and sets that differ have equal sums by one in 2^128 odds only (Clarke et al., *Incremental Multiset Hash
/// Functions*, 2003). Xor would do as much, but for two equal marks, which would be none.
pub fn mark(key_hash: u64, digest: u64) -> u128 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key_hash.to_le_bytes());
    bytes[8..].copy_from_slice(&digest.to_le_bytes());
    XxHash3_128::oneshot(&bytes)
}

#[cfg(test)]
mod tests;
