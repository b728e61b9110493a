//! Who of the ring answers: failure detection by gossip.
//!
//! The problem: a node must know soon which peers are dead, without asking all of them all the time, and without
//! taking one lost message, or its own slowness, for somebody's death. The answer is SWIM (Das, Gupta, Motivala,
//! *SWIM*, 2002) with suspicion, by the library foca, which has no clock, socket or thread either. Each period a node
//! probes one peer; one that does not answer is probed by others on its behalf, then suspected, and called down when
//! it has not objected in time. What is learned travels on the probes and their answers.
//!
//! ```text
//!            probed without an answer, by nobody          no objection in time
//!   Alive ─────────────────────────────────────► Suspect ─────────────────────► Down
//!     ▲ ◄───────────── it objects ──────────────────┘                            │
//!     └──────────────────── it is heard, in another life ◄───────────────────────┘
//! ```
//!
//! What this module adds: the ring alone says who is a member; nodes of it that are not known to live are greeted
//! until they answer; a life of a node has a generation, so that its return is told from old news; timers stand still
//! while the node itself is late (`timers`). Every packet is sent with the epoch of its sender's ring, so who missed a
//! ring hears of it by the next probe, and whom to ask, until it has it.

mod chance;
mod hands;
mod life;
mod packet;
mod settings;
mod timers;
mod view;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use foca::{Foca, Member, Message, NoCustomBroadcast, State, Timer};
use ringkv_common::name::NodeName;
use ringkv_common::time::Now;

use self::chance::Chance;
use self::hands::Hands;
use self::life::{GENERATION_MAX, Life};
use self::packet::{Compact, Packet};
pub use self::settings::Settings;
use self::timers::{Purpose, Timers};
pub use self::view::{Change, Peer, Refusal, View};

type Swim = Foca<Life, Compact, Chance, NoCustomBroadcast>;

/// Nodes that are greeted at a time.
const ANNOUNCE_FANOUT: usize = 3;

/// Tells which nodes of the ring answer.
///
/// It runs while it is switched on and its own node is in the ring. Whoever drives it gives it what arrives, ticks it
/// when it wants to be, and takes what is to be sent after every call.
pub struct Detector {
    me: NodeName,
    settings: Settings,
    chance: Chance,
    on: bool,
    /// The generation of the present life, or of the last one.
    generation: u64,
    /// None while it does not run.
    swim: Option<Swim>,
    timers: Timers,
    /// All other nodes of the ring, if this one is in it.
    peers: BTreeMap<NodeName, Peer>,
    /// Who was greeted last.
    greeted: NodeName,
    outgoing: Vec<(NodeName, Box<[u8]>)>,
    changes: Vec<Change>,
}

