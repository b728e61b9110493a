//! The shell: the one loop that owns a node's sockets, its store and its core.
//!
//! It turns messages into events, carries out effects, and sleeps when there is nothing to do. Scans are the only
//! work that may take long, so they wait in line and one slice runs between other events.

mod clients;
mod faults;
mod monitor;
mod outgoing;
mod peers;
pub mod sockets;
mod wake;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringkv_common::key::Key;
use ringkv_common::message::Limits;
use ringkv_common::message::fault::Fault;
use ringkv_common::message::peer::Message;
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::ring::Ring;
use ringkv_common::time::Now;
use thiserror::Error;

use self::clients::Clients;
use self::faults::{Fate, Faults};
use self::monitor::Monitor;
use self::peers::Peers;
pub use self::sockets::only_ipv6;
use self::wake::{Sleeper, Waker};
use crate::core::{Defaults, Effect, Event, Gauges, Identity, Node, Status, TOMBSTONE_MS, WINDOW_BYTES};
use crate::store::{Memory, Storage};

/// Messages taken from one socket before the others have their turn.
const BATCH: usize = 256;
/// Bytes of requests that are taken before the others have their turn: it takes the longer the more they are.
const BATCH_BYTES: usize = 1 << 20;
/// How long frames of peers are taken before clients have their turn: a frame may hold as many records as take a good
/// part of it to join, and where a partition comes in, the next one is there when the last is done.
const FRAMES_MAX: Duration = Duration::from_micros(200);
/// Effects that are gathered before they are carried out: more keys than a processor fetches at once.
const EFFECTS: usize = 32;
/// Commands that may wait; they come from a handful of threads.
const COMMANDS_MAX: usize = 1024;
/// How long a node that is told to end may take to answer what is under way, in milliseconds.
const LAST_ANSWERS_MS: u64 = 1_000;
/// How often a busy loop hears what became of connections, and lets go of those that broke, in microseconds.
const LISTEN_US: u64 = 100_000;
/// How long the loop sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(1000);
/// How long it sleeps at most while messages wait for a peer's connection.
const SLEEP_UNSENT: Duration = Duration::from_millis(5);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub name: NodeName,
    /// The address that others are told.
    pub host: String,
    /// The address to listen on.
    pub bind: String,
    /// Its ports.
    pub ports: Ports,
    /// Limits of messages.
    pub limits: Limits,
    /// The cluster's name in Consul, for STATUS.
    pub cluster: String,
    /// Consul's address, for STATUS.
    pub consul: String,
    /// Quorums of requests that name none.
    pub quorums: Defaults,
    /// Faults on purpose that it begins with; `None`: it takes none.
    pub faults: Option<Vec<Fault>>,
}

/// Why a node could not start or go on.
#[derive(Debug, Error)]
pub enum ShellError {
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen on {endpoint}: {source}")]
    Bind {
        /// What was asked for.
        endpoint: String,
        /// What libzmq says.
        source: zmq::Error,
    },
    /// libzmq failed where it must not.
    #[error("ZeroMQ failed: {0}")]
    Zmq(#[from] zmq::Error),
    /// No randomness, or no eventfd.
    #[error("the system failed: {0}")]
    System(#[from] std::io::Error),
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    ShutDown,
    /// It was removed from the ring, has handed over all it held, and has forwarded long enough.
    Removed,
}

enum Command {
    Ring(Arc<Ring>),
    RingAbsent,
    Status(SyncSender<Status>),
    ShutDown,
}

/// Speaks to a running node from other threads.
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    waker: Waker,
}

impl Handle {
    /// Tells the node of a ring. It takes what is newer than its own.
    pub fn ring(&self, ring: Arc<Ring>) {
        self.tell(Command::Ring(ring));
    }

    /// Tells the node that Consul was read and has no ring. A node that hears this, or of a ring without it, before
    /// the first ring that lists it knows that it joined empty, and has not lost its memory.
    pub fn ring_absent(&self) {
        self.tell(Command::RingAbsent);
    }

    /// Ends the node.
    pub fn shut_down(&self) {
        self.tell(Command::ShutDown);
    }

