//! The strategy's own order of the nodes for a partition, and the skip to distinct zones.

use super::consistent::Ring;
use super::hrw;
use super::roster::{Roster, SeatIndex};
use super::{Member, NodeIndex, Strategy};
use crate::key::first_hash;

/// What gave a node its place in a partition's order.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Standing {
    /// `hrw`: the weighted rendezvous score, above 0; higher comes first.
    Score(f64),
    /// `consistent`: where on the ring of 2^64 places the node's first virtual node clockwise of the partition is.
    Position(u64),
}

/// A node in a partition's order.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Preferred {
    /// Its index in the list of members.
    pub node: NodeIndex,
    /// Why it stands there.
    pub standing: Standing,
}

/// The strategy's own order for a partition, before zones and balance: every member with a weight above 0.
/// At most [`super::NODES_MAX`] members, else it panics.
pub fn preference(strategy: Strategy, members: &[Member], partition: u32, partitions: u32) -> Vec<Preferred> {
    let roster = Roster::new(members);
    let member = |seat: SeatIndex| roster.seats[usize::from(seat)].member;
    match strategy {
        Strategy::Consistent => Ring::new(&roster)
            .walk(first_hash(partition, partitions))
            .map(|(position, seat)| Preferred { node: member(seat), standing: Standing::Position(position) })
            .collect(),
        Strategy::Hrw => hrw::ranked(&roster, partition)
            .map(|(score, seat)| Preferred { node: member(seat), standing: Standing::Score(score) })
            .collect(),
    }
}

/// The first `width` owners that an order gives: those in zones not met before, while there are such, then the best
/// of those that were skipped. Fewer where the order is shorter.
pub fn spread(order: &[NodeIndex], members: &[Member], width: usize) -> Vec<NodeIndex> {
    spread_by(order, |node| &members[usize::from(node)].zone, width)
}

fn spread_by<Z: PartialEq>(order: &[u8], zone: impl Fn(u8) -> Z, width: usize) -> Vec<u8> {
    let mut owners: Vec<u8> = Vec::with_capacity(width);
    for node in order {
        if owners.len() == width {
            return owners;
        }
        if owners.iter().all(|owner| zone(*owner) != zone(*node)) {
            owners.push(*node);
        }
    }
    for node in order {
        if owners.len() == width {
            break;
        }
        if !owners.contains(node) {
            owners.push(*node);
        }
    }
    owners
}

/// The orders of all partitions, as seats.
pub(super) struct Orders {
    seats: usize,
    /// partitions × seats, row by row.
    ranked: Vec<SeatIndex>,
}

impl Orders {
    pub fn new(strategy: Strategy, roster: &Roster, partitions: u32) -> Orders {
        let ranked = match strategy {
            Strategy::Consistent => Ring::new(roster).orders(partitions),
            Strategy::Hrw => hrw::orders(roster, partitions),
        };
        Orders { seats: roster.seats.len(), ranked }
    }

    pub fn seats(&self) -> usize {
        self.seats
    }

    pub fn partitions(&self) -> usize {
        self.ranked.len() / self.seats
    }

    /// All seats, the preferred one first.
    pub fn of(&self, partition: usize) -> &[SeatIndex] {
        &self.ranked[partition * self.seats..(partition + 1) * self.seats]
    }

    /// The owners of each partition by the strategy alone.
    pub fn pure(&self, roster: &Roster, width: usize) -> Vec<Vec<SeatIndex>> {
        (0..self.partitions()).map(|p| spread_by(self.of(p), |seat| roster.zone(seat), width)).collect()
    }
}
