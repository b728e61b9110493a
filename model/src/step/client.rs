//! One client's writes and reads, at the coordinator and at the replicas.

use super::{World, bit, has};
use crate::config::{Adoption, Bug};
use crate::state::{Action, NONE, Read, Stage, State};

impl World {
    pub(super) fn client_actions(&self, s: &State, actions: &mut Vec<Action>) {
        for k in 0..self.config.writes as u8 {
            self.write_actions(s, k, actions);
        }
        let read = &s.read;
        if read.coordinator == NONE {
            // One that is owed nothing cannot miss anything.
            if read.left > 0 && self.acknowledged(s) != 0 {
                actions.extend(self.nodes().filter(|n| self.serves(s, *n)).map(Action::Read));
            }
            return;
        }
        let view = self.view(read.ring);
        let answers =
            |n: &u8| has(view.readers, *n) && !has(read.answered, *n) && self.serves_epoch(s, *n, view.epoch);
        actions.extend(self.nodes().filter(answers).map(Action::Answer));
        if s.nodes[usize::from(read.coordinator)].ring != read.ring {
            actions.push(Action::ReadAgain);
        }
    }

    fn write_actions(&self, s: &State, k: u8, actions: &mut Vec<Action>) {
        let write = &s.writes[usize::from(k)];
        match write.stage {
            Stage::Idle => {
                actions.extend(self.nodes().filter(|n| self.serves(s, *n)).map(|n| Action::Begin(k, n)));
                return;
            }
            Stage::Waiting => actions.push(Action::Do(k)),
            Stage::Running if self.view(write.ring).write_enough[usize::from(write.applied)] => {
                actions.push(Action::Acknowledge(k));
            }
            _ => {}
        }
        if matches!(write.stage, Stage::Waiting | Stage::Running)
            && s.nodes[usize::from(write.coordinator)].ring != write.ring
        {
            actions.push(Action::Repeat(k));
        }
        actions.extend(self.nodes().filter(|n| self.hears_of(s, k, *n)).map(|n| Action::Replicate(k, n)));
    }

    /// Whether a message of the write can reach a replica that takes it, and would change something.
    fn hears_of(&self, s: &State, k: u8, n: u8) -> bool {
        let (write, node) = (&s.writes[usize::from(k)], &s.nodes[usize::from(n)]);
        let told_under = |ring: u8| write.told & (1 << ring) != 0 && has(self.view(ring).told, n);
        let told = match self.has(Bug::IgnoresEpoch) {
            false => told_under(node.ring),
            true => (0..self.rings.views.len() as u8).any(told_under),
        };
        let answer_counts = self.has(Bug::CountsLateAnswers) || node.ring == write.ring;
        let news = self.values.join(node.held, write.value) != node.held
            || write.stage == Stage::Running && !has(write.applied, n) && answer_counts;
        node.up && n != write.coordinator && told && news
    }

    pub(crate) fn serves_epoch(&self, s: &State, n: u8, epoch: u64) -> bool {
        let node = &s.nodes[usize::from(n)];
        node.up && (self.has(Bug::IgnoresEpoch) || self.view(node.ring).epoch == epoch)
    }

    pub(super) fn begin_write(&self, s: &mut State, k: u8, n: u8) {
        let write = &mut s.writes[usize::from(k)];
        (write.stage, write.coordinator, write.ring) = (Stage::Waiting, n, s.nodes[usize::from(n)].ring);
        if self.config.adoption == Adoption::Restamps {
            // Until it is done nothing has come of it, and then it goes by the ring of that moment.
            self.do_write(s, k);
        }
    }

    pub(super) fn do_write(&self, s: &mut State, k: u8) {
        let write = &mut s.writes[usize::from(k)];
        let node = &mut s.nodes[usize::from(write.coordinator)];
        node.held = self.values.write(node.held, usize::from(k));
        write.stage = Stage::Running;
        write.value = node.held;
        write.applied = bit(write.coordinator);
        write.told = 1 << write.ring;
    }

