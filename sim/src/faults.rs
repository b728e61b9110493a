//! What goes wrong on purpose.

use ringkv_common::name::NodeName;

use crate::cluster::{Cluster, Happening};
use crate::network::Pair;

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
                self.network.reset((a, b));
                self.network.reset((b, a));
            }
            Fault::Cut(a, b, ms) => self.cut(&[(a, b), (b, a)], ms),
            Fault::CutOneWay(from, to, ms) => self.cut(&[(from, to)], ms),
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
            self.network.reset(*pair);
            let link = self.network.link(*pair);
            link.cut_until_us = link.cut_until_us.max(until_us);
            self.at(until_us, Happening::Flush { from: pair.0, to: pair.1 });
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
