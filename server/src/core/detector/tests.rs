//! Detectors on a small network in virtual time, every hazard from a seed.
#![allow(clippy::unwrap_used)]

mod finding;
mod late;
mod lives;
mod packets;

use std::collections::{BTreeMap, BTreeSet};

use rand_core::TryRng;

use super::*;

/// Wall clocks at the beginning, in milliseconds.
const WALL_MS: u64 = 1_700_000_000_000;
const SECOND: u64 = 1_000_000;

fn name(n: u16) -> NodeName {
    NodeName(n)
}

enum Happening {
    Packet { from: NodeName, to: NodeName, epoch: u64, bytes: Box<[u8]> },
    Tick(NodeName),
}

struct Net {
    now_us: u64,
    chance: Chance,
    queue: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    nodes: BTreeMap<NodeName, Detector>,
    ring: Vec<NodeName>,
    /// The longest delay of a packet, in microseconds.
    delay_us: u64,
    /// Packets lost of a hundred.
    loss: u64,
    /// Directions that lose everything.
    cut: BTreeSet<(NodeName, NodeName)>,
    /// Who does nothing, and until when.
    paused: BTreeMap<NodeName, u64>,
    /// How long a node may be busy with something else when a timer or a packet is due, in microseconds.
    turn_us: u64,
    /// How far wall clocks are off, in milliseconds.
    skew_ms: BTreeMap<NodeName, i64>,
    epochs: BTreeMap<NodeName, u64>,
    /// Every change of a view: when, whose.
    log: Vec<(u64, NodeName, Change)>,
    packets: u64,
    largest: usize,
    ticking: BTreeMap<NodeName, u64>,
}

impl Net {
    /// A ring of so many nodes that have just started.
    fn new(seed: u64, nodes: u16) -> Net {
        let mut net = Net::of(seed, nodes);
        (0..nodes).for_each(|n| net.start(n));
        net
    }

    /// A ring of so many nodes of which none runs yet.
    fn of(seed: u64, nodes: u16) -> Net {
        Net {
            now_us: SECOND,
            chance: Chance::new(u128::from(seed) << 64 | 0x5EED),
            queue: BTreeMap::new(),
            serial: 0,
            nodes: BTreeMap::new(),
            ring: (0..nodes).map(name).collect(),
            delay_us: 2_000,
            loss: 0,
            cut: BTreeSet::new(),
            paused: BTreeMap::new(),
            turn_us: 0,
            skew_ms: BTreeMap::new(),
            epochs: BTreeMap::new(),
            log: Vec::new(),
            packets: 0,
            largest: 0,
            ticking: BTreeMap::new(),
        }
    }

    /// One that has run until everybody knows everybody.
    fn settled(seed: u64, nodes: u16) -> Net {
        let mut net = Net::new(seed, nodes);
        assert!(net.run_until(10 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
        net.run(SECOND);
        net
    }

    fn below(&mut self, bound: u64) -> u64 {
        let Ok(bits) = self.chance.try_next_u64();
        bits % bound.max(1)
    }

    fn start(&mut self, n: u16) {
        let seed = u128::from(self.below(u64::MAX)) << 64 | u128::from(n);
        let mut detector = Detector::new(name(n), seed, Settings::default());
        detector.ring(self.now(name(n)), &self.ring);
        self.nodes.insert(name(n), detector);
        self.ticking.remove(&name(n));
        self.after(name(n));
    }

    fn kill(&mut self, n: u16) {
        self.nodes.remove(&name(n));
    }

    fn now(&self, name: NodeName) -> Now {
        let skew = self.skew_ms.get(&name).copied().unwrap_or(0);
        let wall_ms = (WALL_MS + self.now_us / 1000).saturating_add_signed(skew);
        Now { mono_us: self.now_us, wall_ms }
    }

    /// Has a node do something, now.
    fn with(&mut self, n: u16, action: impl FnOnce(&mut Detector, Now)) {
        let now = self.now(name(n));
        if let Some(detector) = self.nodes.get_mut(&name(n)) {
            action(detector, now);
            self.after(name(n));
        }
    }

    /// Sends what a node wants sent, and sets its timer.
    fn after(&mut self, from: NodeName) {
        let now_us = self.now_us;
        let detector = self.nodes.get_mut(&from).unwrap();
        let (outgoing, changes) = (detector.take_outgoing(), detector.take_changes());
        let wake_at = detector.wake_at();
        self.log.extend(changes.into_iter().map(|change| (now_us, from, change)));
        for (to, bytes) in outgoing {
            assert!(to != from, "{from} tells itself");
            self.packets += 1;
            self.largest = self.largest.max(bytes.len());
            let epoch = self.epochs.get(&from).copied().unwrap_or(1);
            if self.below(100) >= self.loss && !self.cut.contains(&(from, to)) {
                let delay_us = 100 + self.below(self.delay_us);
                self.at(now_us + delay_us, Happening::Packet { from, to, epoch, bytes });
            }
        }
        if let Some(at) = wake_at.map(|at| at.max(now_us + 1))
            && self.ticking.get(&from).is_none_or(|set| at < *set)
        {
            self.ticking.insert(from, at);
            self.at(at, Happening::Tick(from));
        }
    }

    fn at(&mut self, at_us: u64, what: Happening) {
        self.serial += 1;
        let turn_us = if self.turn_us > 0 { self.below(self.turn_us) } else { 0 };
        self.queue.insert((at_us + turn_us, self.serial), what);
    }

    fn run(&mut self, us: u64) {
        self.run_until(us, |_| false);
    }

    /// Runs until something holds, at most for so long; whether it holds.
    fn run_until(&mut self, us: u64, done: impl Fn(&Net) -> bool) -> bool {
        let end = self.now_us + us;
        while !done(self) {
            match self.queue.first_key_value() {
                Some(((at, _), _)) if *at <= end => self.happen(),
                _ => {
                    self.now_us = end;
                    return done(self);
                }
            }
        }
        true
    }

    fn happen(&mut self) {
        let ((at, serial), what) = self.queue.pop_first().unwrap();
        self.now_us = at;
        let to = match what {
            Happening::Packet { to, .. } | Happening::Tick(to) => to,
        };
        if let Some(until) = self.paused.get(&to).filter(|until| **until > at) {
            // In the order in which it came.
            self.queue.insert((*until, serial), what);
            return;
        }
        match what {
            Happening::Packet { from, to, epoch, bytes } => {
                self.with(to.0, |d, now| d.hear(now, from, epoch, &bytes).unwrap_or_default());
            }
            Happening::Tick(of) => {
                self.ticking.remove(&of);
                self.with(of.0, |d, now| {
                    if d.wake_at().is_some_and(|at| at <= now.mono_us) {
                        d.tick(now);
                    }
                });
            }
        }
    }

    fn view(&self, of: u16, at: u16) -> View {
        self.nodes[&name(at)].peer(name(of)).unwrap().view
    }

    /// Whether every node that runs thinks this of that one.
    fn all_think(&self, of: u16, view: View) -> bool {
        self.nodes.keys().filter(|n| **n != name(of)).all(|n| self.view(of, n.0) == view)
    }

    fn all_alive(&self) -> bool {
        self.ring.iter().all(|n| self.all_think(n.0, View::Alive))
    }

    /// Changes to this view since some moment.
    fn changes_to(&self, to: View, since_us: u64) -> Vec<(u64, NodeName, NodeName)> {
        let entries = self.log.iter().filter(|(at, _, change)| *at >= since_us && change.to == to);
        entries.map(|(at, observer, change)| (*at, *observer, change.peer)).collect()
    }
}
