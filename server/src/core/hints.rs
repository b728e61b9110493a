//! Hints: records that a node keeps for an owner that was away (*Dynamo* §4.6).
//!
//! A hint is a record of a partition that its holder does not own, kept like any other: as durable, shown by SHOW_ALL,
//! and joined by reads. Handing it over is what a former owner does with its data, see `surrender`. So a hint needs no
//! machinery of its own, and it finds the present owners whatever became of the one it was meant for.

use std::collections::BTreeMap;

use ringkv_common::key::Key;

use super::Node;

/// Bytes of hints that a node keeps: beyond it writes are refused to whoever asks it to stand in.
const HINT_BYTES_MAX: u64 = 256 << 20;

/// The bytes of the hints held, by partition. What shrank counts until the partition is handed over.
#[derive(Debug, Default)]
pub struct Hints {
    held: BTreeMap<u32, u64>,
}

impl Hints {
    /// Of all partitions.
    pub fn bytes(&self) -> u64 {
        self.held.values().sum()
    }

    /// Of one.
    pub fn of(&self, partition: u32) -> u64 {
        self.held.get(&partition).copied().unwrap_or_default()
    }

    /// One more.
    pub fn add(&mut self, partition: u32, bytes: u64) {
        *self.held.entry(partition).or_default() += bytes;
    }

    /// Those of a partition are no hints any more, or gone.
    pub fn forget(&mut self, partition: u32) {
        self.held.remove(&partition);
    }

    /// Only those of such partitions are hints.
    pub fn retain(&mut self, hint: impl Fn(u32) -> bool) {
        self.held.retain(|partition, _| hint(*partition));
    }

    /// Whether little room is left: then hints go that enough owners have.
    pub fn press(&self) -> bool {
        self.bytes() > HINT_BYTES_MAX / 2
    }
}

impl Node {
    /// Whether a key's partition is not this node's: what it keeps of it is a hint.
    pub(super) fn is_hint(&self, key: &Key) -> bool {
        let owns = |ring: &ringkv_common::ring::Ring| {
            self.me.is_some_and(|me| ring.holds(me, key.partition(ring.partitions)))
        };
        self.ring.as_deref().is_some_and(|ring| !owns(ring))
    }

    /// Whether what this node keeps of a partition are hints: not where it is a former owner's, about to be handed over.
    pub(super) fn keeps_hints_of(&self, partition: u32) -> bool {
        let owns = |ring: &ringkv_common::ring::Ring| self.me.is_some_and(|me| ring.holds(me, partition));
        self.hints.of(partition) > 0 && self.ring.as_deref().is_some_and(|ring| !owns(ring))
    }

    /// Why a hint of a key is not taken, if it is one and has no room.
    pub(super) fn no_room_for_hint(&self, key: &Key, bytes: usize) -> Option<String> {
        if !self.is_hint(key) {
            return None;
        }
        let name = self.id.name;
        if self.me.is_none() || self.membership.closes() {
            return Some(format!("{name} is leaving and stands in for nobody"));
        }
        let held = self.hints.bytes();
        if held + bytes as u64 > HINT_BYTES_MAX {
            return Some(format!("{name} keeps hints of {held} bytes, {HINT_BYTES_MAX} are allowed"));
        }
        None
    }

    /// A hint is kept, or has grown by so much.
    pub(super) fn keeps_hint(&mut self, key: &Key, bytes: u64) {
        if self.is_hint(key)
            && let Some(partition) = self.ring.as_ref().map(|ring| key.partition(ring.partitions))
        {
            self.hints.add(partition, bytes);
        }
    }
}
