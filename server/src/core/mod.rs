//! The node as a pure state machine: told what happened, it answers with what to do.
//!
//! It owns no socket, thread, clock or random source. Whoever drives it, the ZeroMQ shell or the simulator, carries
//! out the effects and reports back. Everything that takes more than one event is a `task`; whatever touches a
//! key's data goes through `keys`, which lets one operation after another see the last one's result.
//!
//! ```text
//!   Request ─► intake ─► coordinate ─┬─ not an owner ─► Send Forward … Forwarded ───────────────────────────► answer
//!                                    └─ owner ─► keys: Read … ─► read, or write: Persist, Send Replicate … ─► answer
//!   Peer    ─► replica ─┬─ join: Replicate             Ring ─► membership ─► transfer: pulls, hand-overs
//!                       ├─ give: Fetch                 acknowledge: what comes back of a write
//!                       └─ Query, Inspect              collect: tombstones that may go
//!              anti_entropy: what owners of the same partition lack
//!              gossip: who of the ring answers (detector), who has an older ring
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod absorb;
mod acknowledge;
mod answer;
mod anti_entropy;
mod author;
mod clocks;
mod close;
mod collect;
mod coordinate;
mod detector;
mod effect;
mod fanout;
mod faults;
mod fill;
mod gather;
mod give;
mod gossip;
mod hints;
mod intake;
mod join;
mod keys;
mod listing;
mod membership;
mod pace;
mod pull;
mod quorums;
mod read;
mod replica;
mod requests;
mod shortfall;
mod slice;
mod spread;
mod status;
mod surrender;
mod task;
mod transfer;
mod twins;
mod window;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringkv_common::bug::{self, Bug};
use ringkv_common::message::peer::{Beat, Id, Message};
use ringkv_common::message::{Code, Failure, Limits, reply};
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::NodeIndex;
use ringkv_common::ring::{ClusterId, Ring};
use ringkv_common::time::{HybridClock, Now};
use ringkv_common::version::Actor;

pub use answer::LARGE_BYTES;
pub use detector::View;
pub use effect::{Client, Effect, Event, Token};
pub use quorums::Defaults;
pub use status::{Gauges, Gossip, Peer, Status, Upkeep};

use self::anti_entropy::AntiEntropy;
use self::author::Author;
use self::clocks::Clocks;
use self::collect::Collection;
use self::detector::Detector;
use self::hints::Hints;
use self::keys::Keys;
use self::membership::Membership;
use self::pace::Pace;
use self::requests::Requests;
use self::task::Tasks;
use self::transfer::Transfers;
pub use self::window::WINDOW_BYTES;
use self::window::Window;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: NodeName,
    /// Where others reach it.
    pub host: String,
    /// Its ports there.
    pub ports: Ports,
    /// The name of its cluster in Consul, for STATUS and for newcomers.
    pub cluster: String,
    /// Where its Consul is, likewise.
    pub consul: String,
    /// The process, for whoever adopts it.
    pub pid: u32,
    /// Limits of messages.
    pub limits: Limits,
    /// 128 random bits: this life's actor.
    pub actor: u128,
    /// Quorums of requests that name none.
    pub quorums: Defaults,
    /// How long tombstones stay after all nodes have confirmed them, in milliseconds: longer than any message lives.
    pub tombstone_ms: u64,
    /// Bytes of what its clients ask for that are under way at once.
    pub window_bytes: usize,
    /// Whether it takes faults on purpose.
    pub allow_faults: bool,
}

/// Silence of a peer after which an operation is told it again, in milliseconds; then twice as long each time.
const RESEND_MS: u64 = 300;
/// What [`Identity::tombstone_ms`] is where nobody experiments (scylladb#23712, Garage's 24 h).
pub const TOMBSTONE_MS: u64 = 600_000;
/// Age up to which a forwarded operation is done without asking others whether they did it, in milliseconds. Whoever
/// forwards it asks another owner after [`RESEND_MS`], and not before.
const FRESH_MS: u64 = RESEND_MS - 50;
/// Milliseconds in which a node that is not stopped has something to do: longer than gossip's period.
const STOPPED_MS: u64 = 500;
/// How long what comes after a stop may have waited for its end, in milliseconds.
const AFTER_STOP_MS: u64 = 1_000;
/// Silence of a peer after which records are asked of it again, in milliseconds: its scans may wait behind others.
const FETCH_AGAIN_MS: u64 = 500;
/// Bytes of keys and values that may wait inside the node.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// A node.
#[derive(Debug)]
pub struct Node {
    id: Identity,
    now: Now,
    out: Vec<Effect>,
    ring: Option<Arc<Ring>>,
    /// This node's index in the ring, where it is in it.
    me: Option<NodeIndex>,
    clock: HybridClock,
    author: Author,
    tasks: Tasks,
    keys: Keys,
    requests: Requests,
    membership: Membership,
    transfers: Transfers,
    anti_entropy: AntiEntropy,
    clocks: Clocks,
    collection: Collection,
    hints: Hints,
    detector: Detector,
    gossip: gossip::Counts,
    waiting_bytes: usize,
    /// Writes whose clients were told that time is up.
    unsettled: usize,
    pace: Pace,
    window: Window,
    /// Until then what clients ask may be old: the node was stopped, and it waited.
    catching_up_until_us: u64,
    /// The last beat heard from each node.
    beats: BTreeMap<NodeName, Beat>,
    /// Told to fail.
    failed: bool,
    /// Peers' requests under way: one that is told again meanwhile is not begun again.
    open: BTreeSet<(NodeName, Id)>,
}

