//! STATUS and EXPLAIN: what a node says of itself and of where a key lives.

use ringkv_common::key::Key;
use ringkv_common::message::Terms;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::name::NodeName;
use ringkv_common::placement::{self, Standing, Strategy};
use ringkv_common::ring::orchestrator::Report;
use ringkv_common::ring::{self, Change, ClusterId, Ring};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Node;
use super::detector::View;
use super::effect::{Client, Effect, Token};
use super::task::Task;
use crate::store::Measure;

/// A STATUS under way: the store is counting.
#[derive(Debug)]
pub struct StatusTask {
    client: Client,
    id: Option<Box<str>>,
    ring: bool,
    peers: bool,
}

/// Another node as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub node: NodeName,
    /// Where it is.
    pub host: String,
    /// Its client port.
    pub port: u16,
    /// What gossip says of it.
    #[serde(default)]
    pub view: View,
    /// For how many milliseconds.
    #[serde(default)]
    pub for_ms: u64,
    /// The epoch of its ring when it was last heard itself; 0: it was not.
    #[serde(default)]
    pub epoch: u64,
}

/// What gossip has come to in this life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    /// Whether it is switched on.
    pub on: bool,
    /// How often a peer became suspect.
    pub suspicions: u64,
    /// How often a peer was called down.
    pub downs: u64,
    /// Packets that were not taken: no packets, or of nodes that are not in the ring.
    pub refused: u64,
}

/// What a node says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `OK`.
    pub status: String,
    /// The cluster's identity; absent before there is a ring.
    pub cluster_id: Option<ClusterId>,
    /// Its name in Consul.
    pub cluster: String,
    /// Where its Consul is.
    pub consul: String,
    /// This node.
    pub node: NodeName,
    /// The epoch in which it joined; 0 outside the ring.
    pub incarnation: u64,
    /// Its process.
    pub pid: u32,
    /// The ring's epoch; 0 without one.
    pub epoch: u64,
    /// How partitions are placed.
    pub strategy: Option<Strategy>,
    /// The change in progress, as in `add node-4, phase copy`.
    pub change: Option<String>,
    /// Records that it leads: all nodes' sum is the cluster's.
    pub keys: u64,
    /// Records that it stores, deleted ones too.
    pub stored: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The store's kind.
    pub store: String,
    /// Partitions whose data was lost with a memory: their number.
    pub lost_partitions: usize,
    /// Requests under way.
    pub tasks: usize,
    /// Bytes of keys and values that wait.
    pub waiting_bytes: usize,
    /// Requests of clients that wait because enough is under way.
    #[serde(default)]
    pub in_line: usize,
    /// Bytes of large replies that clients have not read yet.
    #[serde(default)]
    pub unread_bytes: usize,
    /// What was not taken: frames and rings of other clusters, messages that could not be sent, and more.
    pub refused: Refused,
    /// Connections to its ports that ended: hung up, silent, or cut off for a message over the maximum. libzmq does
    /// not tell which.
    #[serde(default)]
    pub connections_ended: u64,
    /// How far it is in a change.
    pub report: Report,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// By how many milliseconds its clock is ahead of the median of its peers'.
    #[serde(default)]
    pub clock_ahead_ms: i64,
    /// Whether that is so much that it leaves overwrites to other owners.
    #[serde(default)]
    pub leaves_overwrites: bool,
    /// What it does beside requests, for the replicas to be alike.
    #[serde(default)]
    pub upkeep: Upkeep,
    /// How this node learns of them.
    #[serde(default)]
    pub gossip: Gossip,
    /// The ring, where it was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<Box<RawValue>>,
}

/// What a node has done in this life for the replicas to be alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Comparisons with another owner.
    pub compared: u64,
    /// Records taken from others since.
    pub repaired: u64,
    /// Bytes of hints that it keeps now.
    pub hint_bytes: u64,
    /// Tombstones collected.
    pub collected: u64,
}

