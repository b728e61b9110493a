//! Which nodes own which partition.
//!
//! The problem: spread partitions over nodes so that each carries its fair share, and when a node comes or goes,
//! move no more than its share. Hashing alone gives one half of that. A ring of virtual nodes (Karger et al. 1997)
//! or rendezvous hashing (Thaler & Ravishankar 1998) moves little but leaves one node of a hundred half again as
//! full as the mean; capping that statelessly (bounded loads, Mirrokni et al. 2016) makes one move push the next.
//!
//! The answer is Dynamo's third strategy (DeCandia et al. 2007, §6.2) with memory. Partitions are fixed, the owner
//! table is stored in the ring, and a new table starts from the last one:
//!
//! ```text
//!   members ──► fair shares ──► targets: each share rounded so that most stays where it is        share.rs
//!                                  │
//!   last table ──► keep ──► fill ──► level ──► chain ──► lead ──► new table          draft.rs, chain.rs, lead.rs
//!   (or pure         │       │         │         │         └ who stands first in a row
//!    order,          │       │         │         └ a → b → c where a may not give to c
//!    order.rs)       │       │         └ a node above its target gives to one below
//!                    │       └ a vacancy goes to a node below its target: of those the one the strategy likes best
//!                    └ whoever is an owner and may be one stays one
//! ```
//!
//! A *cell* is one partition's place for one replica; cells that change hands are data that crosses the network.
//!
//! - **Both optima at once.** Targets are shares rounded up or down. `fill` and `level` only give to nodes below
//!   their targets, so they move Σ (target − load) over those, and the rounding is chosen so that this is at most
//!   Σ (share − load): the minimum.
//! - **Chains for the rest.** Where zones are scarce the rules may let nobody who has too much give to anybody who
//!   lacks. The rules form a laminar family and the shares respect them, so a table with exactly the targets as
//!   loads exists, and an augmenting path leads towards it (Garage computes its layout by such flows, Oulamara &
//!   Auvolat 2023; here the residual graph is contracted to the nodes). Chains that only hand on what moves anyway
//!   are free. Others cost moves beyond the minimum, and stop at `balance` percent from the share.
//! - **Nothing depends on the order of the list of members**: nodes are told apart by name.
//! - **The strategy chooses which cells** a node gets: those in whose order it stands first. So a table stays near the
//!   strategy's own order, and near its former self when a node comes and goes again.
//!
//! Measured by `balance` in bench/ at 4,096 partitions, N = 1 and 3, both strategies, 4 ⇄ 5 to 100 ⇄ 101 nodes and
//! random histories: the fullest node at 1.000 to 1.011 of its share, which is less than one cell more; moved at most
//! the minimum; the strategies alone leave a node at up to 1.36. With nodes spread over five zones a leaving one forces
//! up to 1.3 of the minimum, where a minimum-cost flow needs hardly less (`tests/flow.rs`). 101 nodes take 3 ms
//! (`hrw` 15), 256 nodes and 65,536 partitions 0.1 s (0.6).
//!
//! Scores are computed with IEEE additions, multiplications and divisions alone, whose results are the same on
//! every platform. Even so nobody relies on it: the table in the ring is what counts, and it is never recomputed.

mod assess;
mod chain;
mod consistent;
mod draft;
mod hrw;
mod lead;
mod order;
mod roster;
mod share;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use assess::{Balance, assess};
pub use order::{Preferred, Standing, preference, spread};
pub use table::{Table, TableError};

use draft::Draft;
use order::Orders;
use roster::Roster;

/// A node's index in the ring's list of nodes.
pub type NodeIndex = u8;

/// The most nodes of a ring: what [`NodeIndex`] can tell apart.
pub const NODES_MAX: usize = 256;
/// The fewest partitions of a ring.
pub const PARTITIONS_MIN: u32 = 64;
/// The most partitions of a ring.
pub const PARTITIONS_MAX: u32 = 65_536;
/// The most replicas of a partition.
pub const REPLICAS_MAX: usize = 255;
/// The weight of a node that was given none. Only the relation between weights matters.
pub const WEIGHT_DEFAULT: u32 = 100;
/// The highest weight: it bounds the virtual nodes of the consistent ring.
pub const WEIGHT_MAX: u32 = 10_000;

/// How a partition ranks the nodes.
#[derive(Serialize, Deserialize, Copy, Clone, Eq, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The order in which a clockwise walk of a ring of weighted virtual nodes meets the nodes (Karger et al. 1997).
    Consistent,
    /// Highest random weight: the order of weighted rendezvous scores (Thaler & Ravishankar 1998).
    Hrw,
}

/// Some text names no strategy.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("unknown strategy {0:?}: it is consistent or hrw")]
pub struct StrategyError(pub String);

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Strategy::Consistent => "consistent",
            Strategy::Hrw => "hrw",
        })
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Strategy, StrategyError> {
        match text {
            "consistent" => Ok(Strategy::Consistent),
            "hrw" => Ok(Strategy::Hrw),
            _ => Err(StrategyError(text.to_owned())),
        }
    }
}

/// One node as placement sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// What tells the node apart from others, here and in every hash.
    pub name: String,
    /// Where it stands: replicas of a partition go to different zones while there are enough.
    pub zone: String,
    /// Its part of the load relative to others, 0 … [`WEIGHT_MAX`], usually [`WEIGHT_DEFAULT`].
    /// 0: it takes no partitions, it is leaving.
    pub weight: u32,
}

