//! Consistent hashing: a ring of weighted virtual nodes (Karger et al. 1997).
//!
//! Every node stands on a ring of 2^64 places at as many points as its weight buys. A partition stands at its first
//! hash, and its order is that in which a clockwise walk from there meets the nodes.

use twox_hash::XxHash3_64;

use super::roster::{Roster, SeatIndex};
use super::{NODES_MAX, WEIGHT_DEFAULT};
use crate::key::first_hash;

/// Virtual nodes of a node of [`WEIGHT_DEFAULT`]: as many as libketama made popular. Loads differ by about
/// 1/√160 = 8 % before balancing.
const POINTS: u64 = 160;

pub(super) struct Ring {
    /// Places of virtual nodes and whose they are, in ascending order.
    points: Vec<(u64, SeatIndex)>,
    seats: usize,
}

impl Ring {
    pub fn new(roster: &Roster) -> Ring {
        let mut points = Vec::new();
        for (seat, node) in (0..=SeatIndex::MAX).zip(&roster.seats) {
            let count = (u64::from(node.weight) * POINTS).div_ceil(u64::from(WEIGHT_DEFAULT));
            points.extend((0..count).map(|nth| (place(node.seed, nth), seat)));
        }
        points.sort_unstable();
        Ring { points, seats: roster.seats.len() }
    }

    /// Every seat once, at its first point clockwise of `from`.
    pub fn walk(&self, from: u64) -> impl Iterator<Item = (u64, SeatIndex)> {
        let first = self.points.partition_point(|(place, _)| *place < from);
        let mut met = [false; NODES_MAX];
        let clockwise = self.points[first..].iter().chain(&self.points[..first]).copied();
        clockwise
            .filter(move |(_, seat)| !std::mem::replace(&mut met[usize::from(*seat)], true))
            .take(self.seats)
    }

    /// The orders of all partitions, row by row, in one anticlockwise turn: a point passed on the way puts its node
    /// in front of all others. A walk per partition would look for the lightest node all around the ring.
    pub fn orders(&self, partitions: u32) -> Vec<SeatIndex> {
        let mut order: Vec<SeatIndex> = self.walk(0).map(|(_, seat)| seat).collect();
        let mut orders = vec![0; partitions as usize * self.seats];
        let mut ahead = self.points.len();
        for (partition, row) in (0..partitions).zip(orders.chunks_exact_mut(self.seats)).rev() {
            let from = first_hash(partition, partitions);
            while ahead > 0 && self.points[ahead - 1].0 >= from {
                ahead -= 1;
                bring_to_front(&mut order, self.points[ahead].1);
            }
            row.copy_from_slice(&order);
        }
        orders
    }
}

fn place(seed: u64, nth: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, &nth.to_le_bytes())
}

fn bring_to_front(order: &mut [SeatIndex], seat: SeatIndex) {
    let at = order.iter().position(|other| *other == seat).expect("the order holds every seat");
    order[..=at].rotate_right(1);
}
