//! A Consul and nodes small enough to be right at a glance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::name::NodeName;
use crate::placement::Strategy;
use crate::ring::orchestrator::{Action, Candidate, Config, Event, Orchestrator, Report, Signal, Step};
use crate::ring::plan::Founding;
use crate::ring::{ClusterId, Kind, Node, Outcome, Phase, Ring, SignalId, Verdict};
use crate::time::Now;

/// Milliseconds between two ticks.
const TICK_MS: u64 = 25;

/// A node that does what rings say, a little at each tick.
pub struct FakeNode {
    pub node: Node,
    pub running: bool,
    pub healthy: bool,
    pub ring: Option<Arc<Ring>>,
    pub report: Report,
    /// What it says to the next questions; yes when there is none left.
    pub noes: VecDeque<String>,
    /// Whether it pulls what it has to receive.
    pub pulls: bool,
}

/// Whether the orchestrator dies before a step takes effect or right after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    Before,
    After,
}

/// Consul and the nodes.
pub struct World {
    pub now: Now,
    pub ring: Option<Arc<Ring>>,
    pub ring_index: u64,
    pub signals: BTreeMap<String, (String, u64)>,
    pub results: BTreeMap<String, Outcome>,
    pub size: Option<u16>,
    pub nodes: BTreeMap<NodeName, FakeNode>,
    pub locked: bool,
    /// The holder is told at the next tick.
    pub lock_lost: bool,
    /// Nobody gets the lock before.
    pub lock_free_at: u64,
    /// Whether the key of the ring reaches the nodes.
    pub nodes_see_consul: bool,
    /// All rings that were ever written.
    pub written: Vec<Arc<Ring>>,
    pub launches: Vec<NodeName>,
    /// Why nothing can be launched here, where it cannot.
    pub cannot_launch: Option<String>,
    pub stops: Vec<NodeName>,
    pub questions: usize,
    index: u64,
}

pub fn founding() -> Founding {
    Founding {
        cluster_id: ClusterId(0xC1),
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 64,
        replicas: 1,
        balance: Some(5.0),
    }
}

pub fn orchestrator(seed: u64) -> Orchestrator {
    Orchestrator::new(Config { founding: founding(), launches: None, seed })
}

pub fn name(n: u16) -> NodeName {
    NodeName(n)
}

fn fresh(name: NodeName) -> FakeNode {
    let ports = name.ports(None).expect("numbers below 100");
    let node = Node { name, incarnation: 0, host: "h".into(), ports, zone: "z".into(), weight: 100 };
    FakeNode {
        node,
        running: true,
        healthy: true,
        ring: None,
        report: Report::default(),
        noes: VecDeque::new(),
        pulls: true,
    }
}

impl World {
    /// Processes of `size` nodes, and no ring yet.
    pub fn unfounded(size: u16) -> World {
        World {
            now: Now { mono_us: 1_000_000, wall_ms: 0 },
            ring: None,
            ring_index: 0,
            signals: BTreeMap::new(),
            results: BTreeMap::new(),
            size: Some(size),
            nodes: (0..size).map(|n| (name(n), fresh(name(n)))).collect(),
            locked: false,
            lock_lost: false,
            lock_free_at: 0,
            nodes_see_consul: true,
            written: Vec::new(),
            launches: Vec::new(),
            cannot_launch: None,
            stops: Vec::new(),
            questions: 0,
            index: 100,
        }
    }

    /// A cluster of `size` nodes at rest, and the orchestrator that founded it.
    pub fn founded(size: u16) -> (World, Orchestrator) {
        let mut world = World::unfounded(size);
        let mut machine = orchestrator(1);
        world.settle(&mut machine);
        assert_eq!(world.epoch(), 1);
        (world, machine)
    }

    pub fn epoch(&self) -> u64 {
        self.ring.as_ref().map_or(0, |r| r.epoch)
    }

    pub fn phase(&self) -> Option<Phase> {
        self.ring.as_ref().and_then(|r| r.change.as_ref()).map(|c| c.phase)
    }

