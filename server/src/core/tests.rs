//! The core by hand-made events: what happens is written down, and so is what must follow.
#![allow(clippy::unwrap_used)]

mod consent;
mod context;
mod garbage;
mod gossip;
mod listing;
mod lives;
mod moving;
mod overload;
mod replicas;
mod single;

use std::collections::VecDeque;
use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::Limits;
use ringkv_common::message::peer::{Frame, Message, Taken};
use ringkv_common::name::NodeName;
use ringkv_common::placement;
use ringkv_common::ring::plan::{self, Founding};
use ringkv_common::ring::{self, ClusterId, Ring, SignalId};
use ringkv_common::time::Now;
use ringkv_common::version::Siblings;
use serde_json::Value;

use super::*;
use crate::store::{Memory, Storage};

/// Partitions of the rings here.
const PARTITIONS: u32 = 64;

/// One node, its store, and what it wanted done that the bench cannot do by itself.
struct Bench {
    node: Node,
    now: Now,
    store: Memory,
    /// Reads, writes and scans are not answered but kept here.
    withholds: bool,
    withheld: VecDeque<Effect>,
    sent: Vec<(NodeName, Message)>,
    replies: Vec<(u64, Value)>,
    connected: Vec<NodeName>,
    left: bool,
    /// What the detector wants sent is sent.
    gossips: bool,
    clients: u64,
}

fn name(n: u16) -> NodeName {
    NodeName(n)
}

fn identity(n: u16) -> Identity {
    Identity {
        name: name(n),
        host: "h".into(),
        ports: name(n).ports(None).unwrap(),
        cluster: "ringkv".into(),
        consul: "http://h:8500".into(),
        pid: 7,
        limits: Limits { value_bytes_max: 1000, message_bytes_max: 20_000 },
        actor: 0xA000 + u128::from(n),
        quorums: Default::default(),
        tombstone_ms: TOMBSTONE_MS,
        window_bytes: WINDOW_BYTES,
        allow_faults: false,
    }
}

fn member(n: u16) -> ring::Node {
    let ports = name(n).ports(None).unwrap();
    ring::Node { name: name(n), incarnation: 0, host: "h".into(), ports, zone: "z".into(), weight: 100 }
}

/// The founding ring of nodes 0 to `nodes` − 1, one replica.
fn founding(nodes: u16) -> Ring {
    founding_of(nodes, 1)
}

fn founding_of(nodes: u16, replicas: usize) -> Ring {
    let founding = Founding {
        cluster_id: ClusterId(0xC1),
        strategy: placement::Strategy::Consistent,
        chosen: false,
        partitions: PARTITIONS,
        replicas,
        balance: Some(5.0),
    };
    plan::found(&founding, (0..nodes).map(member).collect()).unwrap()
}

fn signal(n: u64) -> SignalId {
    SignalId { name: format!("s{n}"), index: n }
}

/// The ring with which a node joins.
fn adding(ring: &Ring, n: u16) -> Ring {
    plan::add(ring, member(n), signal(ring.epoch)).unwrap()
}

/// The ring with which a node leaves.
fn removing(ring: &Ring, n: u16) -> Ring {
    plan::remove(ring, name(n), signal(ring.epoch)).unwrap()
}

/// The rings of a change, from its first phase to its end.
fn phases(first: Ring) -> [Ring; 4] {
    let both = first.advanced();
    let switch = both.advanced();
    let done = switch.advanced();
    [first, both, switch, done]
}

/// Keys for which `wanted` holds, told their partition.
fn keys(wanted: impl Fn(u32) -> bool) -> impl Iterator<Item = Key> {
    (0..).map(|n| Key::new(&format!("k{n}")).unwrap()).filter(move |k| wanted(k.partition(PARTITIONS)))
}

/// The first key that a node reads for.
fn key_of(ring: &Ring, n: u16) -> Key {
    let me = ring.index_of(name(n)).unwrap();
    keys(|p| ring.readers(p).contains(&me)).next().unwrap()
}

/// The first key that moves from a node to another in the ring's change.
fn moving_key(ring: &Ring, from: u16, to: u16) -> Key {
    let target = &ring.change.as_ref().unwrap().target;
    let (from, to) = (ring.index_of(name(from)).unwrap(), ring.index_of(name(to)).unwrap());
    keys(|p| ring.owners.owners(p) == [from] && target.owners(p) == [to]).next().unwrap()
}

impl Bench {
    fn without_ring(n: u16) -> Bench {
        Bench {
            node: Node::new(identity(n)),
            now: Now { mono_us: 1_000_000, wall_ms: 1_000_000 },
            store: Memory::new(PARTITIONS),
            withholds: false,
            withheld: VecDeque::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            connected: Vec::new(),
            left: false,
            gossips: false,
            clients: 0,
        }
    }

    /// A node of a cluster that is founded with this ring.
    fn founded(n: u16, ring: &Ring) -> Bench {
        let mut bench = Bench::without_ring(n);
        bench.step(Event::RingAbsent);
        bench.adopt(ring);
        bench
    }