    /// Under another ring: counted anew, by answers of this epoch and the coordinator itself where it still holds it.
    pub(super) fn repeat_write(&self, s: &mut State, k: u8) {
        let coordinator = s.writes[usize::from(k)].coordinator;
        let (ring, serves) = (s.nodes[usize::from(coordinator)].ring, self.serves(s, coordinator));
        let holds = self.values.covered(s.nodes[usize::from(coordinator)].held) & bit(k) != 0;
        let write = &mut s.writes[usize::from(k)];
        if write.stage == Stage::Running {
            if !self.has(Bug::CountsLateAnswers) {
                write.applied = if holds { bit(coordinator) } else { 0 };
            }
            write.ring = ring;
            write.told |= 1 << ring;
        } else if serves {
            write.ring = ring;
        } else {
            // Somebody else coordinates now; here nothing was done.
            write.stage = Stage::Abandoned;
        }
    }

    pub(super) fn replicate(&self, s: &mut State, k: u8, n: u8) {
        let (write, node) = (&mut s.writes[usize::from(k)], &mut s.nodes[usize::from(n)]);
        node.held = self.values.join(node.held, write.value);
        if self.has(Bug::CountsLateAnswers) || self.view(node.ring).epoch == self.view(write.ring).epoch {
            write.applied |= bit(n);
        }
    }

    /// Messages that no replica will take any more, and answers that nobody counts, are forgotten.
    pub(super) fn tidy_write(&self, s: &mut State, k: usize) {
        let nodes = s.nodes;
        let write = &mut s.writes[k];
        let over = matches!(write.stage, Stage::Acknowledged | Stage::Abandoned);
        if over {
            (write.applied, write.ring) = (0, 0);
        }
        if self.has(Bug::IgnoresEpoch) || self.has(Bug::ForgetsRing) {
            return;
        }
        for ring in
            (0..self.rings.views.len() as u8).filter(|r| write.told & (1 << r) != 0).collect::<Vec<_>>()
        {
            let view = self.view(ring);
            let may_come = |n: u8| {
                has(view.told, n)
                    && n != write.coordinator
                    && self.view(nodes[usize::from(n)].ring).epoch <= view.epoch
            };
            if !self.nodes().any(may_come) && (over || ring != write.ring) {
                write.told &= !(1 << ring);
            }
        }
        if over && write.told == 0 {
            (write.coordinator, write.value) = (NONE, 0);
        }
    }

    pub(super) fn begin_read(&self, s: &mut State, n: u8) {
        let ring = s.nodes[usize::from(n)].ring;
        let owed = self.acknowledged(s);
        s.read = Read { coordinator: n, ring, owed, answered: 0, found: 0, left: s.read.left - 1 };
    }

    pub(super) fn answer_read(&self, s: &mut State, n: u8) {
        let read = &mut s.read;
        read.answered |= bit(n);
        read.found = self.values.join(read.found, s.nodes[usize::from(n)].held);
        if self.view(read.ring).read_enough[usize::from(read.answered)] {
            s.stale_read |= read.owed & !self.values.covered(read.found) != 0;
            self.end_read(s);
        }
    }

    pub(super) fn read_again(&self, s: &mut State) {
        let coordinator = s.read.coordinator;
        if !self.serves(s, coordinator) {
            return self.end_read(s);
        }
        let ring = s.nodes[usize::from(coordinator)].ring;
        s.read = Read { ring, answered: 0, found: 0, ..s.read };
    }

    pub(super) fn end_read(&self, s: &mut State) {
        s.read = Read { coordinator: NONE, ring: 0, owed: 0, answered: 0, found: 0, left: s.read.left };
    }

    /// The writes whose clients were told that they are done, as bits.
    pub fn acknowledged(&self, s: &State) -> u8 {
        let done = |k: &usize| s.writes[*k].stage == Stage::Acknowledged;
        (0..self.config.writes).filter(done).fold(0, |mask, k| mask | 1 << k)
    }
}