    pub fn names(&self) -> Vec<u16> {
        self.ring.as_ref().map_or(Vec::new(), |r| r.nodes.iter().map(|n| n.name.0).collect())
    }

    pub fn node(&mut self, n: u16) -> &mut FakeNode {
        self.nodes.get_mut(&name(n)).expect("a node of this world")
    }

    /// Writes a signal as an operator would.
    pub fn signal(&mut self, key: &str, value: &str) {
        self.index += 1;
        self.signals.insert(key.into(), (value.into(), self.index));
    }

    pub fn start(&mut self, n: u16) {
        self.nodes.insert(name(n), fresh(name(n)));
    }

    /// The result of a signal, which must be there.
    pub fn result(&self, key: &str) -> &Outcome {
        self.results.get(key).unwrap_or_else(|| panic!("no result for {key}: {:?}", self.results))
    }

    pub fn refused(&self, key: &str) -> &str {
        let result = self.result(key);
        assert_eq!(result.outcome, Verdict::Refused, "{result:?}");
        &result.message
    }

    /// Runs until nothing is left to do: no signal, no change, no lock.
    pub fn settle(&mut self, machine: &mut Orchestrator) {
        let busy = |w: &World| {
            w.ring.as_ref().is_none_or(|r| r.change.is_some()) || !w.signals.is_empty() || w.locked
        };
        self.run(machine, 400_000, None, |w| !busy(w));
        assert!(!busy(self), "not settled: epoch {}, {:?}, {:?}", self.epoch(), self.phase(), self.signals);
    }

    /// Runs for at most this long, until `done` holds; true where the machine died at the step.
    pub fn run(
        &mut self,
        machine: &mut Orchestrator,
        for_ms: u64,
        die: Option<(Step, When)>,
        done: impl Fn(&World) -> bool,
    ) -> bool {
        let end = self.now.after_ms(for_ms);
        // A round after the condition too, so that what is left over shows.
        while self.now.mono_us < end {
            let was_done = done(self);
            if self.round(machine, die) {
                self.locked = false;
                self.lock_free_at = self.now.after_ms(10_000);
                return true;
            }
            if was_done && done(self) {
                break;
            }
        }
        false
    }

    fn round(&mut self, machine: &mut Orchestrator, die: Option<(Step, When)>) -> bool {
        self.now.mono_us += TICK_MS * 1000;
        self.live();
        let signals = self.signals.iter().map(|(key, (value, index))| Signal {
            id: SignalId { name: key.clone(), index: *index },
            value: value.clone().into(),
        });
        let candidates =
            self.nodes.values().map(|n| Candidate { node: n.node.clone(), healthy: n.running && n.healthy });
        let mut events = VecDeque::from([
            Event::Ring(self.ring.clone(), self.ring_index),
            Event::Signals(signals.collect()),
            Event::Size(self.size),
            Event::Candidates(candidates.collect()),
            Event::Tick,
        ]);
        if std::mem::take(&mut self.lock_lost) {
            events.push_front(Event::Lock(false));
        }
        while let Some(event) = events.pop_front() {
            for action in machine.step(self.now, event) {
                let here = die.is_some_and(|(step, _)| action.step() == Some(step));
                if here && matches!(die, Some((_, When::Before))) {
                    return true;
                }
                self.perform(action, &mut events);
                if here {
                    return true;
                }
            }
        }
        false
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) {
        match action {
            Action::Lock => {
                self.locked |= self.now.mono_us >= self.lock_free_at;
                events.push_back(Event::Lock(self.locked));
            }
            Action::Unlock => {
                self.locked = false;
                events.push_back(Event::Lock(false));
            }
            Action::Survey(node, ring) => {
                let live = self.nodes.get(&node).filter(|n| n.running);
                let answer = live.map(|n| (n.report.clone(), n.ring.clone().filter(|_| ring)));
                events.push_back(Event::Report(node, answer));
            }
            Action::Ask(node, token, question) => {
                self.questions += 1;
                let n = self.nodes.get_mut(&node).expect("only nodes in the catalog are asked");
                let epoch = n.ring.as_ref().map_or(0, |r| r.epoch);
                let joins = question.kind.joins() == Some(node);
                let answer = match n.noes.pop_front() {
                    Some(why) => Err(why),
                    None if !joins && epoch != question.base => Err(format!("it has epoch {epoch}")),
                    None => Ok(()),
                };
                assert_eq!(!question.reach.is_empty(), joins, "only a newcomer must reach others");
                events.push_back(Event::Consent(node, token, answer));
            }
            Action::Launch(node) => {
                self.launches.push(node);
                match &self.cannot_launch {
                    Some(why) => events.push_back(Event::NotLaunched(node, why.clone())),
                    None => drop(self.nodes.entry(node).or_insert_with(|| fresh(node))),
                }
            }
            Action::Write(ring, index) => {
                assert!(self.locked, "only the holder of the lock writes");
                let won = index == self.ring_index;
                if won {
                    self.index += 1;
                    self.ring_index = self.index;
                    self.written.push(ring.clone());
                    self.ring = Some(ring);
                }
                events.push_back(Event::Ring(self.ring.clone(), self.ring_index));
                events.push_back(Event::Written(won));
            }
            Action::Forget(id) => {
                if self.signals.get(&id.name).is_some_and(|(_, index)| *index == id.index) {
                    self.signals.remove(&id.name);
                }
            }
            Action::Answer(outcome) => drop(self.results.insert(outcome.signal.name.clone(), outcome)),
            Action::Stop(node) => {
                self.stops.push(node);
                self.nodes.remove(&node);
            }
        }
    }

