//! What the sums that anti-entropy compares cost a write in the store: two stores of the same records, one of which keeps
//! sums, take writes in turns.

use std::time::Duration;

use anyhow::Result;
use ringkv_common::key::Key;
use ringkv_common::version::Siblings;
use ringkv_server::store::{Memory, Storage};
use rustix::time::{ClockId, clock_gettime};

use crate::cores::written;

/// Partitions of the stores.
pub const PARTITIONS: u32 = 4096;
/// More than a processor's caches hold.
const KEYS: u64 = 1 << 17;
/// Writes that one store takes before the other has its turn.
const TURN: usize = 1024;
/// Turns of each store in a measurement.
const TURNS: usize = 64;

/// Keys of 16 bytes in no order of the store's, each with two states that take turns: every write changes the sums.
pub struct Overwrites {
    states: Vec<(Key, [Siblings; 2])>,
}

impl Overwrites {
    /// So many keys.
    pub fn new() -> Result<Overwrites> {
        let state = |n| Ok((Key::new(&format!("user:{n:011}"))?, [2 * n + 1, 2 * n + 2].map(written)));
        Ok(Overwrites { states: (0..KEYS).map(state).collect::<Result<_>>()? })
    }

    /// The keys, as they are before the first overwrite.
    pub fn held(&self) -> impl Iterator<Item = (&Key, &Siblings)> {
        self.states.iter().map(|(key, [_, last])| (key, last))
    }

    /// A store that holds them.
    pub fn fill(&self, mut store: Memory) -> Memory {
        self.held().for_each(|(key, siblings)| store.write(key, siblings));
        store
    }

    /// The overwrite behind so many others: its key, its state, and what is held before.
    pub fn next(&self, at: &mut usize) -> (&Key, &Siblings, &Siblings) {
        let (key, both) = &self.states[*at % self.states.len()];
        let turn = *at / self.states.len() % 2;
        *at += 1;
        (key, &both[turn], &both[1 - turn])
    }
}

/// Two stores, each with the number of writes that it took.
pub struct Upkeep {
    overwrites: Overwrites,
    with_sums: (Memory, usize),
    without: (Memory, usize),
}

impl Upkeep {
    /// Fills both.
    pub fn new() -> Result<Upkeep> {
        let overwrites = Overwrites::new()?;
        let with_sums = (overwrites.fill(Memory::new(PARTITIONS)), 0);
        // They are half of all keys apart, so that neither finds in the caches what the other has fetched.
        let without = (overwrites.fill(Memory::new(PARTITIONS).without_sums()), KEYS as usize / 2);
        Ok(Upkeep { overwrites, with_sums, without })
    }

    /// By how many microseconds of CPU time a write takes longer with sums.
    pub fn measure(&mut self) -> f64 {
        let (mut with_sums, mut without) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..TURNS {
            with_sums += turn(&self.overwrites, &mut self.with_sums);
            without += turn(&self.overwrites, &mut self.without);
        }
        (with_sums.as_secs_f64() - without.as_secs_f64()) * 1e6 / (TURNS * TURN) as f64
    }
}

/// Overwrites as a node does, which reads before it writes.
fn turn(overwrites: &Overwrites, (store, at): &mut (Memory, usize)) -> Duration {
    let began = cpu_now();
    for _ in 0..TURN {
        let (key, new, _) = overwrites.next(at);
        std::hint::black_box(store.read(key));
        store.write(key, new);
    }
    cpu_now().saturating_sub(began)
}

/// The CPU time of this thread.
fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stores_hold_the_same_after_as_many_overwrites_and_only_one_of_them_has_sums() {
        let overwrites = Overwrites::new().expect("short keys");
        let mut stores = [Memory::new(PARTITIONS), Memory::new(PARTITIONS).without_sums()]
            .map(|store| (overwrites.fill(store), 0));
        let roots = stores[0].0.roots();
        for store in &mut stores {
            turn(&overwrites, store);
        }
        let key = overwrites.held().next().expect("a key").0;
        assert_eq!(stores[0].0.read(key), stores[1].0.read(key));
        assert_eq!(stores[0].0.read(key), written(1));
        assert_ne!(stores[0].0.roots(), roots, "every overwrite changes a sum");
        assert!(stores[1].0.roots().iter().all(|(_, root)| *root == 0));
    }
}
