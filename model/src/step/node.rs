//! Nodes: rings taken up, crashes, and what a node says of itself.

use ringkv_common::ring::Phase;

use super::{World, bit, has};
use crate::config::{Adoption, Bug};
use crate::gate::Code;
use crate::rings::RingId;
use crate::state::{Action, NONE, Stage, State};

impl World {
    pub(super) fn node_actions(&self, s: &State, actions: &mut Vec<Action>) {
        for n in self.nodes() {
            let node = &s.nodes[usize::from(n)];
            if !node.up {
                actions.push(Action::Restart(n));
                if self.has(Bug::ForgetsRing) {
                    let earlier =
                        self.written(s).filter(|r| self.view(*r).epoch < self.view(node.ring).epoch);
                    actions.extend(earlier.map(|ring| Action::RestartWith(n, ring)));
                }
                continue;
            }
            let newer = self.written(s).filter(|r| self.view(*r).epoch > self.view(node.ring).epoch);
            actions.extend(newer.map(|ring| Action::Adopt(n, ring)));
            if s.crashes > 0 {
                actions.push(Action::Crash(n));
            }
        }
    }

    fn written(&self, s: &State) -> impl Iterator<Item = RingId> + use<> {
        let written = s.written;
        (0..self.rings.views.len() as RingId).filter(move |r| written & (1 << r) != 0)
    }

    pub(super) fn adopt(&self, s: &mut State, n: u8, ring: RingId) {
        let node = &mut s.nodes[usize::from(n)];
        let (before, now) = (self.view(node.ring), self.view(ring));
        node.ring = ring;
        node.pulled = (NONE, 0);
        node.released = false;
        if before.phase.is_none() || now.phase.is_none() || before.signals != now.signals {
            (node.copied, node.compared, node.crashed) = (false, 0, false);
        }
        if self.config.adoption == Adoption::Restamps {
            for k in 0..self.config.writes {
                if s.writes[k].coordinator == n && s.writes[k].stage == Stage::Running {
                    self.repeat_write(s, k as u8);
                }
            }
            if s.read.coordinator == n {
                self.read_again(s);
            }
        }
    }

    pub(super) fn crash(&self, s: &mut State, n: u8) {
        s.crashes -= 1;
        let compares = self.compares(s, n);
        let node = &mut s.nodes[usize::from(n)];
        node.up = false;
        node.pulled = (NONE, 0);
        node.released = false;
        (node.copied, node.compared) = (false, 0);
        node.crashed = self.has(Bug::NeverPullsAgain) && compares;
        for write in s.writes.iter_mut().filter(|w| w.coordinator == n) {
            if matches!(write.stage, Stage::Waiting | Stage::Running) {
                write.stage = Stage::Abandoned;
            }
        }
        if s.read.coordinator == n {
            self.end_read(s);
        }
    }

    /// Whether a node has to compare in the change that it knows of.
    pub(super) fn compares(&self, s: &State, n: u8) -> bool {
        has(self.view(s.nodes[usize::from(n)].ring).compares, n)
    }

    /// Whether a new owner has compared with as many old ones as it takes.
    pub(super) fn has_all(&self, s: &State, n: u8) -> bool {
        let node = &s.nodes[usize::from(n)];
        let old = self.view(node.ring).old;
        ((node.compared | bit(n)) & old).count_ones() >= self.config.compared_min(old.count_ones() as usize)
    }

    /// Whether a node coordinates requests: an owner that reads go to, and not one that came back within `switch` and
    /// has not compared again.
    pub(crate) fn serves(&self, s: &State, n: u8) -> bool {
        let node = &s.nodes[usize::from(n)];
        let view = self.view(node.ring);
        let receiving = view.phase == Some(Phase::Switch) && has(view.gains, n) && !self.has_all(s, n);
        node.up && has(view.readers, n) && !receiving
    }

    /// Whether all its own requests are of its present ring.
    pub(super) fn confirmed(&self, s: &State, n: u8) -> bool {
        let ring = s.nodes[usize::from(n)].ring;
        let of_earlier = |write: &crate::state::Write| {
            write.coordinator == n
                && matches!(write.stage, Stage::Waiting | Stage::Running)
                && write.ring != ring
        };
        let reads_earlier = s.read.coordinator == n && s.read.ring != ring;
        self.has(Bug::ConfirmsEarly) || !(s.writes.iter().any(of_earlier) || reads_earlier)
    }

    /// What a node reports to a launcher that goes by a ring; 0 where it says nothing of that epoch.
    pub(super) fn report(&self, s: &State, n: u8, ring: RingId) -> Code {
        let node = &s.nodes[usize::from(n)];
        if !node.up || self.view(node.ring).epoch != self.view(ring).epoch {
            return 0;
        }
        let has_it = node.copied || has(self.view(node.ring).old, n);
        let done = match () {
            () if !self.compares(s, n) || self.has_all(s, n) => 2,
            () if has_it && self.has(Bug::SkipsComparison) => 2,
            () if has_it => 1,
            () => 0,
        };
        1 + 3 * Code::from(self.confirmed(s, n)) + done
    }

    /// Whether a node says yes to the change that would follow a ring.
    pub(super) fn consents(&self, s: &State, n: u8, ring: RingId) -> bool {
        let node = &s.nodes[usize::from(n)];
        let view = self.view(node.ring);
        let hands_over = node.held != 0 && !has(view.holds, n);
        node.up && view.epoch == self.view(ring).epoch && view.phase.is_none() && !hands_over
    }
}
