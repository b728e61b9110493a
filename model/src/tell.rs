//! Steps in words.

use crate::rings::RingId;
use crate::state::Action;
use crate::step::World;

impl World {
    /// A step as people would tell it. Orchestrators have no names: which is which does not matter.
    pub fn tell(&self, action: Action) -> String {
        match action {
            Action::Adopt(n, ring) => format!("node-{n} adopts {}", self.name(ring)),
            Action::Crash(n) => format!("node-{n} crashes"),
            Action::Restart(n) => format!("node-{n} is back"),
            Action::RestartWith(n, ring) => format!("node-{n} is back, with {}", self.name(ring)),
            Action::Begin(k, n) => format!("node-{n} takes write {k}"),
            Action::Do(k) => format!("write {k} is done at its coordinator"),
            Action::Repeat(k) => format!("write {k} is repeated under its coordinator's present ring"),
            Action::Replicate(k, n) => format!("write {k} reaches node-{n}"),
            Action::Acknowledge(k) => format!("write {k} is acknowledged"),
            Action::Read(n) => format!("node-{n} takes the read"),
            Action::Answer(n) => format!("node-{n} answers the read"),
            Action::ReadAgain => "the read is repeated under its coordinator's present ring".into(),
            Action::Give(to, from) => format!("node-{from} answers the pull of node-{to}"),
            Action::Take(n) => format!("the answer reaches node-{n}"),
            Action::HandOver(n) => format!("an owner pulls from node-{n}, which owns the key no more"),
            Action::Drop(n) => format!("node-{n} drops the key"),
            Action::Look(_) => "an orchestrator reads the ring".into(),
            Action::Hear(_, n) => format!("an orchestrator hears from node-{n}"),
            Action::Advance(_) => "an orchestrator writes the next phase".into(),
            Action::TakeBack(_) => "an orchestrator takes the change back".into(),
            Action::Start(_) => "an orchestrator begins the next change".into(),
            Action::Refuse(_) => "an orchestrator refuses the next signal".into(),
            Action::Die(_) => "an orchestrator dies".into(),
        }
    }

    fn name(&self, ring: RingId) -> String {
        let view = self.view(ring);
        let phase = view.phase.map_or("no change".to_owned(), |phase| phase.to_string());
        format!("epoch {} ({phase})", view.epoch)
    }
}