/// Counts of what was not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Frames of another cluster.
    pub foreign_frames: u64,
    /// Rings of another cluster, or unreadable ones.
    pub rings: u64,
    /// Messages that no peer took.
    pub unsent: u64,
    /// Versions of other nodes whose stamps are too far ahead.
    #[serde(default)]
    pub stamps: u64,
    /// Replies that no client took: it is gone, or reads nothing.
    #[serde(default)]
    pub replies: u64,
    /// Frames on the peer port that cannot be read.
    #[serde(default)]
    pub malformed_frames: u64,
    /// Connections to its ports that failed before they were established: half a greeting, HTTP, another protocol.
    #[serde(default)]
    pub handshakes: u64,
}

/// What whoever drives a node knows and counts, for the node's STATUS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// The store's kind.
    pub store: &'static str,
    /// Bytes of large replies that clients have not read yet.
    pub unread_bytes: usize,
    /// Replies that no client took.
    pub unread_replies: u64,
    /// Frames on the peer port that cannot be read.
    pub malformed_frames: u64,
    /// Connections that failed before they were established.
    pub handshakes_failed: u64,
    /// Connections that ended.
    pub connections_ended: u64,
}

impl Node {
    pub(super) fn begin_status(&mut self, client: Client, id: Option<Box<str>>, ring: bool, peers: bool) {
        let token = self.tasks.add(Task::Status(Box::new(StatusTask { client, id, ring, peers })));
        self.out.push(Effect::Measure { token });
    }

    pub(super) fn on_measured(&mut self, token: Token, measures: &[(u32, Measure)], gauges: &Gauges) {
        let Some(Task::Status(task)) = self.tasks.take(token) else { return };
        let mut status = self.status(measures, gauges, task.ring);
        if !task.peers {
            status.peers.clear();
        }
        self.reply(
            task.client,
            |envelope: Envelope| reply::plain(&status, &envelope),
            task.id.as_deref(),
            Terms::default(),
            None,
        );
    }

    /// What the node says of itself, with what its store holds and its driver counts.
    pub fn status(&self, measures: &[(u32, Measure)], gauges: &Gauges, with_ring: bool) -> Status {
        let ring = self.ring.as_deref();
        let leads = |p: u32| self.me.is_some() && ring.is_some_and(|r| Some(r.readers(p)[0]) == self.me);
        let sum = |f: fn(&Measure) -> u64| measures.iter().map(|(_, m)| f(m)).sum();
        let others = ring.iter().flat_map(|r| &r.nodes).filter(|n| n.name != self.id.name);
        let raw = |r: &Ring| r.to_json().ok().and_then(|text| RawValue::from_string(text).ok());
        Status {
            status: "OK".into(),
            cluster_id: ring.map(|r| r.cluster_id),
            cluster: self.id.cluster.clone(),
            consul: self.id.consul.clone(),
            node: self.id.name,
            incarnation: ring.and_then(|r| r.node_named(self.id.name)).map_or(0, |n| n.incarnation),
            pid: self.id.pid,
            epoch: self.epoch(),
            strategy: ring.map(|r| r.strategy),
            change: ring.and_then(|r| r.change.as_ref()).map(describe),
            keys: measures.iter().filter(|(p, _)| leads(*p)).map(|(_, m)| m.live).sum(),
            stored: sum(|m| m.stored),
            bytes: sum(|m| m.bytes),
            store: gauges.store.into(),
            lost_partitions: self.membership.lost().len(),
            tasks: self.tasks.len(),
            waiting_bytes: self.waiting_bytes,
            in_line: self.window.in_line(),
            unread_bytes: gauges.unread_bytes,
            connections_ended: gauges.connections_ended,
            refused: Refused {
                foreign_frames: self.membership.counters.foreign_frames,
                rings: self.membership.counters.refused_rings,
                unsent: self.membership.counters.unsent,
                stamps: self.membership.counters.stamps,
                replies: gauges.unread_replies,
                malformed_frames: gauges.malformed_frames,
                handshakes: gauges.handshakes_failed,
            },
            report: self.report(),
            peers: others.map(|n| self.peer(n)).collect(),
            clock_ahead_ms: self.clocks.ahead_ms(),
            leaves_overwrites: self.clocks.is_off(),
            upkeep: Upkeep {
                compared: self.anti_entropy.counts.rounds,
                repaired: self.anti_entropy.counts.repaired,
                hint_bytes: self.hints.bytes(),
                collected: self.collection.collected,
            },
            gossip: self.gossip_status(),
            ring: if with_ring { ring.and_then(raw) } else { None },
        }
    }

