//! Who writes at a node: the actor of its life, and how many dots that has given.

use ringkv_common::bug::{self, Bug};
use ringkv_common::version::{Actor, Clock, Dot};

/// Gives dots that never repeat.
#[derive(Debug)]
pub struct Author {
    /// At first with the life's random bits.
    pub actor: Actor,
    /// The counter of the last dot.
    pub dots: u64,
}

impl Author {
    /// A new dot.
    pub fn dot(&mut self) -> Dot {
        self.dots += 1;
        Dot { actor: self.actor, counter: self.dots }
    }

    /// Becomes another actor where a clock claims to have seen more of this one than it wrote, be it by a client's
    /// invention: a new dot of it would pass for an old one, and replicas would drop the write that it names.
    pub fn outgrow(&mut self, clock: &Clock) {
        let mut others = 0u64;
        while clock.counter(self.actor) > self.dots && !bug::on(Bug::BelievesContexts) {
            others += 1;
            let half = |n: u64| {
                let mut bytes = self.actor.id.to_le_bytes().to_vec();
                bytes.extend_from_slice(&[others, n].map(u64::to_le_bytes).concat());
                u128::from(ringkv_common::key::hash(&bytes))
            };
            self.actor.id = half(0) << 64 | half(1);
        }
    }
}
