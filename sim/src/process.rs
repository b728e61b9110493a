//! A node as a process: the core, its store, and how it carries out effects.

use std::collections::BTreeSet;

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::Limits;
use ringkv_common::message::peer::{Record, Stretch};
use ringkv_common::name::NodeName;
use ringkv_common::ring;
use ringkv_common::time::Now;
use ringkv_common::version::Siblings;
use ringkv_server::core::{Defaults, Event, Gauges, Identity, Node, Token};
use ringkv_server::store::{Memory, Slice, Storage};

/// The wall clock's reading when a simulation begins, in milliseconds.
const WALL_MS: i64 = 1_700_000_000_000;

/// What the store has to do.
#[derive(Debug)]
pub enum Work {
    /// Look a key up.
    Read(Token, Key),
    /// Look several keys up.
    ReadMany(Vec<Key>),
    /// Keep the states of some keys.
    Persist(Token, Vec<Record>),
    /// Forget a partition.
    Drop(Token, u32),
    /// Read records.
    Scan(Token, Stretch, Vec<(u64, u64)>, Slice),
    /// Compute digests.
    Digest(Token, Stretch, Slice),
    /// Say sums.
    Sums(Token, Option<u32>),
    Dead(Token, Vec<u32>, usize, usize),
    /// Count.
    Measure(Token),
}

/// A running node.
#[derive(Debug)]
pub struct Process {
    /// Which life of its name.
    pub life: u64,
    /// The core.
    pub node: Node,
    /// Its data; gone with the process.
    pub store: Memory,
    /// As it registers itself.
    pub registered: ring::Node,
    /// It does nothing before.
    pub paused_until_us: u64,
    /// How far its wall clock is off, in milliseconds.
    pub skew_ms: i64,
    /// Whom it has a connection to.
    pub connected: BTreeSet<NodeName>,
    /// When each kind of store work is through: reads, writes, scans.
    pub store_free_us: [u64; 3],
    /// When its next wake-up is due.
    pub wake_us: Option<u64>,
    /// Wake-ups in the present stretch of 100 ms, to catch one that spins.
    pub wakes: (u64, u32),
}

impl Process {
    /// A process with an empty memory.
    pub fn new(name: NodeName, life: u64, actor: u128, skew_ms: i64, served: (Defaults, usize)) -> Process {
        let (quorums, window_bytes) = served;
        let ports = name.ports(None).expect("a simulation numbers its nodes below 100");
        let host = "127.0.0.1".to_owned();
        let registered =
            ring::Node { name, incarnation: 0, host: host.clone(), ports, zone: host.clone(), weight: 100 };
        let node = Node::new(Identity {
            name,
            host,
            ports,
            cluster: "ringkv".into(),
            consul: "simulated".into(),
            pid: life as u32,
            limits: Limits::default(),
            actor,
            quorums,
            // Longer than any message lives here; and so short that a storm sees it.
            tombstone_ms: 10_000,
            window_bytes,
            allow_faults: false,
        });
        Process {
            life,
            node,
            store: Memory::new(0),
            registered,
            paused_until_us: 0,
            skew_ms,
            connected: BTreeSet::new(),
            store_free_us: [0; 3],
            wake_us: None,
            wakes: (0, 0),
        }
    }

    /// Its clocks.
    pub fn now(&self, now_us: u64) -> Now {
        Now { mono_us: now_us, wall_ms: (WALL_MS + self.skew_ms + (now_us / 1000) as i64) as u64 }
    }

    /// Does the store's work and says what came of it.
    pub fn work(&mut self, work: Work) -> Event<'static> {
        match work {
            Work::Read(token, key) => Event::Read { token, siblings: self.store.read(&key) },
            Work::ReadMany(keys) => {
                let records = keys.into_iter().map(|key| (key.clone(), self.store.read(&key))).collect();
                Event::ReadMany { records }
            }
            Work::Persist(token, records) => {
                let nothing = Siblings::default();
                for (key, siblings) in &records {
                    let gone = siblings.versions.iter().all(|v| v.content.is_tombstone());
                    let gone = gone && bug::on(Bug::CollectsTombstones);
                    self.store.write(key, if gone { &nothing } else { siblings });
                }
                Event::Persisted { token }
            }
            Work::Drop(token, partition) => {
                self.store.drop_partition(partition);
                Event::Persisted { token }
            }
            Work::Scan(token, stretch, known, slice) => {
                let (records, next) = self.store.scan(&stretch, &known, slice);
                Event::Scanned { token, records, next }
            }
            Work::Digest(token, stretch, slice) => {
                let (digests, next) = self.store.digests(&stretch, slice);
                Event::Digested { token, digests, next }
            }
            Work::Dead(token, partitions, partitions_max, dead_max) => {
                let dead = self.store.dead_in(&partitions, partitions_max, dead_max);
                Event::Dead { token, dead }
            }
            Work::Sums(token, partition) => Event::Sums { token, sums: self.store.sums(partition) },
            Work::Measure(token) => {
                let gauges = Gauges { store: self.store.kind(), ..Gauges::default() };
                Event::Measured { token, measures: self.store.measures(), gauges }
            }
        }
    }
}

impl Work {
    /// Which of the store's lines it waits in.
    pub fn line(&self) -> usize {
        match self {
            Work::Read(..) | Work::ReadMany(_) | Work::Measure(_) => 0,
            Work::Persist(..) | Work::Drop(..) => 1,
            Work::Scan(..) | Work::Digest(..) | Work::Sums(..) | Work::Dead(..) => 2,
        }
    }
}
