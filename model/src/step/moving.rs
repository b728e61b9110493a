//! Data on its way: pulls by new owners, and what former owners hand over and drop.

use ringkv_common::ring::Phase;

use super::{World, bit, has};
use crate::config::Bug;
use crate::state::{Action, NONE, State};

impl World {
    pub(super) fn moving_actions(&self, s: &State, actions: &mut Vec<Action>) {
        for n in self.nodes() {
            let node = &s.nodes[usize::from(n)];
            if !node.up {
                continue;
            }
            if self.pulls(s, n) {
                let gives = |from: &u8| self.gives(s, n, *from);
                actions.extend(self.nodes().filter(gives).map(|from| Action::Give(n, from)));
            }
            if node.pulled.0 != NONE {
                actions.push(Action::Take(n));
            }
            let former = node.held != 0 && !has(self.view(node.ring).holds, n);
            if former && !node.released && self.hands_over(s, n) {
                actions.push(Action::HandOver(n));
            }
            if former && (node.released || self.has(Bug::DropsUnconfirmed)) {
                actions.push(Action::Drop(n));
            }
        }
    }

    /// Whether a new owner still has to pull.
    fn pulls(&self, s: &State, n: u8) -> bool {
        let node = &s.nodes[usize::from(n)];
        let due = match self.view(node.ring).phase {
            None => false,
            Some(Phase::Copy) => !node.copied && has(self.view(node.ring).gains, n),
            Some(Phase::Both | Phase::Switch) => !self.has_all(s, n),
        };
        due && self.compares(s, n) && !node.crashed
    }

    /// Whether an old owner answers a pull, and with something that was not heard yet.
    fn gives(&self, s: &State, to: u8, from: u8) -> bool {
        let (taker, giver) = (&s.nodes[usize::from(to)], &s.nodes[usize::from(from)]);
        let view = self.view(taker.ring);
        let confirmed = self.confirmed(s, from) || self.has(Bug::GivesUnconfirmed);
        let same_epoch = self.view(giver.ring).epoch == view.epoch || self.has(Bug::IgnoresEpoch);
        let known = has(taker.compared, from) && view.phase != Some(Phase::Copy);
        from != to && has(view.old, from) && giver.up && same_epoch && confirmed && !known
    }

    pub(super) fn give(&self, s: &mut State, to: u8, from: u8) {
        s.nodes[usize::from(to)].pulled = (from, s.nodes[usize::from(from)].held);
    }

    pub(super) fn take(&self, s: &mut State, n: u8) {
        let phase = self.view(s.nodes[usize::from(n)].ring).phase;
        let node = &mut s.nodes[usize::from(n)];
        let (from, value) = std::mem::replace(&mut node.pulled, (NONE, 0));
        node.held = self.values.join(node.held, value);
        node.copied = true;
        if phase != Some(Phase::Copy) {
            node.compared |= bit(from);
        }
    }

    /// Whether the first owner can pull from a former one: of the same epoch, while the partition does not move.
    fn hands_over(&self, s: &State, n: u8) -> bool {
        let view = self.view(s.nodes[usize::from(n)].ring);
        let owner = &s.nodes[view.first];
        owner.up && self.view(owner.ring).epoch == view.epoch && view.told == view.old
    }

    pub(super) fn hand_over(&self, s: &mut State, n: u8) {
        let first = self.view(s.nodes[usize::from(n)].ring).first;
        s.nodes[first].held = self.values.join(s.nodes[first].held, s.nodes[usize::from(n)].held);
        s.nodes[usize::from(n)].released = true;
    }

    pub(super) fn drop_data(&self, s: &mut State, n: u8) {
        let view = self.view(s.nodes[usize::from(n)].ring);
        let drops = self.values.covered(s.nodes[usize::from(n)].held);
        let owners = view.old.count_ones() as usize;
        let lack = |k: u8| {
            let lacks = |o: &u8| self.values.covered(s.nodes[usize::from(*o)].held) & bit(k) == 0;
            self.nodes().filter(|o| has(view.old, *o)).filter(lacks).count()
        };
        // What was acknowledged any R owners have by now, and what was not has one owner at least.
        let acknowledged = self.acknowledged(s);
        let lack_max = |k: u8| {
            if acknowledged & bit(k) != 0 { self.config.quorum.1.min(owners) - 1 } else { owners - 1 }
        };
        let too_early = |k: u8| drops & bit(k) != 0 && lack(k) > lack_max(k);
        s.early_delete |= (0..self.config.writes as u8).any(too_early);
        s.nodes[usize::from(n)].held = 0;
        s.nodes[usize::from(n)].released = false;
    }
}
