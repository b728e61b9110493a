//! The simulated world: one queue of what will happen, in the order of virtual time, and who it happens to.
//!
//! Whatever takes time puts a [`Happening`] into the queue; the loop takes the earliest, and that may put in more.
//! Nothing else moves, so a seed decides everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::peer::Frame;
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Outcome, Ring};
use ringkv_common::version::Clock;
use ringkv_server::core::Event;

use crate::consul::Consul;
use crate::faults::Fault;
use crate::happening::{Asker, Happening, Trap};
use crate::history::History;
use crate::launcher::Launcher;
use crate::network::{Fate, Network, Place};
use crate::process::Process;
use crate::random::Random;
use crate::settings::Settings;
use crate::trace::Trace;
use crate::workload::Worker;

/// Happenings that no history needs: who says the same to each other for ever has many more.
const HAPPENINGS_MAX: u64 = 500_000;

/// The whole world.
#[derive(Debug)]
pub struct Cluster {
    /// What it is made of.
    pub settings: Settings,
    /// Virtual microseconds.
    pub now_us: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    pub(crate) random: Random,
    /// What happened.
    pub trace: Trace,
    pub(crate) network: Network,
    /// Consul.
    pub consul: Consul,
    pub(crate) processes: BTreeMap<NodeName, Process>,
    pub(crate) lives: u64,
    pub(crate) skews: BTreeMap<NodeName, i64>,
    pub(crate) launchers: Vec<Launcher>,
    pub(crate) workers: Vec<Worker>,
    /// Names of actors that hostile clients have learned.
    pub(crate) actors: Vec<String>,
    /// Keys that a script wrote or read.
    pub(crate) scripted: BTreeSet<String>,
    pub(crate) asks: BTreeMap<u64, Asker>,
    pub(crate) asked: u64,
    /// Requests that a node took and has not answered.
    pub(crate) owed: BTreeMap<u64, (NodeName, u64)>,
    /// Answers to the scenario's questions; `None`: there was silence.
    pub(crate) replies: BTreeMap<u64, Option<Vec<u8>>>,
    /// What clients were told.
    pub history: History,
    /// The ring of the highest epoch that was ever written.
    pub newest: Option<Arc<Ring>>,
    /// Every ring that some node went by: one epoch has one ring.
    pub(crate) adopted: BTreeMap<u64, Arc<Ring>>,
    /// Nodes killed while a partition that moves had its data in two places.
    pub(crate) wounded: Vec<NodeName>,
    /// Partitions whose only holder was killed, and no operator has accepted that.
    pub lost: BTreeSet<u32>,
    /// When a node was killed last.
    pub(crate) killed_us: Option<u64>,
    /// What of each key was collected by some owner, which all of them had then.
    pub(crate) collected: BTreeMap<Key, Clock>,
    /// Where the next change is hit.
    pub trap: Option<Trap>,
    /// Replies that were errors or did not come, by what they were.
    pub failures: BTreeMap<String, u64>,
    /// Operations of clients that ended.
    pub operations: u64,
    /// Those that a node answered by doing what was asked, or by showing what is there; what hostile clients ask is not
    /// judged.
    pub acknowledged: u64,
    /// Things that went wrong on purpose.
    pub faults: u64,
    /// Whether clients begin new operations.
    pub working: bool,
    /// Every outcome that was written.
    pub outcomes: Vec<Outcome>,
}

