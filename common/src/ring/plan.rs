//! Planning: the first ring of a cluster, and the first ring of each change, or the reason why there is none.

use thiserror::Error;

use super::{Change, ClusterId, Kind, NODES_MAX, Node, Phase, RING_BYTES_MAX, Ring, RingError, SignalId};
use crate::name::{NodeName, ZONE_BYTES_MAX, is_host, is_zone};
use crate::placement::{Member, PlacementError, Strategy, Wish, table};

/// What a cluster is founded with.
#[derive(Clone, Debug, PartialEq)]
pub struct Founding {
    /// Its identity, random.
    pub cluster_id: ClusterId,
    /// How partitions are placed.
    pub strategy: Strategy,
    /// Whether somebody chose that.
    pub chosen: bool,
    /// A power of two, 64 to 65,536.
    pub partitions: u32,
    /// Replicas wanted.
    pub replicas: usize,
    /// Percent above the fair share that a node may hold; `None`: unbalanced.
    pub balance: Option<f64>,
}

/// Why a change was not begun.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum Refusal {
    /// One at a time.
    #[error("another change runs: {0}, phase {1}; try again when it is done")]
    ChangeRuns(Kind, Phase),
    /// An add of a node that is there.
    #[error("{0} is in the ring already")]
    AlreadyThere(NodeName),
    /// A remove of a node that is not there.
    #[error("{0} is not in the ring: it has {1}")]
    Unknown(NodeName, String),
    /// A remove of a node whose add is running.
    #[error("{0} is just being added: remove it when that is done")]
    BeingAdded(NodeName),
    /// A remove of the last node.
    #[error("{0} is the last node: with it all data would go")]
    LastNode(NodeName),
    /// A node that says it is at no place that others could reach.
    #[error("{0} says that it is at {1:?}, which is no host")]
    Host(NodeName, String),
    /// A zone that is too long to carry along, or would write on people's terminals.
    #[error(
        "the zone of {0} has {1} bytes: a zone is up to {ZONE_BYTES_MAX} bytes of text without control characters"
    )]
    Zone(NodeName, usize),
    /// More than owners can be counted.
    #[error("the ring has {0} nodes, {NODES_MAX} are possible")]
    TooManyNodes(usize),
    /// No table could be made.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The ring would be too long.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The founding ring: epoch 1, all of `nodes`, incarnation 1.
pub fn found(founding: &Founding, nodes: Vec<Node>) -> Result<Ring, Refusal> {
    if nodes.len() > NODES_MAX {
        return Err(Refusal::TooManyNodes(nodes.len()));
    }
    if let Some(node) = nodes.iter().find(|n| !is_zone(&n.zone)) {
        return Err(Refusal::Zone(node.name, node.zone.len()));
    }
    let members = members(&nodes, None);
    let wish = Wish {
        strategy: founding.strategy,
        members: &members,
        partitions: founding.partitions,
        replicas: founding.replicas,
        balance: founding.balance,
    };
    let ring = Ring {
        cluster_id: founding.cluster_id,
        epoch: 1,
        strategy: founding.strategy,
        chosen: founding.chosen,
        partitions: founding.partitions,
        replicas: founding.replicas,
        balance: founding.balance,
        owners: table(&wish, None)?,
        nodes: nodes.into_iter().map(|n| Node { incarnation: 1, ..n }).collect(),
        change: None,
        last: None,
    };
    ring.check().map_err(RingError::Inconsistent)?;
    room_to_change(&ring)?;
    Ok(ring)
}

/// A ring that could be written but never changed would be a trap: its longest change must fit too.
fn room_to_change(ring: &Ring) -> Result<(), RingError> {
    let widest = ring.replicas.clamp(1, NODES_MAX) * ring.partitions as usize;
    let tables = 2 * widest.div_ceil(3) * 4;
    let rest = ring.to_json()?.len() - (ring.owners.width() * ring.partitions as usize).div_ceil(3) * 4;
    if tables + rest > RING_BYTES_MAX { Err(RingError::TooLong(tables + rest)) } else { Ok(()) }
}