    /// Nodes take the ring and do a part of what it asks.
    fn live(&mut self) {
        let newest = self.ring.clone().filter(|_| self.nodes_see_consul);
        for (name, n) in self.nodes.iter_mut().filter(|(_, n)| n.running) {
            if let Some(ring) = &newest
                && n.ring
                    .as_ref()
                    .is_none_or(|own| own.epoch < ring.epoch && own.cluster_id == ring.cluster_id)
            {
                n.take(*name, ring);
            } else if let Some(ring) = &n.ring {
                n.report.confirmed = ring.epoch;
                if n.pulls {
                    n.report.copied = (n.report.copied + 5).min(n.report.incoming);
                    let verifies = ring.change.as_ref().is_some_and(|c| c.phase > Phase::Copy);
                    let verified = if verifies { n.report.verified + 7 } else { 0 };
                    n.report.verified = verified.min(n.report.incoming);
                }
            }
        }
    }

    /// Consul loses everything but what its agents register again.
    pub fn wipe_consul(&mut self) {
        (self.ring, self.ring_index) = (None, 0);
        (self.locked, self.lock_lost) = (false, true);
        self.signals.clear();
        self.results.clear();
    }

    /// A ring's change is whole: four epochs, one phase each, nothing written twice.
    pub fn assert_epochs_rise_by_one(&self) {
        let epochs: Vec<u64> = self.written.iter().map(|r| r.epoch).collect();
        assert_eq!(epochs, (1..=self.epoch()).collect::<Vec<_>>());
    }
}

impl FakeNode {
    fn take(&mut self, name: NodeName, ring: &Arc<Ring>) {
        let incoming = ring.index_of(name).map_or(0, |i| ring.incoming(i).len());
        let change = ring.change.as_ref().map(|c| (c.kind, c.signal.clone()));
        let same = self.ring.as_ref().and_then(|r| r.change.as_ref()).map(|c| (c.kind, c.signal.clone()));
        let copied = if change.is_some() && change == same { self.report.copied } else { 0 };
        self.report = Report {
            epoch: ring.epoch,
            incoming: u32::try_from(incoming).expect("few partitions"),
            copied,
            lost_partitions: std::mem::take(&mut self.report.lost_partitions),
            ..Report::default()
        };
        self.ring = Some(ring.clone());
    }
}

/// What a signal of this text asks for, with the node it names.
pub fn kind(key: &str, value: &str) -> Kind {
    let signal = Signal { id: SignalId { name: key.into(), index: 1 }, value: value.into() };
    signal.wanted().expect("a signal that can be read").kind
}
