//! What goes wrong on purpose.

use ringkv_common::name::NodeName;

use crate::cluster::Cluster;
use crate::happening::Happening;
use crate::network::{NOTICED_US, Pair};

/// How much later than its time what is left of a broken connection may arrive, in microseconds.
const LATE_US_MAX: u64 = 1_000_000;
/// Names of nodes that a storm may meet.
pub(crate) const NODES: u16 = 9;

/// A fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A node's process is killed and starts again after some milliseconds.
    Kill(NodeName, u64),
    /// A launcher likewise.
    KillLauncher(usize, u64),
    /// A node does nothing for some milliseconds.
    Pause(NodeName, u64),
    /// A launcher likewise.
    PauseLauncher(usize, u64),
    /// The connection between two nodes breaks; what is under way is lost.
    Reset(NodeName, NodeName),
    /// It breaks, and stays so for some milliseconds.
    Cut(NodeName, NodeName, u64),
    /// What the first says does not reach the second for some milliseconds; the other way all is well.
    CutOneWay(NodeName, NodeName, u64),
    /// What the first says is held up for some milliseconds, and nobody is told: it arrives late, or is lost when both
    /// have noticed that nothing comes back.
    Stall(NodeName, NodeName, u64),
    /// These nodes and all others do not reach each other for some milliseconds: two halves, or one node alone.
    Split(Vec<NodeName>, u64),
    /// Consul is away for some milliseconds.
    ConsulAway(u64),
    /// Consul forgets everything.
    ConsulWiped,
    /// Consul is set back to an old snapshot.
    ConsulSetBack,
    /// Consul's snapshot is taken.
    ConsulBackedUp,
    /// A node's wall clock jumps by some milliseconds.
    Skew(NodeName, i64),
    /// Someone signals that a node be added, or removed.
    Signal(NodeName, bool),
    /// Someone signals a migration, to hrw or back.
    Migrate(bool),
}