impl Detector {
    /// A detector that knows no ring yet, and is switched on. `seed` is its chance: the same one, told the same, does
    /// the same.
    pub fn new(me: NodeName, seed: u128, settings: Settings) -> Detector {
        Detector {
            me,
            settings,
            chance: Chance::new(seed),
            on: true,
            generation: 0,
            swim: None,
            timers: Timers::default(),
            peers: BTreeMap::new(),
            greeted: me,
            outgoing: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Who is in the ring now. Who is not any more is forgotten; who is new is greeted.
    pub fn ring(&mut self, now: Now, names: &[NodeName]) {
        let listed = |name: &NodeName| names.contains(&self.me) && names.contains(name);
        let gone: Vec<NodeName> = self.peers.keys().copied().filter(|name| !listed(name)).collect();
        gone.into_iter().for_each(|name| self.forget(now, name));
        if !names.contains(&self.me) {
            return self.stop(now);
        }
        let me = self.me;
        for name in names.iter().filter(|name| **name != me) {
            let new = Peer { view: View::Unknown, since_us: now.mono_us, epoch: 0 };
            self.peers.entry(*name).or_insert(new);
        }
        if let Some(swim) = &mut self.swim {
            let config = self.settings.config(names.len());
            swim.set_config(config).expect("only the time for objections follows from the ring's size");
            self.await_unheard(now);
        } else if self.on {
            self.start(now);
        }
    }

    /// Switches gossip off or on. While it is off the node says and hears nothing, and knows nothing of its peers.
    pub fn switch(&mut self, now: Now, on: bool) {
        let was = std::mem::replace(&mut self.on, on);
        if was && !on {
            self.stop(now);
        } else if !was && on && !self.peers.is_empty() {
            self.start(now);
        }
    }

    /// Takes a packet that a node sent, and the epoch of that node's ring.
    pub fn hear(&mut self, now: Now, from: NodeName, epoch: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let Some(swim) = &self.swim else { return Ok(()) };
        let mine = swim.identity().generation;
        let peer = self.peers.get_mut(&from).ok_or(Refusal::Stranger)?;
        let mut packet = Packet::read(bytes).ok_or(Refusal::Malformed)?;
        let (sender, receiver) = (packet.header.src, packet.header.dst);
        if sender.name != from || receiver.name != self.me {
            return Err(Refusal::Forged);
        }
        let higher = packet.generation_of(self.me).filter(|g| *g > mine);
        if higher.is_some_and(|g| g >= GENERATION_MAX / 2) {
            return Err(Refusal::Malformed);
        }
        peer.epoch = epoch;
        self.forgive(now);
        if let Some(higher) = higher {
            // Its clock was set back between two lives.
            self.live_on(now, higher + 1);
        }
        if let Some(later) = self.life_of(from).filter(|life| life.generation > sender.generation) {
            // So was its sender's. Told only that it is dead it would try the next generation, and the next: it is shown
            // the last one.
            self.drive(now, |swim, hands| swim.announce(later, hands));
            return Ok(());
        }
        if higher.is_none() && receiver.generation < mine && packet.header.message != Message::Announce {
            // It speaks to an earlier life, so it has not heard of this one.
            self.drive(now, |swim, hands| swim.announce(sender, hands));
        }
        let (peers, me) = (&self.peers, self.me);
        let known = |life: &Life| peers.contains_key(&life.name);
        if packet.subject().is_some_and(|life| !known(life)) {
            self.look(now);
            return Ok(());
        }
        // Of itself it wants to hear what is said of its present life: that is to be denied.
        let mine = Life { name: me, generation: mine };
        let told = packet.news.len();
        packet.news.retain(|m| known(m.id()) || *m.id() == mine);
        let rest = if packet.news.len() < told { Cow::Owned(packet.write()) } else { Cow::Borrowed(bytes) };
        self.drive(now, |swim, hands| swim.handle_data(&rest, hands));
        if matches!(packet.header.message, Message::Ack(_)) {
            self.answered(now, sender);
        }
        self.look(now);
        Ok(())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        self.forgive(now);
        while let Some((purpose, timer)) = self.timers.due(now.mono_us) {
            match (purpose, timer) {
                (Purpose::Announce, _) => self.announce(now, ANNOUNCE_FANOUT),
                (Purpose::Unheard(name), _) => self.see(now, name, View::Down),
                (_, Some(timer)) => self.drive(now, |swim, hands| swim.handle_timer(timer, hands)),
                (_, None) => {}
            }
        }
        self.look(now);
    }

    /// When to tick next, in monotonic microseconds.
    pub fn wake_at(&self) -> Option<u64> {
        self.timers.wake_at()
    }

    /// Packets to be sent, and to whom.
    pub fn take_outgoing(&mut self) -> Vec<(NodeName, Box<[u8]>)> {
        std::mem::take(&mut self.outgoing)
    }

    /// Views that changed since they were last asked for, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What is thought of a node; `None`: it is not in the ring, or this node is not.
    pub fn peer(&self, name: NodeName) -> Option<Peer> {
        self.peers.get(&name).copied()
    }

    /// Whether gossip is on.
    pub fn is_on(&self) -> bool {
        self.on
    }

    fn start(&mut self, now: Now) {
        let clock = now.wall_ms.min(GENERATION_MAX / 2 - 1);
        self.swim = Some(self.life(clock.max(self.generation + 1)));
        self.announce(now, self.peers.len());
        self.await_unheard(now);
    }

    /// A life in which nothing is known yet.
    fn life(&mut self, generation: u64) -> Swim {
        self.generation = generation;
        let config = self.settings.config(self.peers.len() + 1);
        Foca::new(Life { name: self.me, generation }, config, self.chance.split(), Compact)
    }

    /// Goes on in another life, since this one is over for others. Whoever was called down was cut off, or stopped:
    /// what it thought of others meanwhile is not worth telling, so it only keeps whom it would greet.
    fn live_on(&mut self, now: Now, generation: u64) {
        let Some(before) = self.swim.take() else { return };
        let known = before.iter_members().map(|m| Member::new(*m.id(), m.incarnation(), State::Alive));
        let known: Vec<Member<Life>> = known.collect();
        self.timers.clear_for_foca();
        self.swim = Some(self.life(generation));
        self.drive(now, |swim, mut hands| {
            swim.apply_many(known.into_iter(), false, &mut hands)?;
            swim.gossip(hands)
        });
        self.announce(now, self.peers.len());
    }

    fn stop(&mut self, now: Now) {
        self.swim = None;
        self.timers.clear();
        self.outgoing.clear();
        let names: Vec<NodeName> = self.peers.keys().copied().collect();
        names.into_iter().for_each(|name| self.see(now, name, View::Unknown));
    }

    /// Nodes that were never heard of are greeted, and have some time to answer.
    fn await_unheard(&mut self, now: Now) {
        let unheard: Vec<NodeName> =
            self.peers.iter().filter(|(_, p)| p.view == View::Unknown).map(|(n, _)| *n).collect();
        if !unheard.is_empty() && !self.timers.has(Purpose::Announce) {
            self.announce(now, unheard.len());
        }
        for name in unheard {
            if !self.timers.has(Purpose::Unheard(name)) {
                self.timers.set(now.mono_us, Purpose::Unheard(name), self.settings.unheard_ms * 1000, None);
            }
        }
    }

    /// Greets so many of the nodes that are not known to live, each in its turn, and will again while there are any.
    fn announce(&mut self, now: Now, many: usize) {
        let Some(swim) = &self.swim else { return };
        let lives: BTreeMap<NodeName, &Member<Life>> =
            swim.iter_membership_state().map(|m| (m.id().name, m)).collect();
        let silent = |name: &NodeName| lives.get(name).is_none_or(|m| m.state() == State::Down);
        let mut names: Vec<NodeName> = self.peers.keys().copied().filter(silent).collect();
        if names.is_empty() {
            return;
        }
        let next = names.partition_point(|name| *name <= self.greeted) % names.len();
        names.rotate_left(next);
        names.truncate(many);
        let targets: Vec<Life> = names
            .iter()
            .map(|name| lives.get(name).map_or(Life { name: *name, generation: 0 }, |m| *m.id()))
            .collect();
        self.greeted = names.last().copied().unwrap_or(self.greeted);
        for target in targets {
            self.drive(now, |swim, hands| swim.announce(target, hands));
        }
        self.timers.set(now.mono_us, Purpose::Announce, self.settings.announce_ms * 1000, None);
    }

    fn forget(&mut self, now: Now, name: NodeName) {
        self.peers.remove(&name);
        self.timers.cancel(Purpose::Suspect(name));
        self.timers.cancel(Purpose::Unheard(name));
        let Some(life) = self.life_of(name) else { return };
        // foca forgets only who is down.
        self.drive(now, |swim, mut hands| {
            swim.apply_many([Member::down(life)].into_iter(), false, &mut hands)?;
            swim.handle_timer(Timer::RemoveDown(life), hands)
        });
    }

    /// The last life of a node that is known.
    fn life_of(&self, name: NodeName) -> Option<Life> {
        let mut members = self.swim.as_ref()?.iter_membership_state();
        members.find(|m| m.id().name == name).map(|m| *m.id())
    }

    /// Has foca do something, and carries out what it wants.
    fn drive(&mut self, now: Now, action: impl FnOnce(&mut Swim, Hands<'_>) -> Result<(), foca::Error>) {
        let Detector { swim: Some(swim), timers, outgoing, peers, generation, .. } = self else { return };
        let mut over = false;
        let hands = Hands { now_us: now.mono_us, timers, outgoing, peers, over: &mut over };
        let done = action(swim, hands);
        debug_assert!(done.is_ok(), "{done:?}");
        if over {
            let next = *generation + 1;
            self.live_on(now, next);
        }
    }

    /// A peer answered its probe, most likely: foca sees that nobody else need be asked, and the node can sleep on.
    fn answered(&mut self, now: Now, by: Life) {
        let asked = |timer: &Timer<Life>| matches!(timer, Timer::SendIndirectProbe { probed_id, .. } if *probed_id == by);
        if let Some(timer) = self.timers.take(Purpose::AskOthers, asked) {
            self.drive(now, |swim, hands| swim.handle_timer(timer, hands));
        }
    }

    fn forgive(&mut self, now: Now) {
        let Settings { late_ms, reply_ms, .. } = self.settings;
        self.timers.forgive(now.mono_us, late_ms * 1000, reply_ms * 1000);
    }

    /// Notes whose view has changed.
    fn look(&mut self, now: Now) {
        let Detector { swim: Some(swim), peers, .. } = self else { return };
        let view = |m: &Member<Life>| match m.state() {
            State::Alive => View::Alive,
            State::Suspect => View::Suspect,
            State::Down => View::Down,
        };
        let changed = |m: &Member<Life>| peers.get(&m.id().name).is_some_and(|p| p.view != view(m));
        let news: Vec<(NodeName, View)> =
            swim.iter_membership_state().filter(|m| changed(m)).map(|m| (m.id().name, view(m))).collect();
        let bad = news.iter().any(|(_, view)| matches!(view, View::Suspect | View::Down));
        for (name, view) in news {
            self.timers.cancel(Purpose::Unheard(name));
            self.see(now, name, view);
        }
        if bad {
            // At once: it spreads within milliseconds, and a suspect has all its time to object.
            self.drive(now, |swim, hands| swim.gossip(hands));
        }
    }

    fn see(&mut self, now: Now, name: NodeName, view: View) {
        let Some(peer) = self.peers.get_mut(&name).filter(|p| p.view != view) else { return };
        self.changes.push(Change { peer: name, from: peer.view, to: view });
        (peer.view, peer.since_us) = (view, now.mono_us);
        if view == View::Down && !self.timers.has(Purpose::Announce) {
            self.timers.set(now.mono_us, Purpose::Announce, self.settings.announce_ms * 1000, None);
        }
    }
}

impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.swim.as_ref().map(|swim| swim.identity());
        f.debug_struct("Detector").field("life", &life).field("peers", &self.peers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
