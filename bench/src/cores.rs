//! Cores and stores in one thread, without sockets: what a processor has to do, and what nodes tell each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ringkv_common::key::Key;
use ringkv_common::message::Limits;
use ringkv_common::message::peer::{Frame, Message};
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::{Strategy, WEIGHT_DEFAULT};
use ringkv_common::ring::plan::{Founding, found};
use ringkv_common::ring::{self, ClusterId, Ring};
use ringkv_common::time::{Now, Stamp};
use ringkv_common::version::{Actor, Content, Dot, Siblings, Version};
use ringkv_server::core::{Effect, Event, Identity, Node};
use ringkv_server::store::{Memory, Storage};

/// The cluster that they are of.
pub const CLUSTER: ClusterId = ClusterId(1);

/// A node with its store, and the time that each of its doings took.
pub struct Half {
    name: NodeName,
    node: Node,
    /// Its store.
    pub store: Memory,
    scans: Vec<Effect>,
    sent: Vec<Message>,
    /// Its clocks.
    pub now: Now,
    /// What its doings took.
    pub took: Took,
    /// Messages that it sent, and their bytes.
    pub told: (u64, u64),
}

/// How long each of a node's doings took in all.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Took {
    pub step: Duration,
    pub scan: Duration,
    pub digest: Duration,
    pub read: Duration,
    pub write: Duration,
    pub encode: Duration,
    pub decode: Duration,
}

impl Half {
    /// Node `n`, with an empty store.
    pub fn new(n: u16, partitions: u32) -> Half {
        let name = NodeName(n);
        let node = Node::new(Identity {
            name,
            host: "127.0.0.1".into(),
            ports: ports(n),
            cluster: "bench".into(),
            consul: String::new(),
            pid: 1,
            limits: Limits::default(),
            actor: u128::from(n) + 1,
            quorums: Default::default(),
            tombstone_ms: ringkv_server::core::TOMBSTONE_MS,
            window_bytes: ringkv_server::core::WINDOW_BYTES,
            allow_faults: false,
        });
        let now = Now { mono_us: 1, wall_ms: 1_800_000_000_000 };
        Half {
            name,
            node,
            store: Memory::new(partitions),
            scans: vec![],
            sent: vec![],
            now,
            took: Took::default(),
            told: (0, 0),
        }
    }

