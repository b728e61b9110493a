//! What must hold in every state, and what must happen in some, lest the rest hold of nothing.

use ringkv_common::ring::Phase;
use stateright::Property;

use crate::state::{NONE, Stage, State};
use crate::step::World;

/// All of them.
pub fn all() -> Vec<Property<World>> {
    vec![
        Property::always("one ring an epoch", one_ring_an_epoch),
        Property::always("an acknowledged write stays readable", stays_readable),
        Property::always("no read goes back behind an acknowledged write", no_read_goes_back),
        Property::always("nothing is deleted that owners lack", |_, s: &State| !s.early_delete),
        Property::sometimes("every change is done", |w: &World, s: &State| {
            s.current == w.completed() && w.acknowledged(s).count_ones() as usize == w.config.writes
        }),
        Property::sometimes("a change is taken back in both", |w: &World, s: &State| {
            let views = w.rings.views.iter().enumerate();
            views.filter(|(_, v)| v.phase == Some(Phase::Both)).any(|(_, v)| v.back == Some(s.current))
        }),
        Property::sometimes("a former owner dropped what an owner has", |w: &World, s: &State| {
            let dropped = |n: u8| s.nodes[usize::from(n)].held == 0;
            s.current == w.completed() && s.nodes[w.view(s.current).first].held != 0 && w.nodes().any(dropped)
        }),
        Property::sometimes("a write crosses two epochs", |_, s: &State| {
            s.writes.iter().any(|w| w.stage == Stage::Running && w.told.count_ones() > 1)
        }),
    ]
}

impl World {
    /// The ring after all changes, none taken back.
    fn completed(&self) -> u8 {
        let mut at = 0;
        while let Some(next) = self.view(at).next.or(self.view(at).begun) {
            at = next;
        }
        at
    }
}

fn one_ring_an_epoch(world: &World, s: &State) -> bool {
    let written: Vec<u64> = (0..)
        .zip(&world.rings.views)
        .filter(|(r, _)| s.written & (1 << r) != 0)
        .map(|(_, v)| v.epoch)
        .collect();
    written.iter().enumerate().all(|(at, epoch)| !written[..at].contains(epoch))
}

/// Any R of those that reads ask, by the ring in Consul, hold every acknowledged write, or a later one.
fn stays_readable(world: &World, s: &State) -> bool {
    let readers = world.view(s.current).readers;
    nobody_misses(world, s, readers, |n| readers & (1 << n) != 0)
}

/// Wherever a node serves by a ring, new or old: any R replicas that would answer it hold every acknowledged write. And
/// no read that gathered its answers one by one ended without what it owed.
fn no_read_goes_back(world: &World, s: &State) -> bool {
    let serving = |n: &u8| world.serves(s, *n);
    let answers = |epoch: u64, readers: u8, n: u8| readers & (1 << n) != 0 && world.serves_epoch(s, n, epoch);
    let sound = |n: u8| {
        let view = world.view(s.nodes[usize::from(n)].ring);
        nobody_misses(world, s, view.readers, |m| answers(view.epoch, view.readers, m))
    };
    !s.stale_read && world.nodes().filter(serving).all(sound)
}

/// Whether of some readers fewer than R lack each acknowledged write.
fn nobody_misses(world: &World, s: &State, readers: u8, among: impl Fn(u8) -> bool) -> bool {
    let owed = world.acknowledged(s);
    let r = world.config.quorum.1.min(readers.count_ones() as usize);
    (0..world.config.writes as u8).filter(|k| owed & (1 << k) != 0).all(|k| {
        let lacks = |n: &u8| world.values.covered(s.nodes[usize::from(*n)].held) & (1 << k) == 0;
        world.nodes().filter(|n| among(*n)).filter(lacks).count() < r
    })
}

/// Whether everything came to rest: each signal was answered, no change runs, all nodes are up, at the last ring, and
/// hold nothing that they do not own.
pub fn is_end(world: &World, s: &State) -> bool {
    let view = world.view(s.current);
    let at_rest = |n: u8| {
        let node = &s.nodes[usize::from(n)];
        node.up && node.ring == s.current && (node.held == 0 || view.holds & (1 << n) != 0)
    };
    let answered = usize::from(s.signals) == world.config.signals.len();
    answered && view.phase.is_none() && s.read.coordinator == NONE && world.nodes().all(at_rest)
}
