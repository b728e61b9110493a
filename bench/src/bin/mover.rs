//! What moving a record costs a processor, stage by stage: two cores and two stores in one thread, without sockets.
//!
//! ```text
//!   give: Fetch ─► Scan ─► Fetched ─► encode ═► decode ─► take: join, persist          compare: digests of both
//! ```
//!
//! `cargo run --release -p ringkv-bench --bin mover`

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ringkv_common::key::Key;
use ringkv_common::message::Limits;
use ringkv_common::message::peer::{Frame, Message};
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::{Strategy, WEIGHT_DEFAULT};
use ringkv_common::ring::plan::{Founding, add, found};
use ringkv_common::ring::{self, ClusterId, Ring, SignalId};
use ringkv_common::time::Now;
use ringkv_server::core::{Client, Effect, Event, Identity, Node};
use ringkv_server::store::{Memory, Storage};

/// As nodes have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: u64 = 1_000_000;
const CLUSTER: ClusterId = ClusterId(1);

/// A node with its store, and the time that each of its doings took.
struct Half {
    name: NodeName,
    node: Node,
    store: Memory,
    scans: Vec<Effect>,
    sent: Vec<Message>,
    now: Now,
    took: Took,
}

#[derive(Clone, Copy, Default)]
struct Took {
    step: Duration,
    scan: Duration,
    digest: Duration,
    read: Duration,
    write: Duration,
    encode: Duration,
    decode: Duration,
}

impl Half {
    fn new(n: u16, partitions: u32) -> Half {
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
        }
    }

    /// As the shell does it: effects in order, each with all that follows from it.
    fn step(&mut self, event: Event) {
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
                    Effect::Scan { .. } | Effect::Digest { .. } => {
                        self.scans.push(effect);
                        continue;
                    }
                    // Each by its name: an effect that is new shall not be passed over here.
                    Effect::Reply { .. }
                    | Effect::Measure { .. }
                    | Effect::Sums { .. }
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
                _ => {}
            }
        }
    }

    fn hear(&mut self, frame: &[u8]) -> Result<()> {
        let began = Instant::now();
        let frame = Frame::decode(frame)?;
        self.took.decode += began.elapsed();
        self.step(Event::Peer(frame));
        Ok(())
    }

    fn tell(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for message in std::mem::take(&mut self.sent) {
            let began = Instant::now();
            frames.push(Frame { cluster: CLUSTER, from: self.name, message }.encode());
            self.took.encode += began.elapsed();
        }
        frames
    }
}

fn ports(n: u16) -> Ports {
    Ports { client: 2000 + n, peer: 12_000 + n, http: 7000 + n }
}

fn member(n: u16) -> ring::Node {
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

/// Lets both talk until neither has anything to say.
fn converse(a: &mut Half, b: &mut Half) -> Result<()> {
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

fn main() -> Result<()> {
    measure(RECORDS)
}

/// Moves a share of so many records, and prints what that cost.
fn measure(records: u64) -> Result<()> {
    let founding = Founding {
        cluster_id: CLUSTER,
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 4_096,
        replicas: 1,
        balance: Some(5.0),
    };
    let founded = found(&founding, vec![member(0)])?;
    let [mut giver, mut taker] = [0, 1].map(|n| Half::new(n, founded.partitions));
    giver.step(Event::RingAbsent);
    taker.step(Event::Ring(founded.clone().into()));
    giver.step(Event::Ring(founded.clone().into()));
    let value = "0123456789abcdef".repeat(4);
    for n in 0..records {
        let body = format!(r#"{{"op":"PUT","key":"key:{n:012}","value":"{value}"}}"#);
        giver.step(Event::Request { client: Client(n), body: body.as_bytes(), value: None });
    }
    let signal = SignalId { name: "node-1".into(), index: 1 };
    let copy: Ring = add(&founded, member(1), signal)?;
    let both = copy.advanced();
    for (what, ring) in [("copy", copy), ("compare", both)] {
        for half in [&mut giver, &mut taker] {
            half.took = Took::default();
            half.step(Event::Ring(ring.clone().into()));
        }
        converse(&mut giver, &mut taker)?;
        let moved: u64 = taker.store.measures().iter().map(|(_, m)| m.stored).sum();
        (moved > 0).then_some(()).context("nothing moved")?;
        for (who, took) in [("giver", giver.took), ("taker", taker.took)] {
            let ns = |took: Duration| took.as_nanos() as f64 / moved as f64;
            println!(
                "{what} {who}: core {:.0} ns a record, scan {:.0}, digest {:.0}, read {:.0}, write {:.0}, encode {:.0}, \
                 decode {:.0}; {moved} records",
                ns(took.step),
                ns(took.scan),
                ns(took.digest),
                ns(took.read),
                ns(took.write),
                ns(took.encode),
                ns(took.decode),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn records_move_and_are_compared() {
        super::measure(1_000).expect("something moves");
    }
}
