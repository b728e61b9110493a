//! What goes wrong on purpose.

use ringkv_common::name::NodeName;

use crate::cluster::{Cluster, Happening};

/// A fault.
#[derive(Clone, Copy, Debug)]
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
    /// Consul is away for some milliseconds.
    ConsulAway(u64),
    /// Consul forgets everything.
    ConsulWiped,
    /// Consul is set back to an old snapshot.
    ConsulSetBack,
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
                    process.paused_until_us = until_us;
                }
            }
            Fault::PauseLauncher(launcher, ms) => {
                self.launchers[launcher].paused_until_us = self.now_us + ms * 1000;
            }
            Fault::Reset(a, b) => {
                self.network.reset((a, b));
                self.network.reset((b, a));
            }
            Fault::Cut(a, b, ms) => {
                let until_us = self.now_us + ms * 1000;
                for pair in [(a, b), (b, a)] {
                    self.network.reset(pair);
                    self.network.link(pair).cut_until_us = until_us;
                    self.at(until_us, Happening::Flush { from: pair.0, to: pair.1 });
                }
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