impl Cluster {
    /// A world in which nothing runs yet.
    pub fn new(settings: Settings) -> Cluster {
        let mut cluster = Cluster {
            now_us: 1_000_000,
            queue: BTreeMap::new(),
            serial: 0,
            random: Random::new(settings.seed),
            trace: Trace::default(),
            network: Network::default(),
            consul: Consul::new(settings.nodes),
            processes: BTreeMap::new(),
            lives: 0,
            skews: BTreeMap::new(),
            launchers: Vec::new(),
            workers: Vec::new(),
            actors: Vec::new(),
            scripted: BTreeSet::new(),
            asks: BTreeMap::new(),
            asked: 0,
            owed: BTreeMap::new(),
            replies: BTreeMap::new(),
            history: History::new(settings.weak(), settings.strict_writers),
            newest: None,
            adopted: BTreeMap::new(),
            wounded: Vec::new(),
            lost: BTreeSet::new(),
            killed_us: None,
            collected: BTreeMap::new(),
            trap: None,
            failures: BTreeMap::new(),
            operations: 0,
            acknowledged: 0,
            faults: 0,
            working: false,
            outcomes: Vec::new(),
            settings,
        };
        for n in 0..cluster.settings.nodes {
            let after_us = cluster.random.below(200_000);
            cluster.after(after_us, Happening::Start { node: NodeName(n) });
        }
        for launcher in 0..cluster.settings.launchers {
            cluster.add_launcher(launcher);
        }
        cluster
    }

    /// A founded cluster, with its clients at work.
    ///
    /// # Panics
    /// Where it is not founded within a minute.
    pub fn founded(settings: Settings) -> Cluster {
        Cluster::new(settings).found()
    }

    /// Waits for the founding, and lets the clients begin.
    ///
    /// # Panics
    /// Where it is not founded within a minute.
    pub fn found(self) -> Cluster {
        let mut cluster = self;
        let founded = cluster.run_until(60_000, |c| c.everybody_has_the_newest_ring());
        assert!(founded, "seed {}: no ring within a minute", cluster.settings.seed);
        cluster.consul.back_up();
        cluster.begin_work();
        cluster
    }

    /// Puts something into the queue.
    pub(crate) fn after(&mut self, after_us: u64, what: Happening) {
        self.at(self.now_us + after_us, what);
    }

    pub(crate) fn at(&mut self, at_us: u64, what: Happening) {
        self.serial += 1;
        self.queue.insert((at_us.max(self.now_us), self.serial), what);
    }

    /// A random delay of a message.
    pub(crate) fn delay(&mut self) -> u64 {
        // Most are quick, some are slow: orders change between links.
        let most =
            if self.random.chance(1, 20) { self.settings.delay_us * 10 } else { self.settings.delay_us };
        self.random.between(50, most.max(51))
    }

    /// Has something go wrong after some milliseconds.
    pub fn fault(&mut self, after_ms: u64, fault: Fault) {
        self.after(after_ms * 1000, Happening::Fault(fault));
    }

