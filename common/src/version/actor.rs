//! Actors, dots and clocks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thiserror::Error;

use crate::name::NodeName;

/// Who writes: a node's life. Random, so that one whose data may be lost is never used again (riak_kv#679).
///
/// Packed to 8, since the natural alignment of 16 made every dot half as large again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(Rust, packed(8))]
pub struct Actor {
    /// 128 random bits; they alone make it unique.
    pub id: u128,
    /// The node it ran on, for the reader's sake.
    pub node: NodeName,
}

/// Why some text is no actor.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("\"{0}\" is no actor of ours: they read node-<n>.<32 hex digits>")]
pub struct ActorError(pub String);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Actor { id, node } = *self;
        write!(f, "{node}.{id:032x}")
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Actor {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Actor, ActorError> {
        let parse = || {
            let (node, id) = text.split_once('.')?;
            let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if id.len() != 32 || !id.bytes().all(lower_hex) {
                return None;
            }
            Some(Actor { node: node.parse().ok()?, id: u128::from_str_radix(id, 16).ok()? })
        };
        parse().ok_or_else(|| ActorError(text.chars().take(64).collect()))
    }
}

/// One write's name: the n-th of its actor. Counters start at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// The actor's count of writes, over all keys.
    pub counter: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

/// For each actor the highest counter seen *for this key*: a version vector. Sorted by actor, no zero counters.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Dot>")]
pub struct Clock {
    entries: SmallVec<[Dot; 1]>,
}

impl Clock {
    /// The entries, sorted by actor.
    pub fn entries(&self) -> &[Dot] {
        &self.entries
    }

    /// A clock of entries that one had, in their order.
    pub fn of_entries(entries: impl Iterator<Item = Dot>) -> Clock {
        let clock = Clock { entries: entries.collect() };
        debug_assert!(clock.entries.is_sorted_by(|a, b| a.actor < b.actor));
        clock
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it has seen this dot.
    pub fn covers(&self, dot: Dot) -> bool {
        self.entries.iter().any(|e| e.actor == dot.actor && e.counter >= dot.counter)
    }

    /// Takes a dot, and with it all that its actor wrote to the key before.
    pub fn see(&mut self, dot: Dot) {
        if dot.counter == 0 {
            return;
        }
        match self.entries.binary_search_by_key(&dot.actor, |e| e.actor) {
            Ok(at) => self.entries[at].counter = self.entries[at].counter.max(dot.counter),
            Err(at) => self.entries.insert(at, dot),
        }
    }

    /// Sees all that another clock has seen.
    pub fn join(&mut self, other: &Clock) {
        for dot in &other.entries {
            self.see(*dot);
        }
    }

    /// The counter of an actor; 0 where it was not seen.
    pub fn counter(&self, actor: Actor) -> u64 {
        self.entries.iter().find(|e| e.actor == actor).map_or(0, |e| e.counter)
    }
}

/// What comes from elsewhere may be unsorted or repeat itself.
impl From<Vec<Dot>> for Clock {
    fn from(dots: Vec<Dot>) -> Clock {
        dots.into_iter().collect()
    }
}

impl FromIterator<Dot> for Clock {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Clock {
        let mut clock = Clock::default();
        dots.into_iter().for_each(|dot| clock.see(dot));
        clock
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.entries).finish()
    }
}