    /// As the shell does it: effects in order, each with all that follows from it.
    pub fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        let began = Instant::now();
        self.node.step(self.now, event, &mut effects);
        self.took.step += began.elapsed();
        self.store.warm(effects.iter().filter_map(|e| match e {
            Effect::Read { key, .. } => Some(key),
            _ => None,
        }));
        let mut following = Vec::new();
        for effect in effects {
            following.push(effect);
            let mut at = 0;
            while at < following.len() {
                let effect = std::mem::replace(&mut following[at], Effect::Leave);
                at += 1;
                let began = Instant::now();
                let event = match effect {
                    Effect::Read { token, key } => {
                        let siblings = self.store.read(&key);
                        self.took.read += began.elapsed();
                        Event::Read { token, siblings }
                    }
                    Effect::ReadMany { keys } => {
                        self.store.warm(keys.iter());
                        let read = |key: Key| (self.store.read(&key), key);
                        let records =
                            keys.into_iter().map(read).map(|(siblings, key)| (key, siblings)).collect();
                        self.took.read += began.elapsed();
                        Event::ReadMany { records }
                    }
                    Effect::Persist { token, key, siblings } => {
                        self.store.write(&key, &siblings);
                        self.took.write += began.elapsed();
                        Event::Persisted { token }
                    }
                    Effect::PersistMany { token, records } => {
                        for (key, siblings) in &records {
                            self.store.write(key, siblings);
                        }
                        self.took.write += began.elapsed();
                        Event::Persisted { token }
                    }
                    Effect::Send { message, .. } => {
                        self.sent.push(message);
                        continue;
                    }
                    Effect::Scan { .. } | Effect::Digest { .. } | Effect::Sums { .. } => {
                        self.scans.push(effect);
                        continue;
                    }
                    // Each by its name: an effect that is new shall not be passed over here.
                    Effect::Reply { .. }
                    | Effect::Measure { .. }
                    | Effect::Dead { .. }
                    | Effect::Drop { .. }
                    | Effect::Adopted(_)
                    | Effect::Connect { .. }
                    | Effect::Fault(_)
                    | Effect::Leave => continue,
                };
                let began = Instant::now();
                self.node.step(self.now, event, &mut following);
                self.took.step += began.elapsed();
            }
            following.clear();
        }
    }

    fn scan(&mut self) {
        for scan in std::mem::take(&mut self.scans) {
            let began = Instant::now();
            match scan {
                Effect::Scan { token, stretch, known, slice } => {
                    let (records, next) = self.store.scan(&stretch, &known, slice);
                    self.took.scan += began.elapsed();
                    self.step(Event::Scanned { token, records, next });
                }
                Effect::Digest { token, stretch, slice } => {
                    let (digests, next) = self.store.digests(&stretch, slice);
                    self.took.digest += began.elapsed();
                    self.step(Event::Digested { token, digests, next });
                }
                Effect::Sums { token, partition } => {
                    let sums = self.store.sums(partition);
                    self.step(Event::Sums { token, sums });
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, frame: &[u8]) -> Result<()> {
        let began = Instant::now();
        let frame = Frame::decode_all(frame)?.remove(0);
        self.took.decode += began.elapsed();
        self.step(Event::Peer(frame));
        Ok(())
    }

    /// What it has said since it was last asked, as frames.
    pub fn tell(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for message in std::mem::take(&mut self.sent) {
            let began = Instant::now();
            let frame = Frame { cluster: CLUSTER, from: self.name, message }.encode();
            self.took.encode += began.elapsed();
            self.told = (self.told.0 + 1, self.told.1 + frame.len() as u64);
            frames.push(frame);
        }
        frames
    }
}

fn ports(n: u16) -> Ports {
    Ports { client: 2000 + n, peer: 12_000 + n, http: 7000 + n }
}

/// Node `n` of a ring.
pub fn member(n: u16) -> ring::Node {
    let zone = "127.0.0.1".to_owned();
    ring::Node {
        name: NodeName(n),
        incarnation: 1,
        host: zone.clone(),
        ports: ports(n),
        zone,
        weight: WEIGHT_DEFAULT,
    }
}

/// The ring of a founded cluster of nodes 0 to `nodes` − 1.
pub fn founded(nodes: u16, replicas: usize) -> Result<Ring> {
    let founding = Founding {
        cluster_id: CLUSTER,
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 4_096,
        replicas,
        balance: Some(5.0),
    };
    Ok(found(&founding, (0..nodes).map(member).collect())?)
}

/// A key's state after its n-th write by one node: a value of 64 bytes.
pub fn written(counter: u64) -> Siblings {
    let dot = Dot { actor: Actor { id: 7, node: NodeName(0) }, counter };
    let content = Content::Json(Arc::from([b'7'; 64]));
    let mut siblings = Siblings::default();
    siblings.write(None, Version { dot, stamp: Stamp(counter), request: 0, contextual: false, content });
    siblings
}

/// Lets both talk until neither has anything to say.
///
/// # Errors
/// Where a frame cannot be read, which would be a defect.
pub fn converse(a: &mut Half, b: &mut Half) -> Result<()> {
    loop {
        let (to_b, to_a) = (a.tell(), b.tell());
        if to_b.is_empty() && to_a.is_empty() && a.scans.is_empty() && b.scans.is_empty() {
            return Ok(());
        }
        to_b.iter().try_for_each(|frame| b.hear(frame))?;
        to_a.iter().try_for_each(|frame| a.hear(frame))?;
        a.scan();
        b.scan();
    }
}