    /// What the node says of itself; `None` where it has ended or does not answer within two seconds.
    pub fn status(&self) -> Option<Status> {
        let (sender, receiver) = sync_channel(1);
        self.tell(Command::Status(sender));
        receiver.recv_timeout(Duration::from_secs(2)).ok()
    }

    fn tell(&self, command: Command) {
        // A node that has ended needs no telling.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

/// A node with its sockets.
pub struct Shell {
    node: Node,
    store: Memory,
    clients: Clients,
    peers: Peers,
    faults: Faults,
    monitors: [Monitor; 2],
    /// When a busy loop listens to them next.
    listen_at_us: u64,
    commands: Receiver<Command>,
    handle: Handle,
    sleeper: Sleeper,
    /// What is to be done.
    effects: Vec<Effect>,
    /// What is to be done first, since it follows from the effect at hand. Empty between effects.
    following: Vec<Effect>,
    /// Scans that wait for a quiet moment.
    scans: VecDeque<Effect>,
    started: Instant,
    /// Told to end, and answering what is under way.
    ending: bool,
    end: Option<End>,
}

impl Shell {
    /// Listens on the client and the peer port.
    pub fn bind(config: Config) -> Result<Shell, ShellError> {
        let context = zmq::Context::new();
        let (clients, of_clients) = Clients::bind(&context, &config)?;
        let (peers, of_peers) = Peers::bind(context, &config)?;
        let mut actor = [0u8; 16];
        getrandom::fill(&mut actor).map_err(std::io::Error::from)?;
        let node = Node::new(Identity {
            name: config.name,
            host: config.host,
            ports: config.ports,
            cluster: config.cluster,
            consul: config.consul,
            pid: std::process::id(),
            limits: config.limits,
            actor: u128::from_le_bytes(actor),
            quorums: config.quorums,
            tombstone_ms: TOMBSTONE_MS,
            window_bytes: WINDOW_BYTES,
            allow_faults: config.faults.is_some(),
        });
        let mut faults = Faults::new(u64::from_le_bytes(actor[..8].try_into().expect("eight of sixteen")));
        config.faults.iter().flatten().for_each(|fault| faults.take(fault));
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let (waker, sleeper) = wake::pair()?;
        Ok(Shell {
            node,
            // Without a ring there is no partition; the store is made anew with the first one.
            store: Memory::new(0),
            clients,
            peers,
            faults,
            monitors: [of_clients, of_peers],
            listen_at_us: 0,
            commands,
            handle: Handle { commands: sender, waker },
            sleeper,
            effects: Vec::new(),
            following: Vec::new(),
            scans: VecDeque::new(),
            started: Instant::now(),
            ending: false,
            end: None,
        })
    }

    /// What other threads speak to it with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs the node until it ends.
    pub fn run(mut self) -> Result<End, ShellError> {
        loop {
            let now = self.now();
            let mut busy = self.take_commands(now);
            busy |= self.take_requests(now)?;
            busy |= self.flush_peers(now);
            busy |= self.take_frames(now)?;
            busy |= self.run_scan(now);
            busy |= self.send_late(now);
            if !busy || now.mono_us >= self.listen_at_us {
                self.listen_at_us = now.mono_us + LISTEN_US;
                self.monitors.iter_mut().for_each(|monitor| monitor.listen(now.mono_us));
                self.peers.settle();
            }
            if self.node.wake_at().is_some_and(|at| at <= now.mono_us) {
                self.step(now, Event::Tick);
            }
            busy |= self.flush_peers(now);
            if self.ending && !self.node.owes() {
                self.end.get_or_insert(End::ShutDown);
            }
            self.clients.flush();
            if let Some(end) = self.end {
                self.clients.linger()?;
                self.peers.linger()?;
                return Ok(end);
            }
            if !busy {
                self.sleep()?;
            }
        }
    }

    fn now(&self) -> Now {
        let mono_us = self.started.elapsed().as_micros() as u64;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_us, wall_ms: wall.as_millis() as u64 }
    }

    fn take_commands(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Ok(command) = self.commands.try_recv() {
            busy = true;
            match command {
                Command::Ring(ring) => self.step(now, Event::Ring(ring)),
                Command::RingAbsent => self.step(now, Event::RingAbsent),
                // Whoever asked may have gone.
                Command::Status(to) => {
                    let status = self.node.status(&self.store.measures(), &self.gauges(), false);
                    drop(to.try_send(status));
                }
                Command::ShutDown => {
                    self.ending = true;
                    self.step(now, Event::Close { within_ms: LAST_ANSWERS_MS });
                }
            }
        }
        busy
    }

    /// Requests are read together and then carried out together, so that the store can fetch their keys at once.
    fn take_requests(&mut self, now: Now) -> Result<bool, ShellError> {
        let (mut taken, mut bytes) = (0, 0);
        while taken < BATCH && bytes < BATCH_BYTES {
            let Some(message) = self.clients.receive()? else { break };
            taken += 1;
            bytes += message.frames.iter().map(|frame| frame.len()).sum::<usize>();
            let client = message.client;
            if self.node.has_failed() && !message.frames.first().is_some_and(|body| is_fault(body)) {
                self.clients.forget(client);
                continue;
            }
            let event = match message.frames.as_slice() {
                [body] if message.complete => Event::Request { client, body, value: None },
                [body, value] if message.complete => Event::Request { client, body, value: Some(value) },
                _ => Event::TooManyFrames { client, frames: message.count },
            };
            self.node.step(now, event, &mut self.effects);
            if self.effects.len() >= EFFECTS {
                self.carry_out_all(now);
            }
        }
        self.carry_out_all(now);
        Ok(taken > 0)
    }

    fn take_frames(&mut self, now: Now) -> Result<bool, ShellError> {
        let began = Instant::now();
        for taken in 0..BATCH {
            if taken > 0 && began.elapsed() >= FRAMES_MAX {
                break;
            }
            let Some(frame) = self.peers.receive()? else { return Ok(taken > 0) };
            self.step(now, Event::Peer(frame));
        }
        Ok(true)
    }

    fn run_scan(&mut self, now: Now) -> bool {
        let Some(scan) = self.scans.pop_front() else { return false };
        match scan {
            Effect::Scan { token, stretch, known, slice } => {
                let (records, next) = self.store.scan(&stretch, &known, slice);
                self.step(now, Event::Scanned { token, records, next });
            }
            Effect::Digest { token, stretch, slice } => {
                let (digests, next) = self.store.digests(&stretch, slice);
                self.step(now, Event::Digested { token, digests, next });
            }
            Effect::Sums { token, partition } => {
                let sums = self.store.sums(partition);
                self.step(now, Event::Sums { token, sums });
            }
            Effect::Dead { token, partitions, partitions_max, dead_max } => {
                let dead = self.store.dead_in(&partitions, partitions_max, dead_max);
                self.step(now, Event::Dead { token, dead });
            }
            other => unreachable!("{other:?} is no scan"),
        }
        true
    }

    fn flush_peers(&mut self, now: Now) -> bool {
        let unsent = self.peers.flush(now);
        let busy = !unsent.is_empty();
        for (to, message) in unsent {
            self.step(now, Event::Unsent { to, message });
        }
        busy
    }

    /// Gives the core an event and carries out all that follows from it.
    fn step(&mut self, now: Now, event: Event) {
        self.node.step(now, event, &mut self.effects);
        self.carry_out_all(now);
    }

    /// Carries out what was gathered, each effect with all that follows from it before the next one: so requests of
    /// one client end in the order in which they came.
    fn carry_out_all(&mut self, now: Now) {
        let mut effects = std::mem::take(&mut self.effects);
        self.store.warm(effects.iter().filter_map(key_to_read));
        let mut following = std::mem::take(&mut self.following);
        for effect in effects.drain(..) {
            self.follow(now, effect, &mut following);
            let mut at = 0;
            while at < following.len() {
                let effect = std::mem::replace(&mut following[at], Effect::Leave);
                at += 1;
                self.follow(now, effect, &mut following);
            }
            following.clear();
        }
        (self.effects, self.following) = (effects, following);
    }

    /// Carries out one effect, and appends what follows from it at once.
    fn follow(&mut self, now: Now, effect: Effect, following: &mut Vec<Effect>) {
        if let Some(event) = self.carry_out(now, effect) {
            self.node.step(now, event, following);
        }
    }

    /// Carries out an effect; what comes of it at once is returned.
    fn carry_out(&mut self, now: Now, effect: Effect) -> Option<Event<'static>> {
        match effect {
            Effect::Reply { client, frames } => self.clients.reply(client, frames),
            Effect::Send { to, message } => {
                if !self.faults.none() && self.faults.fate(now.mono_us, to, &message) != Fate::Sent {
                    return None;
                }
                return self.send(now, to, message);
            }
            Effect::Fault(fault) => self.faults.take(&fault),
            Effect::Read { token, key } => {
                let siblings = self.store.read(&key);
                return Some(Event::Read { token, siblings });
            }
            Effect::ReadMany { keys } => {
                self.store.warm(keys.iter());
                let read = |key: Key| (self.store.read(&key), key);
                let records = keys.into_iter().map(read).map(|(siblings, key)| (key, siblings)).collect();
                return Some(Event::ReadMany { records });
            }
            Effect::PersistMany { token, records } => {
                for (key, siblings) in &records {
                    self.store.write(key, siblings);
                }
                return Some(Event::Persisted { token });
            }
            Effect::Persist { token, key, siblings } => {
                self.store.write(&key, &siblings);
                return Some(Event::Persisted { token });
            }
            Effect::Drop { token, partition } => {
                self.store.drop_partition(partition);
                return Some(Event::Persisted { token });
            }
            Effect::Measure { token } => {
                let measures = self.store.measures();
                return Some(Event::Measured { token, measures, gauges: self.gauges() });
            }
            Effect::Scan { .. } | Effect::Digest { .. } | Effect::Sums { .. } | Effect::Dead { .. } => {
                self.scans.push_back(effect);
            }
            Effect::Adopted(ring) => self.adopt(&ring),
            Effect::Connect { node, host, port } => self.peers.connect_stranger(node, &host, port),
            Effect::Leave => self.end = Some(End::Removed),
        }
        None
    }