    fn peer(&self, node: &ring::Node) -> Peer {
        let seen = self.detector.peer(node.name);
        Peer {
            node: node.name,
            host: node.host.clone(),
            port: node.ports.client,
            view: seen.map_or(View::Unknown, |p| p.view),
            for_ms: seen.map_or(0, |p| self.now.mono_us.saturating_sub(p.since_us) / 1000),
            epoch: seen.map_or(0, |p| p.epoch),
        }
    }

    fn report(&self) -> Report {
        Report {
            epoch: self.epoch(),
            confirmed: self.epoch(),
            lost_partitions: self.membership.lost().iter().copied().collect(),
            ..self.transfers.report()
        }
    }

    pub(super) fn explain(&mut self, client: Client, id: Option<Box<str>>, terms: Terms, key: &Key) {
        let Some(ring) = self.ring.clone() else { return self.no_ring(client, id.as_deref()) };
        let explanation = Explanation::of(&ring, key, |partition| self.hints.of(partition));
        self.reply(
            client,
            |envelope: Envelope| reply::plain(&explanation, &envelope),
            id.as_deref(),
            terms,
            None,
        );
    }
}

fn describe(change: &Change) -> String {
    format!("{}, phase {}", change.kind, change.phase)
}

/// Where a key lives, and why.
#[derive(Serialize)]
struct Explanation {
    key: String,
    hash: String,
    partition: u32,
    partitions: u32,
    strategy: Strategy,
    /// The strategy's own order.
    order: Vec<Preferred>,
    owners: Vec<NodeName>,
    /// Whether balancing gave it to others than the strategy's own first choices.
    moved_by_balance: bool,
    next_owners: Option<Vec<NodeName>>,
    readers: Vec<NodeName>,
    change: Option<String>,
    /// Bytes of hints of the partition that this node keeps.
    hints: u64,
    epoch: u64,
}

/// A node's place in the strategy's own order: its rendezvous score, or its place on the ring of 2^64.
#[derive(Serialize)]
struct Preferred {
    node: NodeName,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

impl Explanation {
    fn of(ring: &Ring, key: &Key, hints: impl Fn(u32) -> u64) -> Explanation {
        let partition = key.partition(ring.partitions);
        let names = |row: &[u8]| row.iter().map(|i| ring.node(*i).name).collect::<Vec<_>>();
        let owners = ring.owners.owners(partition);
        let unbalanced = ring.unbalanced_owners(partition);
        Explanation {
            key: key.text().to_owned(),
            hash: format!("{:016x}", key.hash()),
            partition,
            partitions: ring.partitions,
            strategy: ring.strategy,
            owners: names(owners),
            moved_by_balance: owners.iter().any(|o| !unbalanced.contains(o)),
            next_owners: ring.change.as_ref().map(|c| names(c.target.owners(partition))),
            readers: names(ring.readers(partition)),
            change: ring.change.as_ref().map(describe),
            hints: hints(partition),
            epoch: ring.epoch,
            order: ring.preference(partition).iter().map(|p| Preferred::of(ring, p)).collect(),
        }
    }
}

impl Preferred {
    fn of(ring: &Ring, preferred: &placement::Preferred) -> Preferred {
        let node = ring.node(preferred.node).name;
        match preferred.standing {
            Standing::Score(score) => Preferred { node, score: Some(score), position: None },
            // As text: a JSON reader may not hold 64 bits.
            Standing::Position(at) => Preferred { node, score: None, position: Some(format!("{at:016x}")) },
        }
    }
}