    fn adopt(&mut self, ring: &Ring) {
        self.step(Event::Ring(Arc::new(ring.clone())));
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.node.step(self.now, event, &mut effects);
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            if let Some(event) = self.carry_out(effect) {
                let mut more = Vec::new();
                self.node.step(self.now, event, &mut more);
                queue.extend(more);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event<'static>> {
        match effect {
            Effect::Reply { client, frames } => {
                self.replies.push((client.0, serde_json::from_slice(&frames.body).unwrap()));
                None
            }
            // Peers that are made by hand do not answer it; `gossip` has whole ones.
            Effect::Send { message: Message::Gossip { .. }, .. } if !self.gossips => None,
            Effect::Send { to, message } => {
                self.sent.push((to, message));
                None
            }
            Effect::Connect { node, .. } => {
                self.connected.push(node);
                None
            }
            Effect::Adopted(_) => None,
            Effect::Fault(_) => None,
            Effect::Leave => {
                self.left = true;
                None
            }
            effect if self.withholds => {
                self.withheld.push_back(effect);
                None
            }
            effect => Some(self.store_does(effect)),
        }
    }

    fn store_does(&mut self, effect: Effect) -> Event<'static> {
        match effect {
            Effect::Read { token, key } => Event::Read { token, siblings: self.store.read(&key) },
            Effect::ReadMany { keys } => {
                let records = keys.into_iter().map(|key| (key.clone(), self.store.read(&key))).collect();
                Event::ReadMany { records }
            }
            Effect::PersistMany { token, records } => {
                records.iter().for_each(|(key, siblings)| self.store.write(key, siblings));
                Event::Persisted { token }
            }
            Effect::Persist { token, key, siblings } => {
                self.store.write(&key, &siblings);
                Event::Persisted { token }
            }
            Effect::Drop { token, partition } => {
                self.store.drop_partition(partition);
                Event::Persisted { token }
            }
            Effect::Scan { token, stretch, known, slice } => {
                let (records, next) = self.store.scan(&stretch, &known, slice);
                Event::Scanned { token, records, next }
            }
            Effect::Digest { token, stretch, slice } => {
                let (digests, next) = self.store.digests(&stretch, slice);
                Event::Digested { token, digests, next }
            }
            Effect::Dead { token, partitions, partitions_max, dead_max } => {
                let dead = self.store.dead_in(&partitions, partitions_max, dead_max);
                Event::Dead { token, dead }
            }
            Effect::Sums { token, partition } => Event::Sums { token, sums: self.store.sums(partition) },
            Effect::Measure { token } => {
                Event::Measured { token, measures: self.store.measures(), gauges: Gauges::default() }
            }
            other => unreachable!("{other:?} is not the store's"),
        }
    }

    /// Lets the store do the oldest of what was withheld.
    fn release_one(&mut self) {
        let effect = self.withheld.pop_front().expect("something was withheld");
        let event = self.store_does(effect);
        self.step(event);
    }

    /// Lets the store do all that was withheld, and withhold nothing from now on.
    fn release(&mut self) {
        self.withholds = false;
        while !self.withheld.is_empty() {
            self.release_one();
        }
    }

    /// Time passes, timer by timer.
    fn pass_ms(&mut self, ms: u64) {
        let end = self.now.mono_us + ms * 1000;
        let wall_ms = self.now.wall_ms + ms;
        while let Some(at) = self.node.wake_at().filter(|at| *at <= end) {
            assert!(at > self.now.mono_us || !self.spun(), "the timer does not spin");
            self.now.mono_us = self.now.mono_us.max(at);
            self.step(Event::Tick);
        }
        self.now = Now { mono_us: end, wall_ms };
    }

    /// Whether a tick at this moment leaves another one due at once.
    fn spun(&mut self) -> bool {
        self.step(Event::Tick);
        self.node.wake_at().is_some_and(|at| at <= self.now.mono_us)
    }

    /// A client asks; returns its number.
    fn ask(&mut self, json: &str) -> u64 {
        self.clients += 1;
        let client = Client(self.clients);
        self.step(Event::Request { client, body: json.as_bytes(), value: None });
        self.clients
    }

    /// A client asks and is answered at once.
    fn asked(&mut self, json: &str) -> Value {
        let client = self.ask(json);
        self.reply(client).unwrap_or_else(|| panic!("no reply to {json}"))
    }

    /// The one reply to a client, if it came.
    fn reply(&self, client: u64) -> Option<Value> {
        let mut replies = self.replies.iter().filter(|(c, _)| *c == client).map(|(_, r)| r.clone());
        let first = replies.next();
        assert!(replies.next().is_none(), "client {client} was answered twice");
        first
    }

    /// Another node of the cluster says something.
    fn hear(&mut self, from: u16, message: Message) {
        self.step(Event::Peer(Frame { cluster: ClusterId(0xC1), from: name(from), message }));
    }

    /// What was sent since the last look.
    fn sent(&mut self) -> Vec<(NodeName, Message)> {
        std::mem::take(&mut self.sent)
    }

    fn put(&mut self, key: &Key, value: &str) -> Value {
        self.asked(&put(key, value))
    }

    fn get(&mut self, key: &Key) -> Value {
        self.asked(&get(key))
    }

    fn status(&self) -> Status {
        self.node.status(&self.store.measures(), &Gauges::default(), false)
    }
}

fn put(key: &Key, value: &str) -> String {
    format!(r#"{{"op":"PUT","key":"{}","value":{value}}}"#, key.text())
}

fn get(key: &Key) -> String {
    format!(r#"{{"op":"GET_ONE","key":"{}"}}"#, key.text())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn ok() -> Value {
    json(r#"{"status":"OK"}"#)
}

/// The error code of a reply.
fn code(reply: &Value) -> &str {
    reply["code"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

/// Hands what two nodes send each other back and forth until both are silent.
fn converse(a: (u16, &mut Bench), b: (u16, &mut Bench)) {
    loop {
        let (from_a, from_b) = (a.1.sent(), b.1.sent());
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        for (_, message) in from_a.into_iter().filter(|(to, _)| *to == name(b.0)) {
            b.1.hear(a.0, message);
        }
        for (_, message) in from_b.into_iter().filter(|(to, _)| *to == name(a.0)) {
            a.1.hear(b.0, message);
        }
    }
}