    fn send(&mut self, now: Now, to: NodeName, message: Message) -> Option<Event<'static>> {
        let cluster = self.node.cluster_id();
        let unsent = self.peers.send(now, to, cluster, message);
        unsent.map(|message| Event::Unsent { to, message })
    }

    /// Sends what faults made late, when it is due.
    fn send_late(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some((to, message)) = self.faults.due(now.mono_us) {
            busy = true;
            if let Some(event) = self.send(now, to, message) {
                self.step(now, event);
            }
        }
        busy
    }

    fn gauges(&self) -> Gauges {
        let (unread_replies, unread_bytes) = self.clients.unread();
        Gauges {
            store: self.store.kind(),
            unread_bytes,
            unread_replies,
            malformed_frames: self.peers.malformed,
            handshakes_failed: self.monitors.iter().map(|m| m.failed).sum(),
            connections_ended: self.monitors.iter().map(|m| m.ended).sum(),
        }
    }

    fn adopt(&mut self, ring: &Ring) {
        self.peers.connect_ring(ring);
        if self.store.partitions() != ring.partitions {
            let store = Memory::new(ring.partitions);
            self.store = if ring.replicas > 1 { store } else { store.without_sums() };
        }
        tracing::info!(epoch = ring.epoch, nodes = ring.nodes.len(), "goes by a new ring");
    }

    fn sleep(&mut self) -> Result<(), ShellError> {
        let wake_at = self.node.wake_at().into_iter().chain(self.faults.wake_at()).min();
        let until = wake_at.map_or(SLEEP_MAX, |at| {
            Duration::from_micros(at.saturating_sub(self.started.elapsed().as_micros() as u64))
        });
        let bound = if self.peers.waiting() { SLEEP_UNSENT } else { SLEEP_MAX };
        // Rounded up, or the loop would spin through the last millisecond.
        let timeout = until.min(bound).as_micros().div_ceil(1000) as i64;
        let sockets = [self.clients.socket(), self.peers.socket()];
        self.sleeper.sleep(&sockets, timeout)?;
        Ok(())
    }
}

/// Whether a request is about faults, as far as a node cares that hears of nothing else.
fn is_fault(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Op<'a> {
        op: &'a str,
    }
    serde_json::from_slice::<Op>(body).is_ok_and(|op| op.op == "FAULT")
}

fn key_to_read(effect: &Effect) -> Option<&Key> {
    match effect {
        Effect::Read { key, .. } => Some(key),
        _ => None,
    }
}
