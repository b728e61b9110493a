#![allow(clippy::unwrap_used)]

mod flow;
mod histories;
mod orders;
mod refusals;
mod shares;

use super::*;

/// Nodes of weight 100, each in a zone of its own.
fn nodes(count: usize) -> Vec<Member> {
    let node = |n| Member { name: format!("node-{n}"), zone: format!("host-{n}"), weight: WEIGHT_DEFAULT };
    (0..count).map(node).collect()
}

/// 256 partitions, balanced within 5 %.
fn wish(members: &[Member], replicas: usize) -> Wish<'_> {
    Wish { strategy: Strategy::Hrw, members, partitions: 256, replicas, balance: Some(5.0) }
}