impl Node {
    /// A node that knows no ring yet and holds nothing.
    pub fn new(id: Identity) -> Node {
        let tasks = Tasks::of_life(id.actor);
        let detector = Detector::new(id.name, id.actor, detector::Settings::default());
        let actor = if bug::on(Bug::ReusesActor) { u128::from(id.name.0) } else { id.actor };
        Node {
            author: Author { actor: Actor { id: actor, node: id.name }, dots: 0 },
            id,
            now: Now::default(),
            out: Vec::new(),
            ring: None,
            me: None,
            clock: HybridClock::default(),
            tasks,
            keys: Keys::default(),
            requests: Requests::default(),
            membership: Membership::default(),
            transfers: Transfers::default(),
            anti_entropy: AntiEntropy::default(),
            clocks: Clocks::default(),
            collection: Collection::default(),
            hints: Hints::default(),
            detector,
            gossip: gossip::Counts::default(),
            waiting_bytes: 0,
            unsettled: 0,
            pace: Pace::default(),
            window: Window::default(),
            catching_up_until_us: 0,
            beats: BTreeMap::new(),
            failed: false,
            open: BTreeSet::new(),
        }
    }

    /// Takes an event and appends what is to be done to `effects`.
    pub fn step(&mut self, now: Now, event: Event<'_>, effects: &mut Vec<Effect>) {
        if self.now.mono_us > 0 && now.mono_us > self.now.after_ms(STOPPED_MS) {
            self.catching_up_until_us = now.after_ms(AFTER_STOP_MS);
        }
        self.now = now;
        std::mem::swap(&mut self.out, effects);
        match event {
            Event::Request { client, body, value } => self.on_request(client, body, value),
            Event::TooManyFrames { client, frames } => self.on_too_many_frames(client, frames),
            Event::Peer(_) if self.failed => {}
            Event::Peer(frame) => self.on_peer(frame),
            Event::Unsent { to, message } => self.on_unsent(to, message),
            Event::Read { token, siblings } => self.on_read(token, siblings),
            Event::ReadMany { records } => self.on_read_many(records),
            Event::Persisted { token } => self.on_persisted(token),
            Event::Scanned { token, records, next } => self.on_scanned(token, records, next),
            Event::Digested { token, digests, next } => self.on_digested(token, digests, next),
            Event::Sums { token, sums } => self.on_sums(token, &sums),
            Event::Dead { token, dead } => self.on_dead(token, dead),
            Event::Measured { token, measures, gauges } => self.on_measured(token, &measures, &gauges),
            Event::RingAbsent => self.membership.saw_no_ring(),
            Event::Ring(ring) => self.on_ring(ring),
            Event::Close { within_ms } => self.close(within_ms),
            Event::Gossip(on) => self.switch_gossip(on),
            Event::Tick => self.on_tick(),
        }
        self.admit();
        if self.failed {
            self.out.retain(|effect| !matches!(effect, Effect::Send { .. }));
        }
        std::mem::swap(&mut self.out, effects);
    }

    /// When to tick next, in monotonic microseconds; `None`: only when something happens.
    pub fn wake_at(&self) -> Option<u64> {
        let (tasks, membership) = (self.tasks.wake_at(), self.membership.wake_at());
        let (transfers, detector) = (self.transfers.wake_at(), self.detector.wake_at());
        let (repairs, collects) = (self.anti_entropy.wake_at(), self.collection.wake_at());
        [tasks, membership, transfers, detector, repairs, collects].into_iter().flatten().min()
    }

    /// The ring it goes by.
    pub fn ring(&self) -> Option<&Arc<Ring>> {
        self.ring.as_ref()
    }

    /// Its cluster; zeros before it has a ring.
    pub fn cluster_id(&self) -> ClusterId {
        self.ring.as_ref().map_or(ClusterId::default(), |r| r.cluster_id)
    }

    fn epoch(&self) -> u64 {
        self.ring.as_ref().map_or(0, |r| r.epoch)
    }

    fn on_tick(&mut self) {
        self.expire_tasks();
        self.tick_close();
        self.tick_membership();
        self.tick_transfers();
        self.tick_gossip();
        self.tick_anti_entropy();
        self.tick_collect();
    }

    fn on_too_many_frames(&mut self, client: Client, frames: usize) {
        let text =
            format!("the message has {frames} frames: send one JSON frame, and the value as a second one");
        let frames = reply::failure(&Failure::new(Code::BadRequest, text), &reply::Envelope::default());
        self.out.push(Effect::Reply { client, frames });
    }

    fn send(&mut self, to: NodeName, message: Message) {
        self.out.push(Effect::Send { to, message });
    }
}

#[cfg(test)]
mod tests;
