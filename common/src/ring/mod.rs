//! The ring: which nodes there are, which partitions each owns, and the change in progress.
//!
//! The ring is one JSON document with an epoch, replaced only by compare-and-set. Whoever holds the highest epoch
//! knows best; nothing is computed twice, so no two programs can disagree about an owner. `docs/ring.md` has the
//! schema for readers in other languages.
//!
//! A change is four epochs, and in each a partition has up to two rows of owners:
//!
//! ```text
//!   epoch   phase    reads   a write needs W of     what goes on
//!   e       –        old     old
//!   e + 1   copy     old     old (new told too)     new owners pull the data
//!   e + 2   both     old     old and new            new owners compare with the old ones and repair
//!   e + 3   switch   new     old and new            reads move over
//!   e + 4   – (done) new     new                    former owners hand over what is lacking, then delete
//! ```
//!
//! Each phase differs from the next in one quorum only, and a replica refuses requests of another epoch than its
//! own, so two neighbouring phases may be in force at once and still every read meets every acknowledged write.

mod change;
mod json;
pub mod orchestrator;
pub mod plan;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use self::change::{Change, Kind, Outcome, Phase, SignalId, Verdict};
pub use self::json::{EPOCH_MAX, FORMAT, RING_BYTES_MAX, RingError};
use crate::name::{NodeName, Ports};
use crate::placement::{self, NodeIndex, Preferred, Strategy, Table};

/// The most nodes a ring can have: owners are kept as one byte.
pub const NODES_MAX: usize = 256;

/// A cluster's identity: random, made when it is founded, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ClusterId(pub u128);

/// One node of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The epoch in which it joined: a name that is removed and added again is another node.
    pub incarnation: u64,
    /// Where others reach it: an address or a host name.
    pub host: String,
    /// Its ports there.
    #[serde(flatten)]
    pub ports: Ports,
    /// Replicas of one partition keep to distinct zones while zones suffice.
    pub zone: String,
    /// Its share of the data, relative to the others'; 100 is usual.
    pub weight: u32,
}

/// The ring of one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring {
    /// Which cluster it is of.
    pub cluster_id: ClusterId,
    /// Rises by one with every change of the ring.
    pub epoch: u64,
    /// How `owners` was made.
    pub strategy: Strategy,
    /// Whether somebody chose the strategy, or it came by default.
    pub chosen: bool,
    /// A power of two.
    pub partitions: u32,
    /// Replicas wanted; with fewer nodes there are as many as nodes.
    pub replicas: usize,
    /// How far a node may be above its fair share, in percent; `None`: the strategy's own order, unbalanced.
    pub balance: Option<f64>,
    /// The nodes; their place in this list is their index in the tables.
    pub nodes: Vec<Node>,
    /// Who owns which partition.
    pub owners: Table,
    /// The change in progress.
    pub change: Option<Change>,
    /// How the last change ended, until the next one begins: lets a resumed launcher finish its answer.
    pub last: Option<Outcome>,
}

/// The owners that a write has to do with, as indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'r> {
    /// A write needs its W here.
    pub writers: &'r [NodeIndex],
    /// The second row while the partition moves, and whether a write needs its W there too.
    pub also: Option<(&'r [NodeIndex], bool)>,
}

impl Ring {
    /// The node at an index of the tables.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[usize::from(index)]
    }

    /// The node of a name.
    pub fn node_named(&self, name: NodeName) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// The index of a name.
    pub fn index_of(&self, name: NodeName) -> Option<NodeIndex> {
        self.nodes.iter().position(|n| n.name == name).and_then(|at| NodeIndex::try_from(at).ok())
    }

    /// The table that reads follow now.
    pub fn read_table(&self) -> &Table {
        match &self.change {
            Some(change) if change.phase == Phase::Switch => &change.target,
            _ => &self.owners,
        }
    }

    /// The nodes that reads of a partition ask, the coordinator first.
    pub fn readers(&self, partition: u32) -> &[NodeIndex] {
        self.read_table().owners(partition)
    }

    /// The strategy's own order for a partition, before balance.
    pub fn preference(&self, partition: u32) -> Vec<Preferred> {
        placement::preference(self.strategy, &plan::members(&self.nodes, None), partition, self.partitions)
    }

    /// The owners that the strategy alone would give a partition.
    pub fn unbalanced_owners(&self, partition: u32) -> Vec<NodeIndex> {
        let order: Vec<NodeIndex> = self.preference(partition).iter().map(|p| p.node).collect();
        placement::spread(&order, &plan::members(&self.nodes, None), self.owners.width())
    }

    /// Whether the partition's owners differ between now and the change's end.
    pub fn moves(&self, partition: u32) -> bool {
        self.change
            .as_ref()
            .is_some_and(|c| !same_nodes(self.owners.owners(partition), c.target.owners(partition)))
    }

    /// Whom a write of this partition has to do with.
    pub fn route(&self, partition: u32) -> Route<'_> {
        let also = self
            .change
            .as_ref()
            .filter(|_| self.moves(partition))
            .map(|change| (change.target.owners(partition), change.phase != Phase::Copy));
        Route { writers: self.owners.owners(partition), also }
    }

    /// The names in a row of a table.
    pub fn names<'r>(&'r self, row: &'r [NodeIndex]) -> impl Iterator<Item = NodeName> + 'r {
        row.iter().map(|i| self.node(*i).name)
    }

    /// Whether this node holds the partition's data for good: in the owners or in the target table.
    pub fn holds(&self, node: NodeIndex, partition: u32) -> bool {
        self.owners.owners(partition).contains(&node)
            || self.change.as_ref().is_some_and(|c| c.target.owners(partition).contains(&node))
    }

    /// The partitions that a node receives in the change, each with those who can give it. Where a row of owners becomes
    /// shorter those who stay are among them: a write that the leaving owner and one of two others hold would else have
    /// one owner of two.
    pub fn incoming(&self, node: NodeIndex) -> Vec<(u32, SmallVec<[NodeName; 3]>)> {
        let Some(change) = &self.change else { return Vec::new() };
        let gains = |p: &u32| {
            let (old, new) = (self.owners.owners(*p), change.target.owners(*p));
            new.contains(&node) && (!old.contains(&node) || new.len() < old.len())
        };
        let from = |p: u32| self.owners.owners(p).iter().map(|i| self.node(*i).name).collect();
        (0..self.partitions).filter(gains).map(|p| (p, from(p))).collect()
    }
}

fn same_nodes(a: &[NodeIndex], b: &[NodeIndex]) -> bool {
    a.len() == b.len() && a.iter().all(|i| b.contains(i))
}

#[cfg(test)]
mod tests;
