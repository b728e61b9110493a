//! Orchestrators: they read the ring, hear from nodes, and write the next ring. They keep nothing else.

use super::{World, has};
use crate::config::{Bug, Gate};
use crate::gate::CODES;
use crate::rings::{RingId, View};
use crate::state::{Action, Launcher, NONE, State};

impl World {
    pub(super) fn launcher_actions(&self, s: &State, actions: &mut Vec<Action>) {
        for (l, launcher) in (0..).zip(&s.launchers) {
            if !launcher.up || l > 0 && s.launchers[0] == *launcher {
                // Two that know the same would do the same.
                continue;
            }
            if s.crashes > 0 && s.launchers.iter().all(|l| l.up) {
                actions.push(Action::Die(l));
            }
            if launcher.ring != s.current {
                actions.push(Action::Look(l));
            }
            if launcher.ring == NONE {
                continue;
            }
            let view = self.view(launcher.ring);
            actions
                .extend(self.nodes().filter(|n| self.has_news(s, launcher, *n)).map(|n| Action::Hear(l, n)));
            if view.phase.is_some() {
                if view.ready[index(launcher)] {
                    actions.push(Action::Advance(l));
                }
                if view.back.is_some() {
                    actions.push(Action::TakeBack(l));
                }
            } else if view.begun.is_some() && self.all_consent(s, launcher) {
                actions.push(Action::Start(l));
            } else if view.begun.is_none() && usize::from(s.signals) < self.config.signals.len() {
                actions.push(Action::Refuse(l));
            }
        }
    }

    /// Whether a node would tell a launcher something that could make it act.
    fn has_news(&self, s: &State, launcher: &Launcher, n: u8) -> bool {
        let code = self.answer(s, launcher.ring, n);
        code != 0 && code != launcher.heard[usize::from(n)]
    }

    fn answer(&self, s: &State, ring: RingId, n: u8) -> u8 {
        let view = self.view(ring);
        if view.phase.is_none() {
            return u8::from(view.begun.is_some() && self.consents(s, n, ring));
        }
        view.class[usize::from(n)][usize::from(self.report(s, n, ring))]
    }

    /// Every node that runs has said yes: all owners, old and new, or, by quorums, most of the ring.
    fn all_consent(&self, s: &State, launcher: &Launcher) -> bool {
        let view = self.view(launcher.ring);
        let Some(begun) = view.begun else { return false };
        if !self.config.consent {
            return true;
        }
        let plan = self.view(begun);
        let said_yes = |n: &u8| launcher.heard[usize::from(*n)] == 1;
        let asked = |n: &u8| has(plan.members, *n) && s.nodes[usize::from(*n)].up;
        let most = || self.nodes().filter(|n| has(view.members, *n) && said_yes(n)).count() * 2;
        self.nodes().filter(asked).all(|n| said_yes(&n))
            && match self.config.gate {
                Gate::Standing => self.nodes().filter(|n| has(plan.told, *n)).all(|n| said_yes(&n)),
                Gate::Quorums => most() > view.members.count_ones() as usize,
            }
    }

    pub(super) fn look(&self, s: &mut State, l: u8) {
        s.launchers[usize::from(l)] = Launcher { up: true, ring: s.current, heard: [0; 4] };
    }

    pub(super) fn hear(&self, s: &mut State, l: u8, n: u8) {
        let ring = s.launchers[usize::from(l)].ring;
        s.launchers[usize::from(l)].heard[usize::from(n)] = self.answer(s, ring, n);
    }

    /// Compare-and-set: only where nobody was faster.
    pub(super) fn write_ring(&self, s: &mut State, l: u8, next: impl Fn(&View) -> Option<RingId>) {
        let launcher = s.launchers[usize::from(l)];
        if launcher.ring == s.current || self.has(Bug::WritesBlindly) {
            let ring = next(self.view(launcher.ring)).expect("looked at before the step");
            s.current = ring;
            s.written |= 1 << ring;
            s.signals = s.signals.max(self.view(ring).signals);
        }
        self.look(s, l);
    }
}

fn index(launcher: &Launcher) -> usize {
    launcher.heard.iter().rev().fold(0, |at, code| at * CODES + usize::from(*code))
}
