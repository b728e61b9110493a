//! The orchestrator's decisions: a machine that is told what Consul and the nodes say, and answers what to do.
//!
//! It commands nobody. It writes rings, and nodes act on rings alone. All that must survive it stands in the ring,
//! so it may be killed at any moment: the next one reads the ring and goes on. After every event it looks at all it
//! knows and does the first thing that is due:
//!
//! ```text
//!   no lock ─► take it        ring gone ─► found or restore        change ended ─► forget its signal, answer
//!   change runs ─► next phase, or take it back        signal waits ─► launch, ask everybody, begin
//! ```

mod event;
mod founding;
mod negotiation;
mod progress;
mod signal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::event::{Action, Candidate, Config, Event, Question, Step};
use self::negotiation::Negotiation;
use self::progress::standing_of;
pub use self::progress::{Parties, Report, Standing, parties, standing};
pub use self::signal::{MODE, Signal, SignalError, Wanted};
use super::{Ring, SignalId};
use crate::bug::{self, Bug};
use crate::name::NodeName;
use crate::time::Now;

/// How often nodes are asked how they stand, in milliseconds: by the launcher that drives a change, and by all others
/// at all other times. Many launchers that only look on must not cost the nodes more than the one that acts.
const SURVEY_MS: (u64, u64) = (50, 1000);
/// A change that makes no progress for this long is taken back, where it still can be.
const STALLED_MS: u64 = 60_000;

/// The machine.
#[derive(Debug)]
pub struct Orchestrator {
    config: Config,
    locked: bool,
    ring: Option<Arc<Ring>>,
    /// Those of the ring's change.
    parties: Parties,
    ring_index: u64,
    read: Read,
    writing: bool,
    signals: Vec<Signal>,
    size: Option<u16>,
    candidates: BTreeMap<NodeName, Candidate>,
    reports: BTreeMap<NodeName, Report>,
    /// Who has answered, or was silent too long, since the ring was read.
    heard: BTreeSet<NodeName>,
    /// Rings that nodes gave us, where Consul's is gone or older.
    held: BTreeMap<NodeName, Arc<Ring>>,
    survey_due: u64,
    lock_due: u64,
    negotiation: Option<Negotiation>,
    /// The sum of the reports when progress was last made, and when that was.
    progress: Option<(u64, u64)>,
    answered: Option<SignalId>,
    /// Signals that were served and may be seen once more, by a read from before their deletion.
    forgotten: BTreeSet<SignalId>,
    random: u64,
    tokens: u64,
}

/// What was read at least once: nothing is decided on half a view.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    ring: bool,
    signals: bool,
    candidates: bool,
}

impl Orchestrator {
    /// A machine that knows nothing yet.
    pub fn new(config: Config) -> Orchestrator {
        let random = config.seed;
        Orchestrator {
            config,
            locked: false,
            ring: None,
            parties: Parties::default(),
            ring_index: 0,
            read: Read::default(),
            writing: false,
            signals: Vec::new(),
            size: None,
            candidates: BTreeMap::new(),
            reports: BTreeMap::new(),
            heard: BTreeSet::new(),
            held: BTreeMap::new(),
            survey_due: 0,
            lock_due: 0,
            negotiation: None,
            progress: None,
            answered: None,
            forgotten: BTreeSet::new(),
            random,
            tokens: 0,
        }
    }

    /// The ring as last read from Consul.
    pub fn ring(&self) -> Option<&Arc<Ring>> {
        self.ring.as_ref()
    }

