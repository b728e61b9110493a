//! Nodes in the world: their lives, what they are told, and how their effects are carried out.

use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Frame, Message, Record};
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Phase, Ring, Verdict};
use ringkv_common::version::Siblings;
use ringkv_server::core::{Defaults, Effect, Event, Gauges, Status, Token};
use ringkv_server::store::{Memory, Storage};

use crate::cluster::Cluster;
use crate::happening::Happening;
use crate::network::{WAITING_US, Waiting};
use crate::process::{Process, Work};

/// Milliseconds between two heartbeats of a node.
const HEARTBEAT_MS: u64 = 1_000;
/// Wake-ups within 100 ms of virtual time that a healthy node never needs.
const WAKES_MAX: u32 = 5_000;

impl Cluster {
    /// Starts a node's process with an empty memory, unless it runs.
    pub(crate) fn start(&mut self, name: NodeName) {
        if self.processes.contains_key(&name) {
            return;
        }
        self.lives += 1;
        let actor = u128::from(self.random.bits()) << 64 | u128::from(self.random.bits());
        let most = self.settings.skew_ms as i64;
        let skew = self.random.below(2 * most as u64 + 1) as i64 - most;
        // A machine's clock outlives its processes.
        let skew_ms = *self.skews.entry(name).or_insert(skew);
        let life = self.lives;
        self.trace.add(self.now_us, "start", &name.0.to_le_bytes());
        self.trace.say(self.now_us, || format!("{name} starts, life {life}, clock {skew_ms} ms off"));
        let quorums = Defaults { sloppy: !self.settings.strict, ..Defaults::default() };
        let served = (quorums, self.settings.window_bytes);
        self.processes.insert(name, Process::new(name, life, actor, skew_ms, served));
        let watch_us = self.random.between(1_000, 60_000);
        self.after(watch_us, Happening::Watch { node: name, life });
        let heartbeat_us = self.random.between(1_000, 100_000);
        self.after(heartbeat_us, Happening::Heartbeat { node: name, life });
        for (from, to) in self.network.waiting_for(name) {
            let reconnect_us = self.random.between(10_000, 500_000);
            self.after(reconnect_us, Happening::Flush { from, to });
        }
    }

    /// Ends a node's process at once: its memory is gone, and what was under way to it.
    pub fn kill(&mut self, name: NodeName) {
        if self.processes.remove(&name).is_none() {
            return;
        }
        self.trace.add(self.now_us, "kill", &name.0.to_le_bytes());
        self.trace.say(self.now_us, || format!("{name} is killed"));
        self.killed_us = Some(self.now_us);
        self.disconnect(name);
        self.note_loss(name);
    }

    /// Ends a node's process in order.
    pub(crate) fn end(&mut self, name: NodeName) {
        if self.processes.remove(&name).is_none() {
            return;
        }
        self.trace.say(self.now_us, || format!("{name} ends"));
        self.consul.deregister(name);
        self.disconnect(name);
        self.consul_changed();
    }

    fn disconnect(&mut self, name: NodeName) {
        for pair in self.network.of(name) {
            if pair.1 == name {
                self.network.link(pair).lose_all();
            } else {
                // What it had sent may still arrive.
                self.break_off(pair);
            }
            if pair.0 == name {
                self.network.link(pair).waiting.clear();
            }
        }
    }

    /// What may be lost with a node's memory: see the table of phases in `ringkv_common::ring`.
    fn note_loss(&mut self, name: NodeName) {
        let Some(ring) = self.newest.clone() else { return };
        let Some(me) = ring.index_of(name) else { return };
        if ring.owners.width() > 1 {
            return;
        }
        let switched = ring.change.as_ref().is_some_and(|c| c.phase == Phase::Switch);
        self.wounded.push(name);
        let wounded = self.wounded.clone();
        let lost = |partition: u32| {
            let row = ring.owners.owners(partition);
            if !(switched && ring.moves(partition)) {
                return row.contains(&me);
            }
            // Two nodes hold it: it is lost when both were killed since the phase began.
            let target = ring.readers(partition);
            let both = row.iter().chain(target).all(|i| wounded.contains(&ring.node(*i).name));
            both && (row.contains(&me) || target.contains(&me))
        };
        let partitions: Vec<u32> = (0..ring.partitions).filter(|p| lost(*p)).collect();
        self.history.killed_holder_of(|key: &Key| partitions.contains(&key.partition(ring.partitions)));
        self.lost.extend(partitions);
    }