/// The ring with which a node's joining begins.
pub fn add(ring: &Ring, newcomer: Node, signal: SignalId) -> Result<Ring, Refusal> {
    let name = newcomer.name;
    check_add(ring, name)?;
    if !is_host(&newcomer.host) {
        return Err(Refusal::Host(name, newcomer.host));
    }
    if !is_zone(&newcomer.zone) {
        return Err(Refusal::Zone(name, newcomer.zone.len()));
    }
    let mut next = Ring { epoch: ring.epoch + 1, last: None, ..ring.clone() };
    next.nodes.push(Node { incarnation: next.epoch, ..newcomer });
    begin(next, Kind::Add { node: name }, signal)
}

/// Whether a node of this name could be added now.
pub fn check_add(ring: &Ring, name: NodeName) -> Result<(), Refusal> {
    quiet(ring)?;
    if ring.node_named(name).is_some() {
        return Err(Refusal::AlreadyThere(name));
    }
    if ring.nodes.len() >= NODES_MAX {
        return Err(Refusal::TooManyNodes(ring.nodes.len()));
    }
    Ok(())
}

/// The ring with which a node's leaving begins.
pub fn remove(ring: &Ring, name: NodeName, signal: SignalId) -> Result<Ring, Refusal> {
    check_remove(ring, name)?;
    let next = Ring { epoch: ring.epoch + 1, last: None, ..ring.clone() };
    begin(next, Kind::Remove { node: name }, signal)
}

/// Whether a node of this name could be removed now.
pub fn check_remove(ring: &Ring, name: NodeName) -> Result<(), Refusal> {
    if ring.change.as_ref().is_some_and(|c| c.kind == Kind::Add { node: name }) {
        return Err(Refusal::BeingAdded(name));
    }
    quiet(ring)?;
    if ring.node_named(name).is_none() {
        let names: Vec<String> = ring.nodes.iter().map(|n| n.name.to_string()).collect();
        return Err(Refusal::Unknown(name, names.join(", ")));
    }
    if ring.nodes.len() == 1 {
        return Err(Refusal::LastNode(name));
    }
    Ok(())
}

/// The ring with which a migration to another strategy begins.
pub fn migrate(ring: &Ring, mode: Strategy, signal: SignalId) -> Result<Ring, Refusal> {
    quiet(ring)?;
    let next = Ring { epoch: ring.epoch + 1, last: None, ..ring.clone() };
    begin(next, Kind::Migrate { mode }, signal)
}

fn begin(mut ring: Ring, kind: Kind, signal: SignalId) -> Result<Ring, Refusal> {
    let strategy = if let Kind::Migrate { mode } = kind { mode } else { ring.strategy };
    let members = members(&ring.nodes, kind.leaves());
    let (partitions, replicas, balance) = (ring.partitions, ring.replicas, ring.balance);
    // Another strategy starts from its own order: the old table's balance says nothing about it.
    let previous = (strategy == ring.strategy).then_some(&ring.owners);
    let target = table(&Wish { strategy, members: &members, partitions, replicas, balance }, previous)?;
    ring.change = Some(Change { kind, phase: Phase::Copy, target, signal });
    ring.to_json()?;
    Ok(ring)
}

/// The nodes as placement sees them; `leaving` takes no partitions.
pub(super) fn members(nodes: &[Node], leaving: Option<NodeName>) -> Vec<Member> {
    let weight = |n: &Node| if Some(n.name) == leaving { 0 } else { n.weight };
    nodes
        .iter()
        .map(|n| Member { name: n.name.to_string(), zone: n.zone.clone(), weight: weight(n) })
        .collect()
}

fn quiet(ring: &Ring) -> Result<(), Refusal> {
    match &ring.change {
        Some(change) => Err(Refusal::ChangeRuns(change.kind, change.phase)),
        None => Ok(()),
    }
}