impl Cluster {
    pub(crate) fn on_fault(&mut self, fault: Fault) {
        self.faults += 1;
        self.trace.add(self.now_us, "fault", format!("{fault:?}").as_bytes());
        self.trace.say(self.now_us, || format!("{fault:?}"));
        match fault {
            Fault::Kill(node, ms) => {
                if self.processes.contains_key(&node) {
                    self.kill(node);
                    self.after(ms * 1000, Happening::Start { node });
                }
            }
            Fault::KillLauncher(launcher, ms) => {
                self.kill_launcher(launcher);
                self.after(ms * 1000, Happening::Launcher { launcher });
            }
            Fault::Pause(node, ms) => {
                let until_us = self.now_us + ms * 1000;
                if let Some(process) = self.processes.get_mut(&node) {
                    // What it missed is told in order, when the longest of its pauses is over.
                    process.paused_until_us = process.paused_until_us.max(until_us);
                }
            }
            Fault::PauseLauncher(launcher, ms) => {
                let until_us = &mut self.launchers[launcher].paused_until_us;
                *until_us = (*until_us).max(self.now_us + ms * 1000);
            }
            Fault::Reset(a, b) => {
                self.break_off((a, b));
                self.break_off((b, a));
            }
            Fault::Cut(a, b, ms) => self.cut(&[(a, b), (b, a)], ms),
            Fault::CutOneWay(from, to, ms) => self.cut(&[(from, to)], ms),
            Fault::Stall(from, to, ms) => self.stall(from, to, ms),
            Fault::Split(side, ms) => {
                // Nodes that start meanwhile are on the other side.
                let others = (0..NODES).map(NodeName).filter(|n| !side.contains(n));
                let pairs = others.flat_map(|o| side.iter().flat_map(move |s| [(*s, o), (o, *s)]));
                self.cut(&pairs.collect::<Vec<Pair>>(), ms);
            }
            Fault::ConsulAway(ms) => {
                self.consul.away = true;
                self.after(ms * 1000, Happening::ConsulBack);
            }
            Fault::ConsulWiped => {
                self.consul.wipe();
                self.newest_may_be_gone();
                self.consul_changed();
            }
            Fault::ConsulBackedUp => self.consul.back_up(),
            Fault::ConsulSetBack => {
                self.consul.set_back();
                self.newest_may_be_gone();
                self.consul_changed();
            }
            Fault::Skew(node, ms) => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.skew_ms += ms;
                    self.skews.insert(node, process.skew_ms);
                }
            }
            Fault::Signal(node, add) => {
                self.signal(&node.to_string(), if add { "add" } else { "remove" });
            }
            Fault::Migrate(hrw) => self.signal("mode", if hrw { "hrw" } else { "consistent" }),
        }
    }

    /// Breaks connections, and lets none come to be for so long. One that was cut for longer stays so.
    fn cut(&mut self, pairs: &[Pair], ms: u64) {
        let until_us = self.now_us + ms * 1000;
        for pair in pairs {
            self.break_off(*pair);
            let link = self.network.link(*pair);
            link.cut_until_us = link.cut_until_us.max(until_us);
            self.at(until_us, Happening::Flush { from: pair.0, to: pair.1 });
        }
    }

    /// Breaks a connection. The receiver has some of what is under way, or all, or none; it may read that later than what
    /// the next connection brings.
    pub(crate) fn break_off(&mut self, pair: Pair) {
        let under_way = self.network.link(pair).under_way();
        let arrive = self.random.between(0, under_way);
        let late_us = if self.random.chance(1, 4) { self.random.below(LATE_US_MAX) } else { 0 };
        let from_us = self.now_us + late_us;
        self.network.link(pair).break_off(arrive, from_us);
    }

    /// Holds a connection up, and has it given up where that takes long: heartbeats of both directions need it.
    fn stall(&mut self, from: NodeName, to: NodeName, ms: u64) {
        let until_us = self.now_us + ms * 1000;
        let noticed_us = self.now_us + self.random.between(NOTICED_US.0, NOTICED_US.1);
        self.network.link((from, to)).hold_up(until_us);
        if noticed_us < until_us {
            for (from, to) in [(from, to), (to, from)] {
                let connection = self.network.link((from, to)).present;
                self.at(noticed_us, Happening::Noticed { from, to, connection });
            }
        }
    }

    pub(crate) fn on_noticed(&mut self, from: NodeName, to: NodeName, connection: u64) {
        let now_us = self.now_us;
        let link = self.network.link((from, to));
        if link.present != connection {
            return;
        }
        let until_us = link.held_up_until_us();
        self.break_off((from, to));
        // The next one cannot be made before, and needs both directions, too.
        if until_us > now_us {
            for pair in [(from, to), (to, from)] {
                let link = self.network.link(pair);
                link.cut_until_us = link.cut_until_us.max(until_us);
                self.at(until_us, Happening::Flush { from: pair.0, to: pair.1 });
            }
        }
    }

    /// Ends all cuts.
    pub(crate) fn heal(&mut self) {
        self.trace.say(self.now_us, || "all connections are possible again".into());
        for (from, to) in self.network.heal(self.now_us) {
            // Nobody connects again at once.
            let after_us = self.random.between(1_000, 100_000);
            self.after(after_us, Happening::Flush { from, to });
        }
    }

    /// Whether a fault may happen now: a cluster that nothing could survive says nothing.
    pub(crate) fn allows(&mut self, fault: &Fault) -> bool {
        let members = self.newest.as_ref().map_or(0, |ring| ring.nodes.len());
        match fault {
            // One at a time, and only when the others hold a ring: with the last copy of the ring the cluster would go.
            Fault::Kill(..) => members > 1 && self.may_kill(),
            // Not after a wipe: who restarts between a wipe and a return to the founding's snapshot takes that for the
            // founding, and cannot know what it lost.
            Fault::ConsulSetBack => self.consul.ring().0.is_some(),
            Fault::Signal(_, false) => members > 2,
            _ => true,
        }
    }

    /// A ring that was written and that nobody read before Consul lost it never was.
    fn newest_may_be_gone(&mut self) {
        let held = self.processes.values().filter_map(|p| p.node.ring().cloned());
        self.newest = held.chain(self.consul.ring().0).max_by_key(|r| r.epoch);
    }

    pub(crate) fn on_consul_back(&mut self) {
        self.consul.away = false;
        self.consul_changed();
    }
}