    /// What a new ring says about losses: a receiver that has all saves what its giver lost. One that died after its
    /// last word, and before the change ended, owns what it does not have; the former owner still has it, but cannot
    /// know whether the dead one took writes since, so it counts as lost until the operator accepts that.
    pub(crate) fn note_new_ring(&mut self, ring: &Ring) {
        let Some(before) = self.newest.clone() else { return };
        let ended = ring.change.is_none();
        if ring.owners.width() > 1 || ring.last.as_ref().is_some_and(|l| l.outcome == Verdict::Aborted) {
            return;
        }
        let whole = |p: u32| {
            let owner = ring.node(ring.readers(p)[0]).name;
            self.status(owner).is_some_and(|s| s.epoch > 0 && s.report.verified >= s.report.incoming)
        };
        let moves: Vec<u32> = (0..ring.partitions)
            .filter(|p| before.moves(*p) && (ended || ring.readers(*p) != ring.owners.owners(*p)))
            .collect();
        let (saved, gone): (Vec<u32>, Vec<u32>) = moves.into_iter().partition(|p| whole(*p));
        let count = ring.partitions;
        self.history.saved(|key: &Key| saved.contains(&key.partition(count)));
        self.lost.retain(|p| !saved.contains(p));
        if ended {
            self.history.killed_holder_of(|key: &Key| gone.contains(&key.partition(count)));
            self.lost.extend(gone);
        }
    }

    /// Tells a node what happened to it and carries out what follows.
    pub(crate) fn tell_node(&mut self, name: NodeName, event: Event<'_>) {
        let Some(process) = self.processes.get_mut(&name) else { return };
        let now = process.now(self.now_us);
        let life = process.life;
        let mut effects = Vec::new();
        process.node.step(now, event, &mut effects);
        let mut at = 0;
        while at < effects.len() {
            let effect = std::mem::replace(&mut effects[at], Effect::Leave);
            at += 1;
            let event = self.carry_out(name, life, effect);
            let Some(process) = self.processes.get_mut(&name) else { return };
            if let Some(event) = event {
                process.node.step(now, event, &mut effects);
            }
        }
        self.set_timer(name);
    }