/// What a table is to be made of.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The order of preference.
    pub strategy: Strategy,
    /// All nodes of the ring; a node's index here is its index in the table.
    pub members: &'a [Member],
    /// A power of two, [`PARTITIONS_MIN`] … [`PARTITIONS_MAX`].
    pub partitions: u32,
    /// Owners wanted per partition, 1 … [`REPLICAS_MAX`]. With fewer nodes the width is their number.
    pub replicas: usize,
    /// Percent by which a node may miss its fair share: while none misses it by more, nothing moves, and coming nearer
    /// never costs moves beyond the minimum. Less: better balance; more: fewer moves where zones are scarce. 0: shares
    /// are met to the cell, whatever it moves. `None`: no balancing, the strategy's own order.
    pub balance: Option<f64>,
}

/// Why no table can be made.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum PlacementError {
    /// Nobody would own anything.
    #[error("none of the {members} nodes takes partitions: give at least one a weight above 0")]
    NoTakers {
        /// How many nodes were given.
        members: usize,
    },
    /// More than [`NODES_MAX`] nodes.
    #[error("{members} nodes: a ring has at most {NODES_MAX}, remove some or run a second cluster")]
    TooManyMembers {
        /// How many nodes were given.
        members: usize,
    },
    /// Two nodes of one name.
    #[error("two nodes are named {name:?}: names tell nodes apart, rename one")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A weight above [`WEIGHT_MAX`].
    #[error("node {name:?} has weight {weight}: weights are 0 to {WEIGHT_MAX}, only their relation matters")]
    Weight {
        /// The node.
        name: String,
        /// Its weight.
        weight: u32,
    },
    /// No power of two, or out of range.
    #[error("{partitions} partitions: it takes a power of two from {PARTITIONS_MIN} to {PARTITIONS_MAX}")]
    Partitions {
        /// What was wished.
        partitions: u32,
    },
    /// 0 or more than [`REPLICAS_MAX`].
    #[error("{replicas} replicas: it takes 1 to {REPLICAS_MAX}")]
    Replicas {
        /// What was wished.
        replicas: usize,
    },
    /// Negative, or not a number.
    #[error("balance {percent} %: it takes 0 or more, or none at all to switch balancing off")]
    Balance {
        /// What was wished.
        percent: f64,
    },
    /// The number of partitions is fixed when a cluster is founded.
    #[error("the last table has {previous} partitions, the wish {wished}: their number never changes")]
    PreviousPartitions {
        /// The last table's.
        previous: u32,
        /// The wish's.
        wished: u32,
    },
    /// The last table names a node that the list lacks.
    #[error(
        "partition {partition} of the last table belongs to node index {node}, there are {members} nodes: \
         keep a leaving node in the list with weight 0"
    )]
    UnknownNode {
        /// The partition.
        partition: u32,
        /// The index that the table names.
        node: NodeIndex,
        /// How many nodes were given.
        members: usize,
    },
}

/// A table for these members, balanced from `previous` where there is one.
///
/// `previous` counts nodes by the same list as `wish.members` (see [`Table::remapped`]). Its rows may be wider or
/// narrower than the new ones: owners stay, places are added or given up. Without it, at the founding and for a
/// change of strategy, the table starts from the strategy's own order.
pub fn table(wish: &Wish, previous: Option<&Table>) -> Result<Table, PlacementError> {
    check(wish)?;
    if let Some(previous) = previous {
        check_previous(wish, previous)?;
    }
    let roster = Roster::new(wish.members);
    if roster.seats.is_empty() {
        return Err(PlacementError::NoTakers { members: wish.members.len() });
    }
    let width = wish.replicas.min(roster.seats.len());
    let orders = Orders::new(wish.strategy, &roster, wish.partitions);

    let pure = || orders.pure(&roster, width);
    let rows = match (wish.balance, previous) {
        (None, _) => pure(),
        // Nothing is stored yet, or all of it moves anyway: chains are free, so shares are met exactly.
        (Some(_), None) => Draft::balance(&roster, &orders, width, 0.0, &pure()),
        (Some(percent), Some(previous)) => {
            Draft::balance(&roster, &orders, width, percent, &roster.seated(previous))
        }
    };
    Ok(roster.table(width, &rows))
}

fn check(wish: &Wish) -> Result<(), PlacementError> {
    if wish.members.len() > NODES_MAX {
        return Err(PlacementError::TooManyMembers { members: wish.members.len() });
    }
    if !table::partitions_are_valid(wish.partitions as usize) {
        return Err(PlacementError::Partitions { partitions: wish.partitions });
    }
    if wish.replicas == 0 || wish.replicas > REPLICAS_MAX {
        return Err(PlacementError::Replicas { replicas: wish.replicas });
    }
    if let Some(percent) = wish.balance.filter(|percent| !(percent.is_finite() && *percent >= 0.0)) {
        return Err(PlacementError::Balance { percent });
    }
    let mut names = std::collections::BTreeSet::new();
    for Member { name, weight, .. } in wish.members {
        if !names.insert(name) {
            return Err(PlacementError::DuplicateName { name: name.clone() });
        }
        if *weight > WEIGHT_MAX {
            return Err(PlacementError::Weight { name: name.clone(), weight: *weight });
        }
    }
    Ok(())
}

fn check_previous(wish: &Wish, previous: &Table) -> Result<(), PlacementError> {
    if previous.partitions() != wish.partitions {
        return Err(PlacementError::PreviousPartitions {
            previous: previous.partitions(),
            wished: wish.partitions,
        });
    }
    for (partition, row) in (0..).zip(previous.rows()) {
        if let Some(&node) = row.iter().find(|node| usize::from(**node) >= wish.members.len()) {
            return Err(PlacementError::UnknownNode { partition, node, members: wish.members.len() });
        }
    }
    Ok(())
}