    /// Takes an event and says what to do.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.learn(event);
        let mut actions = Vec::new();
        let Read { ring, signals, candidates } = self.read;
        if ring && signals && candidates && !self.writing {
            self.decide(now, &mut actions);
        }
        actions
    }

    fn learn(&mut self, event: Event) {
        match event {
            Event::Ring(ring, index) => {
                let identity = |r: &Option<Arc<Ring>>| r.as_ref().map(|r| (r.cluster_id, r.epoch));
                if identity(&self.ring) != identity(&ring) {
                    self.negotiation = None;
                    self.progress = None;
                    // What nodes said under another ring proves nothing under this one, least of all that they
                    // hold none.
                    self.reports.clear();
                    self.heard.clear();
                    self.held.clear();
                    if self.locked {
                        // Whoever drives looks at once, and then at the pace of a change.
                        self.survey_due = 0;
                    }
                    self.parties = ring.as_deref().map(parties).unwrap_or_default();
                }
                (self.ring, self.ring_index, self.read.ring) = (ring, index, true);
            }
            Event::Signals(mut signals) => {
                signals.sort_by_key(|s| s.id.index);
                self.forgotten.retain(|id| signals.iter().any(|s| s.id == *id));
                self.signals = signals;
                self.read.signals = true;
            }
            Event::Size(size) => self.size = size,
            Event::Candidates(candidates) => {
                if self.ring.is_none() {
                    // A founding, or a restoration, waits for these.
                    self.survey_due = 0;
                }
                self.candidates = candidates.into_iter().map(|c| (c.node.name, c)).collect();
                self.read.candidates = true;
            }
            Event::Lock(held) => {
                if held && !self.locked {
                    // What is known is as old as the slow pace allows.
                    self.survey_due = 0;
                }
                self.locked = held;
                self.writing &= held;
                if !held {
                    self.negotiation = None;
                    self.progress = None;
                }
            }
            Event::Report(node, answer) => {
                self.held.remove(&node);
                self.heard.insert(node);
                match answer {
                    Some((report, ring)) => {
                        self.reports.insert(node, report);
                        self.held.extend(ring.map(|r| (node, r)));
                    }
                    None => drop(self.reports.remove(&node)),
                }
            }
            Event::Consent(node, token, answer) => {
                if let Some(negotiation) = &mut self.negotiation {
                    negotiation.heard(node, token, answer);
                }
            }
            Event::NotLaunched(node, why) => {
                if let Some(negotiation) = &mut self.negotiation {
                    negotiation.not_launched(node, why);
                }
            }
            Event::Written(_) => self.writing = false,
            Event::Tick => {}
        }
    }

    fn decide(&mut self, now: Now, actions: &mut Vec<Action>) {
        // Without the lock too: a ring that was set back shows only in what the nodes hold.
        self.survey(now, actions);
        if !self.has_work() {
            self.negotiation = None;
            if self.locked {
                actions.push(Action::Unlock);
            }
            return;
        }
        if !self.locked {
            if now.mono_us >= self.lock_due {
                self.lock_due = now.after_ms(500 + self.random_below(500));
                actions.push(Action::Lock);
            }
            return;
        }
        for id in self.forgotten.clone() {
            self.forget(&id, actions);
        }
        match self.ring.clone() {
            None => self.found_or_restore(actions),
            Some(ring) if !bug::on(Bug::LeavesSetBack) && self.restore(Some(&ring), actions) => {}
            Some(ring) if self.finish_last(&ring, actions) => {}
            Some(ring) if ring.change.is_some() => self.drive(now, &ring, actions),
            // Consul's ring is old: the newer one has to be restored first, and says who is a newcomer.
            Some(ring) if self.is_behind(&ring) => {}
            // Whether it is shows only when those who live have been heard.
            Some(_) if self.negotiation.is_none() && !self.heard_all() => {}
            Some(ring) => self.negotiate(now, &ring, actions),
        }
    }

    /// Whether there is anything for whoever holds the lock.
    fn has_work(&self) -> bool {
        let Some(ring) = &self.ring else { return true };
        let unanswered = ring.last.as_ref().is_some_and(|last| self.answered.as_ref() != Some(&last.signal));
        let mine = |s: &Signal| s.wanted().map_or(true, |w| self.can_serve(&w));
        ring.change.is_some() || unanswered || self.is_behind(ring) || self.signals.iter().any(mine)
    }

    /// Whether some node goes by a newer ring, which is of this cluster as far as is known.
    fn is_behind(&self, ring: &Ring) -> bool {
        let ours = |name| self.held.get(name).is_none_or(|held| held.cluster_id == ring.cluster_id);
        self.reports.iter().any(|(name, report)| report.epoch > ring.epoch && ours(name))
    }

    fn heard_all(&self) -> bool {
        self.candidates.iter().all(|(name, candidate)| !candidate.healthy || self.heard.contains(name))
    }

    /// An add of a node that neither runs nor may be launched here is left to another launcher.
    fn can_serve(&self, wanted: &Wanted) -> bool {
        let Some(node) = wanted.kind.joins() else { return true };
        let launches = self.config.launches.as_ref().is_none_or(|l| l.contains(&node));
        let there = self.ring.as_ref().is_some_and(|r| r.node_named(node).is_some());
        launches || there || wanted.host.is_some() || self.candidates.contains_key(&node)
    }

    fn survey(&mut self, now: Now, actions: &mut Vec<Action>) {
        if now.mono_us < self.survey_due {
            return;
        }
        let drives = self.locked && self.ring.as_ref().is_some_and(|r| r.change.is_some());
        self.survey_due = now.after_ms(if drives { SURVEY_MS.0 } else { SURVEY_MS.1 });
        // Not the ring's nodes alone: a newer ring may have others, and they know it.
        let mut names: BTreeSet<NodeName> = self.candidates.keys().copied().collect();
        let rings = self.ring.iter().chain(self.held.values());
        names.extend(rings.flat_map(|r| &r.nodes).map(|n| n.name));
        let ahead = |name: &NodeName| match &self.ring {
            Some(ring) => self.reports.get(name).is_some_and(|r| r.epoch > ring.epoch),
            None => true,
        };
        actions.extend(names.into_iter().map(|name| Action::Survey(name, ahead(&name))));
    }

    /// The last change ended, but its signal may still stand and its result may not be written.
    fn finish_last(&mut self, ring: &Ring, actions: &mut Vec<Action>) -> bool {
        let Some(last) = &ring.last else { return false };
        // Even after the answer: a signal that is seen late was served all the same.
        self.forget(&last.signal, actions);
        if self.answered.as_ref() == Some(&last.signal) {
            return false;
        }
        actions.push(Action::Answer(last.clone()));
        self.answered = Some(last.signal.clone());
        true
    }

    fn drive(&mut self, now: Now, ring: &Arc<Ring>, actions: &mut Vec<Action>) {
        let change = ring.change.as_ref().expect("called with a change in progress");
        self.forget(&change.signal, actions);
        self.refuse_removal_of_newcomer(ring, change.kind, actions);
        let sum: u64 = ring.epoch
            + self
                .reports
                .values()
                .map(|r| u64::from(r.copied + r.verified) + r.keys_moved + r.confirmed)
                .sum::<u64>();
        let since = match self.progress {
            Some((seen, since)) if seen == sum => since,
            _ => now.mono_us,
        };
        self.progress = Some((sum, since));
        match standing_of(ring, &self.parties, &self.reports) {
            _ if bug::on(Bug::WaitsForNobody) => self.write(ring.advanced(), actions),
            Standing::Ready => self.write(ring.advanced(), actions),
            Standing::Hopeless(why) => self.take_back(ring, &why, actions),
            Standing::Waiting(why) if now.mono_us >= since.saturating_add(STALLED_MS * 1000) => {
                let why = format!("no progress for {} s: {}", STALLED_MS / 1000, why.join("; "));
                self.take_back(ring, &why, actions);
            }
            Standing::Waiting(_) => {}
        }
    }

    fn take_back(&mut self, ring: &Ring, why: &str, actions: &mut Vec<Action>) {
        if let Some(before) = ring.aborted(why) {
            self.write(before, actions);
        }
    }

    fn write(&mut self, ring: Ring, actions: &mut Vec<Action>) {
        self.writing = true;
        actions.push(Action::Write(Arc::new(ring), self.ring_index));
    }

    fn forget(&mut self, signal: &SignalId, actions: &mut Vec<Action>) {
        if let Some(at) = self.signals.iter().position(|s| s.id == *signal) {
            self.signals.remove(at);
            self.forgotten.insert(signal.clone());
            actions.push(Action::Forget(signal.clone()));
        }
    }

    /// SplitMix64: pauses need to differ, no more.
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests;