    fn carry_out(&mut self, name: NodeName, life: u64, effect: Effect) -> Option<Event<'static>> {
        match effect {
            Effect::Reply { client, frames } => self.on_reply(name, life, client.0, frames.body),
            Effect::Send { to, message } => return self.send(name, to, message),
            Effect::Read { token, key } => return self.store(name, Work::Read(token, key)),
            Effect::ReadMany { keys } => return self.store(name, Work::ReadMany(keys)),
            Effect::Persist { token, key, siblings } => {
                return self.persist(name, token, vec![(key, siblings)]);
            }
            Effect::PersistMany { token, records } => return self.persist(name, token, records),
            Effect::Scan { token, stretch, known, slice } => {
                return self.store(name, Work::Scan(token, stretch, known, slice));
            }
            Effect::Digest { token, stretch, slice } => {
                return self.store(name, Work::Digest(token, stretch, slice));
            }
            Effect::Sums { token, partition } => return self.store(name, Work::Sums(token, partition)),
            Effect::Dead { token, partitions, partitions_max, dead_max } => {
                return self.store(name, Work::Dead(token, partitions, partitions_max, dead_max));
            }
            Effect::Measure { token } => return self.store(name, Work::Measure(token)),
            Effect::Drop { token, partition } => {
                self.check_dropped(name, partition);
                return self.store(name, Work::Drop(token, partition));
            }
            Effect::Adopted(ring) => self.on_adopted(name, &ring),
            Effect::Connect { node, .. } => {
                if let Some(process) = self.processes.get_mut(&name) {
                    process.connected.insert(node);
                }
            }
            Effect::Fault(_) => {}
            Effect::Leave => self.on_leave(name),
        }
        None
    }

    fn persist(&mut self, name: NodeName, token: Token, records: Vec<Record>) -> Option<Event<'static>> {
        for (key, siblings) in &records {
            if *siblings == Siblings::default() {
                self.note_collected(name, key);
            }
            for version in &siblings.versions {
                self.history.kept(key, version.dot, &version.content);
            }
        }
        self.store(name, Work::Persist(token, records))
    }

    /// Memory answers at once, a disk later; scans wait in line with either.
    fn store(&mut self, name: NodeName, work: Work) -> Option<Event<'static>> {
        let line = work.line();
        let takes_us = match line {
            0 => self.random.between(5, 800),
            1 => self.random.between(100, 4_000),
            _ => self.random.between(20, 600),
        };
        let process = self.processes.get_mut(&name)?;
        if line < 2 && !self.settings.slow_store {
            return Some(process.work(work));
        }
        // Readers are several, the line of writes and the line of scans are each one.
        let from_us = if line == 0 { self.now_us } else { process.store_free_us[line].max(self.now_us) };
        process.store_free_us[line] = from_us + takes_us;
        let life = process.life;
        self.at(from_us + takes_us, Happening::Stored { node: name, life, work: Box::new(work) });
        None
    }

    pub(crate) fn on_stored(&mut self, name: NodeName, life: u64, work: Work) {
        if let Some(process) = self.processes.get_mut(&name).filter(|p| p.life == life) {
            self.trace.say(self.now_us, || format!("{name} stores {work:?}"));
            let event = process.work(work);
            self.tell_node(name, event);
        }
    }

    fn on_adopted(&mut self, name: NodeName, ring: &Arc<Ring>) {
        self.trace.add(self.now_us, "adopted", &[name.0 as u8, ring.epoch as u8]);
        self.trace.say(self.now_us, || {
            let phase = ring.change.as_ref().map(|c| format!(", {} {}", c.kind, c.phase));
            format!("{name} goes by epoch {}{}", ring.epoch, phase.unwrap_or_default())
        });
        let first = self.adopted.entry(ring.epoch).or_insert_with(|| ring.clone());
        if *first != *ring {
            self.history.violations.push(format!("{name} goes by another ring of epoch {}", ring.epoch));
        }
        if self.newest.as_ref().is_some_and(|n| n.epoch < ring.epoch) {
            self.newest = Some(ring.clone());
        }
        let Some(process) = self.processes.get_mut(&name) else { return };
        process.connected.extend(ring.nodes.iter().map(|n| n.name));
        if process.store.partitions() != ring.partitions {
            process.store = Memory::new(ring.partitions);
        }
    }

    fn on_leave(&mut self, name: NodeName) {
        let Some(process) = self.processes.get(&name) else { return };
        let left: u64 = process.store.measures().iter().map(|(_, m)| m.stored).sum();
        if left > 0 {
            self.history.violations.push(format!("{name} left with {left} records"));
        }
        for (ask, _) in self.unanswered().into_iter().filter(|(_, node)| *node == name) {
            self.history.violations.push(format!("{name} left without an answer to request {ask}"));
        }
        self.end(name);
    }

    /// What the shell's peers do with a message.
    fn send(&mut self, from: NodeName, to: NodeName, message: Message) -> Option<Event<'static>> {
        let process = self.processes.get(&from)?;
        if from == to {
            self.history.violations.push(format!("{from} tells itself {message:?}"));
        }
        if !process.connected.contains(&to) {
            return Some(Event::Unsent { to, message });
        }
        let cluster = process.node.cluster_id();
        let bytes = Frame { cluster, from, message: message.clone() }.encode();
        let there = self.processes.contains_key(&to);
        let now_us = self.now_us;
        let link = self.network.link((from, to));
        if let Message::Gossip { .. } = message {
            if !there || link.cut_until_us > now_us {
                return Some(Event::Unsent { to, message });
            }
            let connection = link.present;
            let delay_us = self.delay();
            self.after(delay_us, Happening::Gossip { from, to, connection, bytes });
            return None;
        }
        if there && link.waiting.is_empty() && link.cut_until_us <= now_us {
            self.put_on_the_way(from, to, bytes);
        } else {
            link.waiting.push_back(Waiting { since_us: now_us, bytes, message });
            self.after(WAITING_US, Happening::Flush { from, to });
        }
        None
    }

    fn put_on_the_way(&mut self, from: NodeName, to: NodeName, bytes: Vec<u8>) {
        let delay_us = self.delay();
        let (place, at_us) = self.network.link((from, to)).take(self.now_us + delay_us);
        self.at(at_us, Happening::Frame { from, to, place, bytes });
    }

    pub(crate) fn flush(&mut self, from: NodeName, to: NodeName) {
        let there = self.processes.contains_key(&to);
        let now_us = self.now_us;
        loop {
            let link = self.network.link((from, to));
            let open = there && link.cut_until_us <= now_us;
            let Some(front) = link.waiting.front() else { return };
            if !open && front.since_us + WAITING_US > now_us {
                return;
            }
            let Some(front) = link.waiting.pop_front() else { return };
            if open {
                self.put_on_the_way(from, to, front.bytes);
            } else {
                self.tell_node(from, Event::Unsent { to, message: front.message });
            }
        }
    }

    fn set_timer(&mut self, name: NodeName) {
        let Some(process) = self.processes.get_mut(&name) else { return };
        let Some(at) = process.node.wake_at() else { return };
        let at = at.max(self.now_us + 1);
        if process.wake_us.is_none_or(|set| at < set) {
            process.wake_us = Some(at);
            let life = process.life;
            self.at(at, Happening::Wake { node: name, life });
        }
    }

    pub(crate) fn on_wake(&mut self, name: NodeName, life: u64) {
        let now_us = self.now_us;
        let Some(process) = self.processes.get_mut(&name).filter(|p| p.life == life) else { return };
        if process.wake_us.is_some_and(|at| at > now_us) {
            return;
        }
        process.wake_us = None;
        let stretch = now_us / 100_000;
        process.wakes =
            if process.wakes.0 == stretch { (stretch, process.wakes.1 + 1) } else { (stretch, 0) };
        assert!(process.wakes.1 < WAKES_MAX, "seed {}: {name} spins", self.settings.seed);
        if process.node.wake_at().is_some_and(|at| at <= now_us) {
            self.trace.add(now_us, "tick", &name.0.to_le_bytes());
            self.tell_node(name, Event::Tick);
        }
        self.set_timer(name);
    }

    pub(crate) fn on_watch(&mut self, name: NodeName, life: u64) {
        if self.processes.get(&name).is_some_and(|p| p.life == life) && !self.consul.away {
            let ring = self.consul.ring().0;
            let after_us = self.random.between(100, 20_000);
            self.after(after_us, Happening::Seen { node: name, life, ring });
        }
    }

    pub(crate) fn on_seen(&mut self, name: NodeName, life: u64, ring: Option<Arc<Ring>>) {
        if self.processes.get(&name).is_some_and(|p| p.life == life) {
            self.tell_node(name, ring.map_or(Event::RingAbsent, Event::Ring));
        }
    }

    pub(crate) fn on_heartbeat(&mut self, name: NodeName, life: u64) {
        let Some(process) = self.processes.get(&name).filter(|p| p.life == life) else { return };
        if !self.consul.away {
            let node = process.registered.clone();
            self.consul.heartbeat(&node, self.now_us);
        }
        self.after(HEARTBEAT_MS * 1000, Happening::Heartbeat { node: name, life });
    }

    /// What a node says of itself, where it runs.
    pub fn status(&self, name: NodeName) -> Option<Status> {
        self.processes.get(&name).map(|p| p.node.status(&p.store.measures(), &Gauges::default(), false))
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<NodeName> {
        self.processes.keys().copied().collect()
    }
}