    /// Lets it run for so long.
    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(ms, |_| false);
    }

    /// Lets it run until something holds, at most for so long; whether it holds.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&mut Cluster) -> bool) -> bool {
        let end = self.now_us + ms * 1000;
        let mut look_us = 0;
        loop {
            // Looking at the whole world is dear; every 20 ms of its time is often enough.
            if self.now_us >= look_us {
                if done(self) {
                    return true;
                }
                look_us = self.now_us + 20_000;
            }
            match self.queue.first_key_value() {
                Some(((at, _), _)) if *at <= end => self.happen(),
                _ => {
                    self.now_us = end;
                    return done(self);
                }
            }
        }
    }

    fn happen(&mut self) {
        let Some(((at, _), what)) = self.queue.pop_first() else { return };
        self.now_us = at;
        assert!(self.serial < HAPPENINGS_MAX, "seed {}: {HAPPENINGS_MAX} happenings", self.settings.seed);
        self.history.now_us = at;
        if let Some(until_us) = self.paused(&what) {
            return self.at(until_us, what);
        }
        match what {
            Happening::Frame { from, to, place, bytes } => self.on_frame(from, to, place, bytes),
            Happening::Gossip { from, to, connection, bytes } => self.on_gossip(from, to, connection, bytes),
            Happening::Noticed { from, to, connection } => self.on_noticed(from, to, connection),
            Happening::Flush { from, to } => self.flush(from, to),
            Happening::Asked { node, ask, body } => self.on_asked(node, ask, body),
            Happening::Answered { node, life, ask, body } => self.on_answered(node, life, ask, body),
            Happening::Silence { ask } => self.on_silence(ask),
            Happening::Stored { node, life, work } => self.on_stored(node, life, *work),
            Happening::Wake { node, life } => self.on_wake(node, life),
            Happening::Watch { node, life } => self.on_watch(node, life),
            Happening::Seen { node, life, ring } => self.on_seen(node, life, ring),
            Happening::Heartbeat { node, life } => self.on_heartbeat(node, life),
            Happening::Start { node } => self.start(node),
            Happening::Tick { launcher, life } => self.on_launcher_tick(launcher, life),
            Happening::Poll { launcher, life, again } => self.on_poll(launcher, life, again),
            Happening::Told { launcher, life, event } => self.tell_launcher(launcher, life, *event),
            Happening::Hand { launcher, life, action, sprung } => {
                self.on_hand(launcher, life, *action, sprung);
            }
            Happening::Launcher { launcher } => self.start_launcher(launcher),
            Happening::Move { worker, turn } => self.on_move(worker, turn),
            Happening::Fault(fault) => self.on_fault(fault),
            Happening::ConsulBack => self.on_consul_back(),
        }
    }

    /// Until when whoever this happens to is paused, if so.
    fn paused(&self, what: &Happening) -> Option<u64> {
        let until_us = match what {
            Happening::Frame { to: node, .. }
            | Happening::Gossip { to: node, .. }
            | Happening::Asked { node, .. }
            | Happening::Stored { node, .. }
            | Happening::Wake { node, .. }
            | Happening::Watch { node, .. }
            | Happening::Seen { node, .. }
            | Happening::Heartbeat { node, .. } => self.processes.get(node)?.paused_until_us,
            Happening::Tick { launcher, .. }
            | Happening::Poll { launcher, .. }
            | Happening::Told { launcher, .. } => self.launchers.get(*launcher)?.paused_until_us,
            _ => 0,
        };
        (until_us > self.now_us).then_some(until_us)
    }

    fn on_frame(&mut self, from: NodeName, to: NodeName, place: Place, bytes: Vec<u8>) {
        match self.network.link((from, to)).fate(place, self.now_us) {
            Fate::Arrives => {}
            Fate::Lost => return,
            Fate::Later(at_us) => return self.at(at_us, Happening::Frame { from, to, place, bytes }),
        }
        self.hear(from, to, &bytes);
    }

    /// Gossip has connections of its own, which break and are held up when the others do; what it says is in no order
    /// with anything, and is gone with the connection.
    fn on_gossip(&mut self, from: NodeName, to: NodeName, connection: u64, bytes: Vec<u8>) {
        let link = self.network.link((from, to));
        let held_up_us = link.held_up_until_us();
        if link.present != connection {
            return;
        }
        if held_up_us > self.now_us {
            return self.at(held_up_us, Happening::Gossip { from, to, connection, bytes });
        }
        self.hear(from, to, &bytes);
    }

    fn hear(&mut self, from: NodeName, to: NodeName, bytes: &[u8]) {
        if !self.processes.contains_key(&to) {
            return;
        }
        self.trace.add(self.now_us, "frame", bytes);
        let [frame]: [Frame; 1] =
            Frame::decode_all(bytes).ok().and_then(|f| f.try_into().ok()).expect("a node encoded one");
        self.trace.say(self.now_us, || {
            let text = format!("{:?}", frame.message);
            format!("{from} -> {to} {text}")
        });
        self.tell_node(to, Event::Peer(frame));
    }

    /// Writes a signal as an operator does.
    pub fn signal(&mut self, name: &str, value: &str) {
        self.trace.say(self.now_us, || format!("signal {name} {value}"));
        self.consul.forget_result(name);
        self.consul.signal(name, value);
        self.consul_changed();
    }

    /// Whether all nodes of the newest ring run, and all that run go by it.
    pub fn everybody_has_the_newest_ring(&mut self) -> bool {
        let Some(ring) = self.newest.clone() else { return false };
        let goes_by = |n: NodeName| {
            self.processes.get(&n).and_then(|p| p.node.ring()).is_some_and(|r| r.epoch == ring.epoch)
        };
        ring.nodes.iter().map(|n| n.name).chain(self.running()).all(goes_by)
    }
}
